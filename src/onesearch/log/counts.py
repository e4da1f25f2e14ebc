"""Exposures, clicks and orders of items and of (query, item) pairs, as of the end of the day before.

    count(key, day) = Σ increments of `key` on days < day, of what happened before the test boundary

Kept as running totals sorted by (key, day), so that a look-up is one binary search.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Int64: TypeAlias = npt.NDArray[np.int64]

NUM_COUNTS = 3  # exposures, clicks, orders


class _RunningTotals:
    """Totals of integer keys at the end of each day on which they changed."""

    def __init__(self, keys: Int64, days: Int64, totals: Int64) -> None:
        order = np.lexsort((days, keys))
        self.days_start = int(days.min()) if len(days) else 0
        self.num_days = int(days.max()) - self.days_start + 2 if len(days) else 1
        self.end = self.days_start + self.num_days - 1
        self.keys = keys[order]
        self.stamps = self.keys * self.num_days + (days[order] - self.days_start)
        # Row 0 of `totals` is "nothing yet", so that a miss needs no branch.
        self.totals = np.concatenate([np.zeros((1, NUM_COUNTS), np.int64), totals[order]])

    def before(self, keys: Int64, days: Int64) -> Int64:
        if not len(self.keys):
            return np.zeros((len(keys), NUM_COUNTS), np.int64)
        day = np.clip(days - self.days_start, 0, self.num_days - 1)
        position = np.searchsorted(self.stamps, keys * self.num_days + day)  # rows with (key, day') < (key, day)
        same = (position > 0) & (self.keys[np.maximum(position - 1, 0)] == keys)
        return self.totals[np.where(same, position, 0)]


class ItemCounts:
    """Exposures, clicks and orders of each item.

    Args:
        items: item rows, [E].
        days: days since 1970-01-01, [E].
        totals: running totals at the end of that day, [E, 3].
    """

    def __init__(self, items: Int64, days: Int64, totals: Int64) -> None:
        self._totals = _RunningTotals(items, days, totals)
        self.end = self._totals.end  # the day after the last one that is counted

    def lookup(self, items: Int64, days: Int64) -> Int64:
        """Totals of item rows [n] before days [n]: [n, 3], frozen at the test boundary."""
        return self._totals.before(np.asarray(items, np.int64), np.asarray(days, np.int64))

    def total(self, items: Int64) -> Int64:
        """Totals of item rows [n] over everything before the test boundary: [n, 3]."""
        return self.lookup(items, np.full(len(items), np.iinfo(np.int32).max))


class PairCounts:
    """Exposures, clicks and orders of each (query, item) inside search.

    Args:
        queries: normalised queries, [E].
        items: item rows, [E].
        days: days since 1970-01-01, [E].
        totals: running totals at the end of that day, [E, 3].
    """

    def __init__(self, queries: Sequence[str], items: Int64, days: Int64, totals: Int64) -> None:
        names = dict.fromkeys(queries)
        self._query_number = {query: number for number, query in enumerate(names)}
        self._num_items = int(items.max()) + 1 if len(items) else 1
        self._first_days = np.full(len(names), np.iinfo(np.int64).max)
        numbers = self._numbers(queries)
        np.minimum.at(self._first_days, numbers, days)
        keys = self._keys(numbers, items)
        self._pairs = np.unique(keys)
        self._totals = _RunningTotals(np.searchsorted(self._pairs, keys), days, totals)

    def lookup(self, queries: Sequence[str], items: Int64, days: Int64) -> Int64:
        """Totals of (normalised query, item row) pairs [n] before days [n]: [n, 3], frozen at the test boundary."""
        items, days = np.asarray(items, np.int64), np.asarray(days, np.int64)
        keys = self._keys(self._numbers(queries), items)
        position = np.searchsorted(self._pairs, keys)
        known = position < len(self._pairs)
        known[known] = self._pairs[position[known]] == keys[known]
        return self._totals.before(np.where(known, position, -1), days)

    def total(self, queries: Sequence[str], items: Int64) -> Int64:
        """Totals of pairs [n] over everything before the test boundary: [n, 3]."""
        return self.lookup(queries, items, np.full(len(items), np.iinfo(np.int32).max))

    def first_day(self, query: str) -> int:
        """The day on which a (normalised) query was first answered.

        Raises:
            KeyError: it never was before the test boundary.
        """
        return int(self._first_days[self._query_number[query]])

    def _numbers(self, queries: Sequence[str]) -> Int64:
        return np.fromiter((self._query_number.get(query, -1) for query in queries), np.int64, len(queries))

    def _keys(self, numbers: Int64, items: Int64) -> Int64:
        inside = (numbers >= 0) & (items >= 0) & (items < self._num_items)
        return np.where(inside, numbers * self._num_items + items, -1)
