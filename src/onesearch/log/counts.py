"""Exposures, clicks and orders of items and of (query, item) pairs, as of the end of the day before.

    count(key, day) = Σ increments of `key` on days < day, of what happened before the test boundary

Kept as running totals sorted by (key, day), so that a look-up is one binary search. In a prepared log they lie in
mapped files, in which key and day are one number:

    stamp(key, day) = key · D + day − day_0        key = item row, or query number · N + item row

where D, day_0 and N stand in the file's metadata (`num_days`, `first_day`, `num_items`).
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from onesearch.log.mapped_files import MappedTable, Numbers, by_batch
from onesearch.log.schema import COUNTS, NEVER

Int64: TypeAlias = npt.NDArray[np.int64]

CLICKS = COUNTS.index("clicks")

TOTALS = pa.schema([("stamp", pa.int64()), *((name, pa.int64()) for name in COUNTS)])
"""Columns of a mapped file of running totals."""


class RunningTotals:
    """Totals of integer keys at the end of each day on which they changed.

    Args:
        stamps: of the rows, ascending, [E].
        totals: exposures, clicks and orders, each [E].
        num_days: D.
        first_day: day_0.
    """

    def __init__(self, stamps: Numbers, totals: Sequence[Numbers], num_days: int, first_day: int) -> None:
        self.stamps, self.totals = stamps, totals
        self.num_days, self.first_day = num_days, first_day
        self.end = first_day + num_days - 1
        self.starts = np.array([part[0] for part in stamps.parts if len(part)], np.int64)  # first stamp of each batch

    @classmethod
    def of(cls, keys: Int64, days: Int64, totals: Int64) -> "RunningTotals":
        """Totals [E, 3] of keys [E] at the end of days [E], in any order."""
        first_day = int(days.min()) if len(days) else 0
        num_days = int(days.max()) - first_day + 2 if len(days) else 1
        stamps = keys * num_days + (days - first_day)
        order = np.argsort(stamps)
        columns = [Numbers([column]) for column in totals[order].T]
        return cls(Numbers([stamps[order]]), columns, num_days, first_day)

    @classmethod
    def mapped(cls, table: MappedTable) -> "RunningTotals":
        """Those of a file."""
        stamps, *totals = map(table.numbers, TOTALS.names)
        return cls(stamps, totals, int(table.metadata["num_days"]), int(table.metadata["first_day"]))

    def before(self, keys: Int64, days: Int64) -> Int64:
        """Totals of keys [n] before days [n]: [n, 3]. No key is a negative one."""
        found = np.zeros((len(keys), len(COUNTS)), np.int64)
        if not len(self.starts):
            return found
        day = np.clip(days - self.first_day, 0, self.num_days - 1)
        asked = keys * self.num_days + day
        # What is wanted is the last row with (key, day') < (key, day), so it lies in the last batch that starts below.
        batches = np.searchsorted(self.starts, asked) - 1
        for batch, at in by_batch(batches, 1):
            if batch < 0:
                continue
            stamps = self.stamps.parts[batch]
            rows = np.searchsorted(stamps, asked[at]) - 1
            same = stamps[rows] // self.num_days == keys[at]
            for column, total in enumerate(self.totals):
                found[at, column] = np.where(same, total.parts[batch][rows], 0)
        return found

    def last(self, column: int) -> tuple[Int64, Int64]:
        """Every key with its last total above zero of a column: [n] and [n], keys ascending."""
        keys, totals = [], []
        firsts = [*self.starts[1:].tolist(), np.iinfo(np.int64).max]  # of the next batch
        for stamps, found, following in zip(self.stamps.parts, self.totals[column].parts, firsts, strict=False):
            of_key = stamps // self.num_days
            last = np.append(of_key[1:], following // self.num_days) != of_key
            last &= found > 0
            keys.append(of_key[last])
            totals.append(found[last])
        return np.concatenate([*keys, np.empty(0, np.int64)]), np.concatenate([*totals, np.empty(0, np.int64)])


class ItemCounts:
    """Exposures, clicks and orders of each item.

    Args:
        totals: by item row.
    """

    def __init__(self, totals: RunningTotals) -> None:
        self._totals = totals
        self.end = totals.end  # the day after the last one that is counted

    @classmethod
    def of(cls, items: Int64, days: Int64, totals: Int64) -> "ItemCounts":
        """Running totals [E, 3] of item rows [E] at the end of days since 1970-01-01 [E]."""
        return cls(RunningTotals.of(items, days, totals))

    def lookup(self, items: Int64, days: Int64) -> Int64:
        """Totals of item rows [n] before days [n]: [n, 3], frozen at the test boundary."""
        return self._totals.before(np.asarray(items, np.int64), np.asarray(days, np.int64))

    def total(self, items: Int64) -> Int64:
        """Totals of item rows [n] over everything before the test boundary: [n, 3]."""
        return self.lookup(items, np.full(len(items), np.iinfo(np.int32).max))


class PairCounts:
    """Exposures, clicks and orders of each (query, item) inside search.

    Args:
        first_days: normalised query → the day on which it was first answered, or `NEVER`; the place of a query is its
            number.
        num_items: N.
        totals: by query number · N + item row.
    """

    def __init__(self, first_days: Mapping[str, int], num_items: int, totals: RunningTotals) -> None:
        self._first_days = first_days
        self._query_number = {query: number for number, query in enumerate(first_days)}
        self._num_items = num_items
        self._totals = totals

    @classmethod
    def of(cls, queries: Sequence[str], items: Int64, days: Int64, totals: Int64) -> "PairCounts":
        """Running totals [E, 3] of (normalised query, item row) pairs [E] at the end of days since 1970-01-01 [E]."""
        first_days: dict[str, int] = {}
        for query, day in zip(queries, days.tolist(), strict=True):
            first_days[query] = min(day, first_days.get(query, day))
        number = {query: place for place, query in enumerate(first_days)}
        num_items = int(items.max()) + 1 if len(items) else 1
        keys = np.array([number[query] for query in queries], np.int64) * num_items + items
        return cls(first_days, num_items, RunningTotals.of(keys, days, totals))

    def lookup(self, queries: Sequence[str], items: Int64, days: Int64) -> Int64:
        """Totals of (normalised query, item row) pairs [n] before days [n]: [n, 3], frozen at the test boundary."""
        items, days = np.asarray(items, np.int64), np.asarray(days, np.int64)
        numbers = np.fromiter((self._query_number.get(query, -1) for query in queries), np.int64, len(queries))
        inside = (numbers >= 0) & (items >= 0) & (items < self._num_items)
        return self._totals.before(np.where(inside, numbers * self._num_items + items, -1), days)

    def total(self, queries: Sequence[str], items: Int64) -> Int64:
        """Totals of pairs [n] over everything before the test boundary: [n, 3]."""
        return self.lookup(queries, items, np.full(len(items), np.iinfo(np.int32).max))

    def first_day(self, query: str) -> int:
        """The day on which a (normalised) query was first answered.

        Raises:
            KeyError: it never was before the test boundary.
        """
        day = self._first_days[query]
        if day == NEVER:
            raise KeyError(query)
        return day
