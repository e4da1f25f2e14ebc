"""Finds keywords in texts with an Aho–Corasick automaton: one pass, however many keywords.

Leftmost-longest: of all the places where a keyword stands, the one that starts first wins, then the longest that starts
there; the next match starts behind its end. So no match overlaps another: in `a b c` the keyword `a b` is found, `b c`
is not. Scripts that write spaces match on word boundaries ("men" is not in "women", nor "iphone 5" in "iphone 5s",
where "iphone" still is); scripts that do not, need none. Width and case do not matter (see `folding`).

The boundaries are written into text and keywords, a mark on both sides of each word of a spaced script:

    iphone 5s 手机  →  |iphone| |5s| 手机        iphone 5  →  |iphone| |5|

so that the automaton needs no check of what it finds; and it runs over many texts joined, with breaks between them.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from ahocorasick_rs import AhoCorasick, Implementation, MatchKind
from numpy.typing import NDArray

from onesearch.keywords.folding import BREAK, SPACE, fold_all, text_of

_MARK = ord("|")  # no word character: no folded text holds it
_BATCH = 4096  # texts joined at once: bounds the memory

_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1100, 0x11FF),  # Hangul: spaced, but particles join the word
    (0xAC00, 0xD7AF),
    (0x3005, 0x3007),  # iteration marks
    (0x3040, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


class Match(NamedTuple):
    """A keyword in a text: `text[start:end]` is the place."""

    type: str
    value: str  # folded, as in the lexicon
    start: int
    end: int


class Found(NamedTuple):
    """Keywords in many texts: P matches, by text, then from left to right."""

    texts: NDArray[np.int64]  # [P] row of the text
    keywords: NDArray[np.int64]  # [P] row in the matcher's `values` and `types`
    starts: NDArray[np.int64]  # [P] the place in the text, as in `Match`
    ends: NDArray[np.int64]  # [P]


class KeywordMatcher:
    """An automaton over keywords.

    Args:
        keywords: (type, value) pairs; one value may have several types. Values that fold to nothing are passed over.

    Attributes:
        values: distinct folded values in the order of the keywords.
        types: the types of each value.
    """

    def __init__(self, keywords: Iterable[tuple[str, str]]) -> None:
        pairs = list(keywords)
        codes = fold_all([value for _, value in pairs]).codes
        types: dict[tuple[str, str], dict[str, None]] = {}
        for (type_, _), value, marked in zip(pairs, _lines(codes), _lines(_mark(codes)[0]), strict=True):
            if value:
                types.setdefault((value, marked), {})[type_] = None
        self.values = [value for value, _ in types]
        self.types = [list(of_value) for of_value in types.values()]
        ordered = sorted((marked, row) for row, (_, marked) in enumerate(types))
        self._rows = np.array([row for _, row in ordered], np.int64)
        patterns = [marked for marked, _ in ordered]  # sorted, what begins alike lies together: a tenth faster
        self._automaton = AhoCorasick(patterns, MatchKind.LeftmostLongest, implementation=Implementation.ContiguousNFA)

    def __reduce__(self) -> tuple[type["KeywordMatcher"], tuple[list[tuple[str, str]]]]:
        """Built anew where it is copied to, such as a data worker: an automaton cannot be sent."""
        pairs = [(type_, value) for value, types in zip(self.values, self.types, strict=True) for type_ in types]
        return KeywordMatcher, (pairs,)

    def find(self, text: str) -> list[Match]:
        """All matches, from left to right; a value of several types gives one match a type."""
        _, *columns = self.find_all([text])
        places = zip(*(column.tolist() for column in columns), strict=True)
        return [Match(type_, self.values[row], start, end) for row, start, end in places for type_ in self.types[row]]

    def find_all(self, texts: Sequence[str]) -> Found:
        """The matches in many texts; a value of several types is one match."""
        batches = [self._find(texts[first : first + _BATCH], first) for first in range(0, len(texts), _BATCH)]
        return Found(*map(np.concatenate, zip(*batches, strict=True))) if batches else self._find([], 0)

    def _find(self, texts: Sequence[str], first_row: int) -> Found:
        folded = fold_all(texts)
        marked, places = _mark(folded.codes)
        found = self._automaton.find_matches_as_indexes(text_of(marked))
        patterns, first, behind = np.fromiter(chain.from_iterable(found), np.int64, 3 * len(found)).reshape(-1, 3).T
        first, behind = places[first], places[behind]
        rows = np.searchsorted(np.flatnonzero(folded.codes == BREAK), first)
        origins = folded.origins[rows]
        return Found(
            rows + first_row, self._rows[patterns], folded.starts[first] - origins, folded.ends[behind - 1] - origins
        )


def _spaced() -> NDArray[np.bool_]:
    """Whether a folded character belongs to a word of a spaced script, by code point."""
    spaced = np.ones(0x110000, np.bool_)
    for first, last in _UNSPACED:
        spaced[first : last + 1] = False
    spaced[[SPACE, BREAK]] = False
    return spaced


_SPACED = _spaced()


def _mark(codes: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Put a mark on both sides of each word of a spaced script; with the place in `codes` that each comes from."""
    edges = np.flatnonzero(np.diff(_SPACED[codes], prepend=False))
    counts = np.ones(len(codes), np.int64)
    counts[edges] = 2
    places = np.repeat(np.arange(len(codes)), counts)  # the place of a mark is that of the character behind it
    marked = codes[places]
    marked[edges + np.arange(len(edges))] = _MARK
    return marked, places


def _lines(codes: NDArray[np.uint32]) -> list[str]:
    return text_of(codes).split("\n")[:-1]
