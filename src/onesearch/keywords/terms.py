"""Terms of a text for lexical matching: words, numbers, and pairs of characters where words have no spaces."""

import re

from onesearch.keywords.folding import fold

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Kana and Han: written without spaces
_RUNS = re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|\d+|[^\W\d_{_UNSPACED}]+")


def terms(text: str) -> list[str]:
    """Words, numbers and, where a script has no spaces between words, pairs of neighbouring characters.

    Terms end where letters meet digits, so that "mw3" finds "MW 3" and "xbox360" finds "Xbox 360".
    """
    found: list[str] = []
    for run in _RUNS.finditer(fold(text)):
        found.extend(_bigrams(run[0]) if run["unspaced"] else [run[0]])
    return found


def _bigrams(run: str) -> list[str]:
    return [run[start : start + 2] for start in range(len(run) - 1)] or [run]
