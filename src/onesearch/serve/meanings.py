"""What the levels of a semantic ID mean: the category and the keywords that the items behind a prefix share.

Nobody names a code; its items do. Items sorted by SID make the items of any prefix one slice, so that a meaning is a
count over a slice, whatever the size of the catalogue.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onesearch.keywords.matcher import KeywordMatcher

NUM_KEYWORDS = 4
MIN_SHARE = 0.2
"""A keyword that fewer of the items have says little about them."""

Prefix = tuple[int, ...]
"""The first codes of a SID; () stands for all items."""


class Shared(NamedTuple):
    """A keyword of the items behind a prefix."""

    type: str  # one of the 18 attribute types
    value: str
    share: float  # of the items that have it, 0 to 1


class Meaning(NamedTuple):
    """What a prefix stands for."""

    prefix: Prefix
    num_items: int
    category: str | None  # the most frequent leaf category
    category_share: float  # of the items that are of it, 0 to 1
    keywords: tuple[Shared, ...]  # what most of the items have first


class SidMeanings:
    """Meanings of all prefixes, counted when they are asked for.

    Args:
        codes: [N, C] SIDs of the items.
        categories: [N] leaf categories.
        texts: [N] how the items read.
        matcher: of the core keywords.
        most: prefixes that are kept in memory.
    """

    def __init__(
        self,
        codes: NDArray[np.int64],
        categories: Sequence[str | None],
        texts: Sequence[str],
        matcher: KeywordMatcher,
        most: int,
    ) -> None:
        self._rows = np.lexsort(codes.T[::-1])
        self._codes = codes[self._rows]
        self._names = list(dict.fromkeys(category for category in categories if category))
        number = {name: place for place, name in enumerate(self._names)}
        numbers = np.array([number.get(category or "", -1) for category in categories], np.int64)
        self._categories = numbers[self._rows]
        self._matcher = matcher
        found = matcher.find_all([texts[row] for row in self._rows])
        width = max(len(matcher.values), 1)
        items, self._keywords = np.divmod(np.unique(found.texts * width + found.keywords), width)  # each once an item
        self._bounds = np.searchsorted(items, np.arange(len(codes) + 1))
        self._everywhere = np.bincount(self._keywords, minlength=width)
        self.of = lru_cache(maxsize=most)(self._of)

    @property
    def num_levels(self) -> int:
        """C."""
        return int(self._codes.shape[1])

    def rows(self, prefix: Prefix) -> NDArray[np.int64]:
        """Rows of the items whose SIDs begin with `prefix`."""
        return self._rows[self._slice(prefix)]

    def children(self, prefix: Prefix) -> list[tuple[Prefix, int]]:
        """The prefixes that are one code longer, each with its number of items, those of the most items first."""
        if len(prefix) == self.num_levels:
            return []
        codes, counts = np.unique(self._codes[self._slice(prefix), len(prefix)], return_counts=True)
        order = np.lexsort((codes, -counts))
        return [((*prefix, int(code)), int(count)) for code, count in zip(codes[order], counts[order], strict=True)]

    def path(self, codes: Sequence[int]) -> list[Meaning]:
        """The meaning of each level of a SID, coarse to fine."""
        return [self.of(tuple(codes[: level + 1])) for level in range(len(codes))]

    def _of(self, prefix: Prefix) -> Meaning:
        """The meaning of a prefix; one that no item has has no items."""
        part = self._slice(prefix)
        num_items = part.stop - part.start
        categories = self._categories[part]
        votes = np.bincount(categories[categories >= 0], minlength=1)
        best = int(votes.argmax())
        name, share = (self._names[best], float(votes[best] / num_items)) if votes[best] else (None, 0.0)
        return Meaning(prefix, num_items, name, share, self._shared(part, num_items))

    def _shared(self, part: slice, num_items: int) -> tuple[Shared, ...]:
        keywords, counts = np.unique(
            self._keywords[self._bounds[part.start] : self._bounds[part.stop]], return_counts=True
        )
        order = np.lexsort((self._everywhere[keywords], -counts))  # of equals the one that is rarer elsewhere
        kept = [place for place in order[:NUM_KEYWORDS] if counts[place] >= MIN_SHARE * num_items]
        matcher = self._matcher
        return tuple(
            Shared(matcher.types[keywords[place]][0], matcher.values[keywords[place]], float(counts[place] / num_items))
            for place in kept
        )

    def _slice(self, prefix: Prefix) -> slice:
        first, behind = 0, len(self._codes)
        for level, code in enumerate(prefix):
            column = self._codes[first:behind, level]
            low, high = np.searchsorted(column, [code, code + 1])
            first, behind = first + int(low), first + int(high)
        return slice(first, behind)
