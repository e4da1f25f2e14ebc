"""Folding: the form in which keywords and texts are compared, with the way back to the positions in the text.

NFKC (full width to half width, ligatures apart), case folded, every run of characters that are not word characters one
space: `Ｂlu-Ray` and `blu ray` are the same. Normalised queries are written in this form too.

`fold_with_positions` says what folding is, one text at a time. `fold_all` gives the same for many texts at once: nearly
every character folds to one character whatever stands beside it, so that a table of characters does it; only clusters
with others (an accent that combines, ™ that becomes two letters) go the long way.
"""

import itertools
import re
import sys
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_NON_WORD = re.compile(r"[\W_]+")
_HALFWIDTH_VOICE_MARKS = "\uff9e\uff9f"  # they compose with the kana before them, yet have combining class 0

SPACE, BREAK = ord(" "), ord("\n")  # no folded text holds a BREAK: it stands after each text of many
_UNKNOWN, _COMBINING, _UNEVEN = 0, 1, 2  # in the table of characters; no character folds to these code points


class Folded(NamedTuple):
    """A folded text; character i of `text` came from the characters `starts[i]` to `ends[i]` of the original."""

    text: str
    starts: list[int]
    ends: list[int]


class FoldedTexts(NamedTuple):
    """Folded texts one after the other, L characters in all, each text closed by a BREAK."""

    codes: NDArray[np.uint32]  # [L] code points
    starts: NDArray[np.int64]  # [L] where each character came from in the originals, joined with a break behind each
    ends: NDArray[np.int64]  # [L]
    origins: NDArray[np.int64]  # where each original begins among them


def fold(text: str) -> str:
    """The folded form of a text, without spaces around it."""
    return fold_with_positions(text).text


def fold_with_positions(text: str) -> Folded:
    """Fold, and keep for each folded character where it came from."""
    folded: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in _clusters(text):
        for character in _fold_cluster(text[start:end]):
            if character == " " and (not folded or folded[-1] == " "):
                continue
            folded.append(character)
            starts.append(start)
            ends.append(end)
    if folded and folded[-1] == " ":
        folded.pop(), starts.pop(), ends.pop()
    return Folded("".join(folded), starts, ends)


def fold_all(texts: Sequence[str]) -> FoldedTexts:
    """What `fold_with_positions` gives for each of the texts."""
    joined = "\n".join([*texts, ""])
    sizes = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
    behind = np.cumsum(sizes)
    letters = _letters(_codes(joined))
    letters[behind - 1] = BREAK
    letters, starts, ends = _fold_clusters(joined, letters)
    kept = _kept(letters)
    return FoldedTexts(letters[kept], starts[kept], ends[kept], behind - sizes)


def text_of(codes: NDArray[np.uint32]) -> str:
    """Code points as a string."""
    return codes.astype("<u4").tobytes().decode("utf-32-le")


@lru_cache(maxsize=1 << 16)
def _fold_cluster(cluster: str) -> str:
    # Folding the case can leave a letter decomposed: the second NFKC makes folding twice the same as folding once.
    comparable = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", cluster).casefold())
    return _NON_WORD.sub(" ", comparable)


def _clusters(text: str) -> list[tuple[int, int]]:
    """Spans of a character with the marks that combine with it, so that NFKC can compose them."""
    starts = [place for place, character in enumerate(text) if place == 0 or not _combines(character)]
    return list(itertools.pairwise([*starts, len(text)]))


def _combines(character: str) -> bool:
    return unicodedata.combining(character) > 0 or character in _HALFWIDTH_VOICE_MARKS


_table = np.full(sys.maxunicode + 1, _UNKNOWN, np.uint32)  # filled as characters are met


def _letters(codes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """What each character folds to by itself; _UNEVEN where that is not one character, _COMBINING where it joins."""
    letters: NDArray[np.uint32] = _table[codes]
    unknown = {chr(code) for code in codes[letters == _UNKNOWN].tolist()}
    for character in unknown:
        folded = _fold_cluster(character)
        even = ord(folded) if len(folded) == 1 else _UNEVEN
        _table[ord(character)] = _COMBINING if _combines(character) else even
    return _letters(codes) if unknown else letters


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _fold_clusters(
    joined: str, letters: NDArray[np.uint32]
) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]:
    """Fold the clusters that no table can; with where each letter then starts and ends in `joined`."""
    firsts, joining = _uneven_clusters(letters)
    sizes = 1 + np.bincount(np.searchsorted(firsts, joining) - 1, minlength=len(firsts))
    folded = [_fold_cluster(joined[f : f + size]) for f, size in zip(firsts.tolist(), sizes.tolist(), strict=True)]
    lengths = np.fromiter(map(len, folded), np.int64, len(folded))
    counts = np.ones(len(letters), np.int64)
    counts[joining], counts[firsts] = 0, lengths
    starts = np.repeat(np.arange(len(letters)), counts)
    letters, ends = letters[starts], starts + 1
    places = np.flatnonzero(letters == _UNEVEN)
    letters[places], ends[places] = _codes("".join(folded)), ends[places] + np.repeat(sizes - 1, lengths)
    return letters, starts, ends


def _uneven_clusters(letters: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where clusters begin that no table can fold, now all _UNEVEN, and the places of the marks that join them."""
    combining = np.flatnonzero(letters == _COMBINING)
    alone = letters[combining - 1] == BREAK  # first in its text; before the first text stands the last BREAK
    letters[combining[alone]] = _UNEVEN
    joining = combining[~alone]
    before = joining - 1
    letters[before[letters[before] != _COMBINING]] = _UNEVEN
    return np.flatnonzero(letters == _UNEVEN), joining


def _kept(letters: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Places without the spaces at both ends of a text and without all but the first of several."""
    blank = (letters == SPACE) | (letters == BREAK)
    first = np.flatnonzero((letters != SPACE) | ~np.concatenate(([True], blank[:-1])))
    closing = (letters[first] == SPACE) & (np.append(letters[first][1:], BREAK) == BREAK)
    kept: NDArray[np.int64] = first[~closing]
    return kept
