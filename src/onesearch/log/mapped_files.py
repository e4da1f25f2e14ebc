"""Tables in Arrow IPC files that are mapped, not read: a column costs memory only where it is looked at, and no copy.

A file is uncompressed and a run of record batches of one size, the last one shorter: row r lies in batch r // size. So
a file can be written as it comes, and no offset of a list or text grows with the log.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from onesearch.log.report import LogError
from onesearch.log.schema import Array

ROWS = 1 << 16
"""Rows of a batch as we write them; a reader takes any size."""

Int64 = npt.NDArray[np.int64]
Integers = npt.NDArray[np.integer[Any]]


def write_mapped(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write rows as they come.

    Args:
        path: the file.
        schema: columns that are kept, and the types that they are cast to.
        batches: record batches of any sizes.
    """
    with pa.ipc.new_file(str(path), schema) as writer:
        for table in _of_one_size(batches, schema):
            writer.write_table(table.combine_chunks())


def _of_one_size(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    waiting = schema.empty_table()
    for batch in batches:
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch]).select(schema.names).cast(schema)])
        while len(waiting) >= ROWS:
            yield waiting.slice(0, ROWS)
            waiting = waiting.slice(ROWS)
    if len(waiting):
        yield waiting


class Numbers:
    """A column of integers.

    Args:
        parts: its batches, all of one length but the last.
    """

    def __init__(self, parts: list[Integers]) -> None:
        self.parts = parts or [np.empty(0, np.int64)]
        self.size = max(1, len(self.parts[0]))

    def __len__(self) -> int:
        return (len(self.parts) - 1) * self.size + len(self.parts[-1])

    def __getitem__(self, row: int) -> int:
        return self.parts[row // self.size].item(row % self.size)

    def between(self, start: int, stop: int) -> Integers:
        """The rows of a range; a view where they lie in one batch."""
        if start == stop:
            return self.parts[0][:0]
        first, last = start // self.size, (stop - 1) // self.size
        if first == last:
            return self.parts[first][start - first * self.size : stop - first * self.size]
        ends = ((number * self.size, part) for number, part in enumerate(self.parts[first : last + 1], first))
        return np.concatenate([part[max(0, start - begin) : stop - begin] for begin, part in ends])

    def take(self, rows: Int64) -> Int64:
        """The rows [n], in any order."""
        found = np.empty(len(rows), np.int64)
        for number, at in by_batch(rows, self.size):
            found[at] = self.parts[number][rows[at] - number * self.size]
        return found


class Texts:
    """A column of texts without nulls.

    Args:
        parts: its batches, all of one length but the last.
    """

    def __init__(self, parts: list[Array]) -> None:
        self.parts = parts
        self.size = max(1, len(parts[0])) if parts else 1
        # By hand: an Arrow scalar for each text would take longer than all else that a search is cut from.
        buffers = [part.buffers() for part in parts]
        self.offsets = [np.frombuffer(offsets, np.int64) for _, offsets, _ in buffers]
        self.bytes = [memoryview(content or b"") for _, _, content in buffers]

    def __getitem__(self, row: int) -> str:
        number, place = divmod(row, self.size)
        offsets = self.offsets[number]
        return str(self.bytes[number][offsets.item(place) : offsets.item(place + 1)], "utf-8")

    def take(self, rows: Int64) -> list[str]:
        """The rows [n], in any order."""
        found = np.empty(len(rows), np.object_)
        for number, at in by_batch(rows, self.size):
            found[at] = self.parts[number].take(pa.array(rows[at] - number * self.size)).to_numpy(zero_copy_only=False)
        texts: list[str] = found.tolist()
        return texts

    def all(self) -> list[str]:
        """Every row."""
        return [text for part in self.parts for text in part.to_pylist()]


class Lists:
    """A column of lists of integers, some of them null.

    Args:
        parts: its batches, all of one length but the last.
    """

    def __init__(self, parts: list[Array]) -> None:
        self.size = max(1, len(parts[0])) if parts else 1
        self.offsets = [np.asarray(part.offsets) for part in parts]
        self.values = [np.asarray(part.values) for part in parts]
        valid = (part.buffers()[0] if part.null_count else None for part in parts)
        self.valid = [None if bits is None else np.frombuffer(bits, np.uint8) for bits in valid]

    def __getitem__(self, row: int) -> tuple[int, ...] | None:
        number, place = divmod(row, self.size)
        valid, offsets = self.valid[number], self.offsets[number]
        if valid is not None and not valid.item(place // 8) >> place % 8 & 1:
            return None
        return tuple(self.values[number][offsets.item(place) : offsets.item(place + 1)].tolist())

    def lengths(self, rows: Int64) -> Int64:
        """Length of each of the rows [n], in any order; 0 where null."""
        found = np.empty(len(rows), np.int64)
        for number, at in by_batch(rows, self.size):
            place = rows[at] - number * self.size
            found[at] = self.offsets[number][place + 1] - self.offsets[number][place]
        return found

    def flat(self, rows: Int64) -> Integers:
        """The entries of the rows [n] one after the other, the rows in any order."""
        lengths = self.lengths(rows)
        ends = np.cumsum(lengths)
        found = np.empty(int(lengths.sum()), np.int32)
        for number, at in by_batch(rows, self.size):
            starts = self.offsets[number][rows[at] - number * self.size]
            inside = ragged_range(lengths[at])
            source = np.repeat(starts, lengths[at]) + inside
            found[np.repeat(ends[at] - lengths[at], lengths[at]) + inside] = self.values[number][source]
        return found

    def entry(self, row: int, place: int) -> int:
        """One entry of a row."""
        number, inside = divmod(row, self.size)
        return int(self.values[number][self.offsets[number][inside] + place])


def ragged_range(lengths: Int64) -> Int64:
    """0 … n − 1 for each length n, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def by_batch(rows: Int64, size: int) -> Iterator[tuple[int, Any]]:
    """Batches that hold some of the rows [n], each with the places of these among them: a slice or numbers."""
    if not len(rows):
        return
    batches = rows // size
    if batches[0] == batches[-1] and (batches == batches[0]).all():
        yield int(batches[0]), slice(None)
        return
    order = np.argsort(batches, kind="stable")
    cuts = np.flatnonzero(np.diff(batches[order])) + 1
    for at in np.split(order, cuts):
        yield int(batches[at[0]]), at


class MappedTable:
    """The columns of one file.

    Args:
        path: the file.
        schema: what it has to hold.

    Raises:
        LogError: it is missing or of another version.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        other = "The log was prepared by another version of onesearch"
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
        except FileNotFoundError as error:
            raise LogError(f"{other}: {path} is missing. Prepare it again.") from error
        except pa.ArrowInvalid as error:
            raise LogError(f"{path} is no Arrow file ({error}). Prepare it again.") from error
        for field in schema:
            place = reader.schema.get_field_index(field.name)
            if place < 0 or reader.schema.field(place).type != field.type:
                raise LogError(f"{other}: '{field.name}' is missing from {path}. Prepare it again.")
        self.schema = reader.schema
        self.metadata = {key.decode(): value.decode() for key, value in (reader.schema.metadata or {}).items()}
        self.batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]

    def __len__(self) -> int:
        return sum(batch.num_rows for batch in self.batches)

    def read(self) -> pa.Table:
        """The whole table."""
        return pa.Table.from_batches(self.batches, self.schema)

    def numbers(self, name: str) -> Numbers:
        """A column of integers."""
        return Numbers([part.to_numpy(zero_copy_only=True) for part in self._parts(name)])

    def texts(self, name: str) -> Texts:
        """A column of texts."""
        return Texts(self._parts(name))

    def lists(self, name: str) -> Lists:
        """A column of lists of integers."""
        return Lists(self._parts(name))

    def _parts(self, name: str) -> list[Array]:
        return [batch.column(name) for batch in self.batches]


def sorted_texts(column: Any) -> Array:
    """The distinct texts of a column in the order of their bytes, without null."""
    unique = pc.drop_null(pc.unique(column))
    return unique.take(pc.sort_indices(unique))
