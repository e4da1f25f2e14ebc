"""Whole-column operations on list columns: no Python loop over impressions, which are most of a log."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from onesearch.log.schema import Array

Lists: TypeAlias = "pa.ListArray[Any] | pa.ChunkedArray[Any]"
Int64: TypeAlias = npt.NDArray[np.int64]
Bool: TypeAlias = npt.NDArray[np.bool_]


class Ragged:
    """A list column of strings as flat integer codes with the row of each entry.

    Args:
        column: lists of strings, [R]; null lists stay null.
        vocabulary: all strings that count as known, [K]; an entry outside it has code -1.
    """

    def __init__(self, column: Lists, vocabulary: Array) -> None:
        array: Any = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        self.nulls: Bool = np.array(array.is_null())
        self.values = array.flatten()
        lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0), np.int64)
        self.rows: Int64 = np.repeat(np.arange(len(array)), lengths)
        self.codes: Int64 = np.asarray(pc.fill_null(pc.index_in(self.values, vocabulary), -1), np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def keys(self, num_codes: int) -> Int64:
        """One number for each (row, known string)."""
        return self.rows * num_codes + self.codes

    def first_of_each(self, num_codes: int) -> Bool:
        """Which entries are the first of their string in their row."""
        first = np.zeros(len(self), bool)
        first[np.unique(self.keys(num_codes), return_index=True)[1]] = True
        return first

    def among(self, other: "Ragged", num_codes: int) -> Bool:
        """Which entries are in the same row of another column too; ours come once a row.

        Theirs are looked up among ours, which are far fewer: numpy's `isin` hashes both and slows down as they grow.
        """
        order = np.argsort(self.keys(num_codes))
        ours, theirs = self.keys(num_codes)[order], other.keys(num_codes)
        found = np.zeros(len(self), bool)
        if len(self):
            places = np.searchsorted(ours, theirs).clip(max=len(self) - 1)
            found[order[places[ours[places] == theirs]]] = True
        return found

    def tuples(self, entries: list[Any]) -> list[tuple[Any, ...] | None]:
        """`entries`, one for each of ours, row by row; None for a null row."""
        ends = np.cumsum(np.bincount(self.rows, minlength=len(self.nulls))).tolist()
        bounds = zip([0, *ends], ends, self.nulls.tolist(), strict=False)
        return [None if null else tuple(entries[start:end]) for start, end, null in bounds]

    def column(self) -> "pa.ListArray[Any]":
        """The lists again."""
        return lists(self.rows, self.values, self.nulls)

    def keep(self, mask: Bool) -> "pa.ListArray[Any]":
        """The column with only the masked entries; null rows stay null."""
        return lists(self.rows[mask], self.values.filter(pa.array(mask)), self.nulls)


def lists(rows: Int64, values: Array, nulls: Bool) -> "pa.ListArray[Any]":
    """Lists from entries in row order.

    Args:
        rows: the row of each entry, ascending, [E].
        values: the entries, [E].
        nulls: which rows are null, [R].
    """
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(nulls)))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(nulls))


def appended(first: Ragged, second: Ragged, extra: Bool) -> "pa.ListArray[Any]":
    """`first` with the masked entries of `second` behind its own, row by row; null where `first` is null."""
    extra = extra & ~first.nulls[second.rows]
    rows = np.concatenate([first.rows, second.rows[extra]])
    order = np.argsort(rows, kind="stable")
    values = pa.concat_arrays([first.values, second.values.filter(pa.array(extra))]).take(pa.array(order))
    return lists(rows[order], values, first.nulls)
