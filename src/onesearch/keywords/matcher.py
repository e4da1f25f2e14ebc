"""Finds keywords in a text with an Aho–Corasick automaton: one pass, however many keywords.

Longest match first: a match that lies inside a kept longer one is dropped *by position*, so that the same word
elsewhere in the text stays. Scripts that write spaces match on word boundaries ("men" is not in "women", "iphone 5" not
in "iphone 5s"); scripts that do not, need none. Width and case do not matter (see `folding`).
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

import ahocorasick

from onesearch.keywords.folding import fold, fold_with_positions

_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Myanmar, Khmer
    "\u1100-\u11ff\uac00-\ud7af"  # Hangul: spaced, but particles join the word
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # kana and iteration marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"  # Han
)


class Match(NamedTuple):
    """A keyword in a text: `text[start:end]` is the place."""

    type: str
    value: str  # folded, as in the lexicon
    start: int
    end: int


class KeywordMatcher:
    """An automaton over keywords.

    Args:
        keywords: (type, value) pairs; one value may have several types. Values that fold to nothing are passed over.
    """

    def __init__(self, keywords: Iterable[tuple[str, str]]) -> None:
        self._types: dict[str, list[str]] = {}
        for type_, value in keywords:
            types = self._types.setdefault(fold(value), [])
            if type_ not in types:
                types.append(type_)
        self._types.pop("", None)
        self._automaton = ahocorasick.Automaton()
        for value in self._types:
            self._automaton.add_word(value, value)
        self._automaton.make_automaton()

    def find(self, text: str) -> list[Match]:
        """All matches, from left to right; a value of several types gives one match a type."""
        if not self._types:
            return []
        folded = fold_with_positions(text)
        spans = [(last + 1 - len(value), last + 1) for last, value in self._automaton.iter(folded.text)]
        whole = [span for span in spans if _is_whole(folded.text, *span)]
        return [
            Match(type_, folded.text[start:end], folded.starts[start], folded.ends[end - 1])
            for start, end in _outermost(whole)
            for type_ in self._types[folded.text[start:end]]
        ]


def _outermost(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans that lie in no other span, by start. Sorted like this, a container always comes before what it contains."""
    kept: list[tuple[int, int]] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not kept or end > kept[-1][1]:
            kept.append((start, end))
    return kept


def _is_whole(text: str, start: int, end: int) -> bool:
    return not (_joins(text, start) or _joins(text, end))


def _joins(text: str, place: int) -> bool:
    """Whether the characters on both sides of a place belong to one word of a spaced script."""
    if not 0 < place < len(text):
        return False
    return all(character != " " and not _UNSPACED.match(character) for character in text[place - 1 : place + 1])
