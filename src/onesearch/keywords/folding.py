"""Folding: the form in which keywords and texts are compared, with the way back to the positions in the text.

NFKC (full width to half width, ligatures apart), case folded, every run of characters that are not word characters one
space: `Ｂlu-Ray` and `blu ray` are the same. Normalised queries are written in this form too.
"""

import itertools
import re
import unicodedata
from typing import NamedTuple

_NON_WORD = re.compile(r"[\W_]+")
_HALFWIDTH_VOICE_MARKS = "\uff9e\uff9f"  # they compose with the kana before them, yet have combining class 0


class Folded(NamedTuple):
    """A folded text; character i of `text` came from the characters `starts[i]` to `ends[i]` of the original."""

    text: str
    starts: list[int]
    ends: list[int]


def fold(text: str) -> str:
    """The folded form of a text, without spaces around it."""
    return fold_with_positions(text).text


def fold_with_positions(text: str) -> Folded:
    """Fold, and keep for each folded character where it came from."""
    folded: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in _clusters(text):
        for character in _NON_WORD.sub(" ", _comparable(text[start:end])):
            if character == " " and (not folded or folded[-1] == " "):
                continue
            folded.append(character)
            starts.append(start)
            ends.append(end)
    if folded and folded[-1] == " ":
        folded.pop(), starts.pop(), ends.pop()
    return Folded("".join(folded), starts, ends)


def _comparable(cluster: str) -> str:
    # Folding the case can leave a letter decomposed: the second NFKC makes folding twice the same as folding once.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", cluster).casefold())


def _clusters(text: str) -> list[tuple[int, int]]:
    """Spans of a character with the marks that combine with it, so that NFKC can compose them."""
    starts = [
        place
        for place, character in enumerate(text)
        if place == 0 or not (unicodedata.combining(character) or character in _HALFWIDTH_VOICE_MARKS)
    ]
    return list(itertools.pairwise([*starts, len(text)]))
