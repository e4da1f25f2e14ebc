"""Reads dirty files record by record: what cannot be read is refused with file, line, reason and bytes, never lost.

The common engines lose or invent rows on dirty text (a refused line becomes a row of nulls, bad UTF-8 is let through, a
byte-order mark ends the read), so lines are read as bytes, and each is accepted or refused on its own:
accepted + rejected = read, always.
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from onesearch.log.report import FileCount, LogError, Rejected

_BOM = b"\xef\xbb\xbf"
_MAX_LINES = 100  # of one CSV record: an unclosed quote must not swallow the rest of the file

Row = dict[str, Any]


class RefusedError(ValueError):
    """A record, or a field of it, that cannot be used; the message is the reason."""


class _Record(NamedTuple):
    line: int
    content: bytes
    values: Row | None  # None: refused
    reason: str = ""


@dataclass
class Reader:
    """Reads files of records and keeps account of them.

    Args:
        delimiter: between the fields of a CSV file.
        files: how many records of each file were accepted and rejected.
        rejected: the records that were, with file, line and reason.
    """

    delimiter: str = ","
    files: dict[str, FileCount] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)

    def read(self, path: Path, convert: Callable[[Row], Row], columns: tuple[str, ...] = ()) -> list[Row]:
        """The records of `path`, each through `convert`, which may raise `RefusedError`.

        Args:
            path: a file ending in .csv, .tsv, .jsonl, .ndjson, .json (one object a line) or .parquet.
            convert: raw values by column -> canonical row.
            columns: those that the file must have.

        Raises:
            LogError: the file is missing, of an unknown format, or lacks one of `columns`.
        """
        count = self.files.setdefault(path.name, FileCount())
        rows: list[Row] = []
        for record in self._records(path, columns):
            try:
                if record.values is None:
                    raise RefusedError(record.reason)
                rows.append(convert(record.values))
                count.accepted += 1
            except RefusedError as refusal:
                count.rejected += 1
                self.rejected.append(Rejected(path.name, record.line, str(refusal), record.content))
        return rows

    def _records(self, path: Path, columns: tuple[str, ...]) -> Iterator[_Record]:
        if not path.is_file():
            raise LogError(f"{path} does not exist: check the folder and the file name.")
        ending = path.suffix.lower()
        if ending in (".csv", ".tsv"):
            return _csv_records(path, "\t" if ending == ".tsv" else self.delimiter, columns)
        if ending in (".jsonl", ".ndjson", ".json"):
            return _json_records(path, columns)
        if ending == ".parquet":
            return _parquet_records(path, columns)
        raise LogError(f"{path} ends in '{ending}': .csv, .tsv, .jsonl, .ndjson, .json and .parquet can be read.")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield number, line.removeprefix(_BOM) if number == 1 else line


def _json_records(path: Path, columns: tuple[str, ...]) -> Iterator[_Record]:
    found = False
    for number, line in _lines(path):
        if not line.strip():
            continue
        record = _json_record(number, line)
        # Columns are asked of the first good record: JSON has no header, and a later record may leave out a null.
        if record.values is not None and not found:
            _require(path, tuple(record.values), columns)
            found = True
        yield record


def _json_record(number: int, line: bytes) -> _Record:
    try:
        values = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return _Record(number, line, None, "not UTF-8")
    except ValueError:
        return _Record(number, line, None, "not JSON")
    if not isinstance(values, dict):
        return _Record(number, line, None, "not a JSON object")
    return _Record(number, line, values)


def _csv_records(path: Path, delimiter: str, columns: tuple[str, ...]) -> Iterator[_Record]:
    records = _csv_lines(path)
    first = next(records, None)
    if first is None:
        raise LogError(f"{path} is empty: it needs a header line with the column names.")
    try:
        header = next(csv.reader([first[1].decode("utf-8")], delimiter=delimiter))
    except UnicodeDecodeError as error:
        raise LogError(f"{path}, line 1: the header is not UTF-8; save the file as UTF-8.") from error
    header = [name.strip() for name in header]
    _require(path, tuple(header), columns)
    for number, content in records:
        record = _csv_record(number, content, header, delimiter)
        if record.values is None and content.count(b"\n") > 1:
            # A quote that never closed has swallowed the lines after it: each of them stands alone.
            lines = enumerate(content.splitlines(keepends=True), number)
            yield from (_csv_record(line, part, header, delimiter) for line, part in lines if part.strip())
        else:
            yield record


def _csv_record(number: int, content: bytes, header: list[str], delimiter: str) -> _Record:
    try:
        fields = next(csv.reader(content.decode("utf-8").splitlines(keepends=True), delimiter=delimiter, strict=True))
    except UnicodeDecodeError:
        return _Record(number, content, None, "not UTF-8")
    except csv.Error:
        return _Record(number, content, None, "not CSV (quotes)")
    if len(fields) != len(header):
        return _Record(number, content, None, f"{len(fields)} fields where the header has {len(header)}")
    return _Record(number, content, dict(zip(header, fields, strict=True)))


def _csv_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """One CSV record each: a quoted field may run over lines, so lines are joined until the quotes are even."""
    waiting: list[tuple[int, bytes]] = []
    for number, line in _lines(path):
        if not waiting and not line.strip():
            continue
        waiting.append((number, line))
        even = sum(part.count(b'"') for _, part in waiting) % 2 == 0
        if even or len(waiting) >= _MAX_LINES:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(lines: list[tuple[int, bytes]]) -> tuple[int, bytes]:
    return lines[0][0], b"".join(part for _, part in lines)


def _parquet_records(path: Path, columns: tuple[str, ...]) -> Iterator[_Record]:
    try:
        file = pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise LogError(f"{path} is not a readable Parquet file ({error}): write it again.") from error
    _require(path, tuple(file.schema_arrow.names), columns)
    number = 0
    for batch in file.iter_batches():
        for values in batch.to_pylist():
            number += 1
            yield _Record(number, json.dumps(values, default=str, ensure_ascii=False).encode(), values)


def _require(path: Path, present: tuple[str, ...], columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in present]
    if missing:
        raise LogError(
            f"{path} lacks the column '{missing[0]}' (it has {', '.join(present)}): rename it or map another one."
        )
