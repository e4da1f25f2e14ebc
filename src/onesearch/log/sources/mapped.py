"""Any log of your own, without code: a YAML says which column of which file is which of ours."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from onesearch.log import convert
from onesearch.log.records import Reader, RefusedError, Row
from onesearch.log.report import LogError
from onesearch.log.schema import REQUIRED, SCHEMAS, table_of
from onesearch.log.sources.source import Raw, Source
from onesearch.types import ATTRIBUTE_TYPES

_PER_ITEM = {"item_id": pa.string(), "clicked": pa.bool_(), "purchased": pa.bool_()}
"""Columns of a searches file that holds one row a click or an impression, in place of the lists."""


@dataclass(frozen=True)
class FileMapping:
    """One file of a log.

    Args:
        path: inside the folder of the log; .csv, .tsv, .jsonl, .json (one object a line) or .parquet.
        columns: our column -> the file's column. `category` takes several, coarse to fine.
        attributes: one of the 18 attribute types -> the file's column (items only).
        separator: between the entries of a list that is written as text; a JSON list needs none.
        row: what a row of a searches file is: a search with lists, one click, or one impression in display order.
        time: "iso"; "s", "ms" or "us" since 1970; or a strptime format such as "%d.%m.%Y %H:%M".
        zone: time zone of times that name none, such as Asia/Shanghai.
        delimiter: between the fields of a CSV file.
    """

    path: str
    columns: dict[str, str | list[str]]
    attributes: dict[str, str] = field(default_factory=dict)
    separator: str | None = None
    row: Literal["search", "click", "impression"] = "search"
    time: str = "iso"
    zone: str = "UTC"
    delimiter: str = ","


class Mapped(Source):
    """A log described by mappings.

    Args:
        folder: where the files lie.
        items: the catalogue.
        searches: the searches.
        users: profiles, where there are some.
        events: clicks and purchases outside search, where there are some.
        judgments: graded query-item pairs, where there are some.
    """

    def __init__(
        self,
        folder: Path,
        items: FileMapping,
        searches: FileMapping,
        users: FileMapping | None = None,
        events: FileMapping | None = None,
        judgments: FileMapping | None = None,
    ) -> None:
        self.folder = Path(folder)
        named = {"items": items, "searches": searches, "users": users, "events": events, "judgments": judgments}
        self.mappings = {name: mapping for name, mapping in named.items() if mapping is not None}
        for name, mapping in self.mappings.items():
            _check(name, mapping)

    def read(self) -> Raw:
        """Read every mapped file."""
        files, rejected, tables = {}, [], {}
        for name, mapping in self.mappings.items():
            reader = Reader(delimiter=mapping.delimiter)
            types = _types(name, mapping)
            sources = tuple(
                source for of in mapping.columns.values() for source in ([of] if isinstance(of, str) else of)
            )
            convert_row = partial(_row, mapping=mapping, types=types, required=_required(name, mapping))
            needed = (*sources, *mapping.attributes.values())
            rows = reader.read(self.folder / mapping.path, convert_row, needed)
            tables[name] = table_of(name, _searches(rows, mapping.row) if name == "searches" else rows)
            files[f"{name}: {mapping.path}"] = reader.files[Path(mapping.path).name]
            rejected += reader.rejected
        return Raw(tables, tuple(rejected), files)


def _types(name: str, mapping: FileMapping) -> dict[str, pa.DataType]:
    types = {column.name: column.type for column in SCHEMAS[name]}
    return types | _PER_ITEM if name == "searches" and mapping.row != "search" else types


def _required(name: str, mapping: FileMapping) -> tuple[str, ...]:
    if name != "searches":
        return REQUIRED[name]
    return ("time", "query") if mapping.row == "search" else ("time", "query", "item_id")


def _check(name: str, mapping: FileMapping) -> None:
    types = _types(name, mapping)
    for column in mapping.columns:
        if column not in types or column in ("attributes", "query_key"):
            known = ", ".join(known for known in types if known not in ("attributes", "query_key"))
            raise LogError(f"The mapping of {name} names the column '{column}', which is none of ours: use {known}.")
    for column in _required(name, mapping):
        if column not in mapping.columns:
            raise LogError(f"The mapping of {name} lacks '{column}': say which column of {mapping.path} it is.")
    for column, of in mapping.columns.items():
        if isinstance(of, list) and not pa.types.is_list(types[column]):
            raise LogError(f"'{column}' takes one column, but the mapping of {name} names {len(of)}: choose one.")
    for kind in mapping.attributes:
        if kind not in ATTRIBUTE_TYPES:
            raise LogError(f"'{kind}' is no attribute type: use some of {', '.join(ATTRIBUTE_TYPES)}.")
    convert.zone_named(mapping.zone)
    if name == "searches" and not {"search_id", "user_id"} & set(mapping.columns):
        raise LogError(
            f"The mapping of searches needs 'search_id' or 'user_id': map a column of {mapping.path} to one."
        )


def _row(values: Row, mapping: FileMapping, types: Mapping[str, pa.DataType], required: tuple[str, ...]) -> Row:
    row = {ours: _value(values, of, ours, types[ours], mapping) for ours, of in mapping.columns.items()}
    for column in required:
        if row[column] is None:
            raise RefusedError(f"no {column}")
    if mapping.attributes:
        found = {kind: convert.strings(values.get(of), mapping.separator) for kind, of in mapping.attributes.items()}
        row["attributes"] = [(kind, entries) for kind, entries in found.items() if entries]
    return row


def _value(values: Row, of: str | list[str], ours: str, kind: pa.DataType, mapping: FileMapping) -> Any:
    if isinstance(of, list):
        return [found for name in of if (found := convert.text(values.get(name))) is not None]
    value = values.get(of)
    if pa.types.is_timestamp(kind):
        return convert.time(value, mapping.time, convert.zone_named(mapping.zone))
    if pa.types.is_list(kind):
        return convert.strings(value, mapping.separator)
    if pa.types.is_boolean(kind):
        return convert.flag(value, ours)
    if pa.types.is_floating(kind):
        return convert.number(value, ours)
    if pa.types.is_integer(kind):
        return _whole(convert.number(value, ours), ours)
    return str(value or "").strip() if ours == "query" else convert.text(value)


def _whole(value: float | None, name: str) -> int | None:
    if value is None or (value.is_integer() and -128 <= value <= 127):
        return None if value is None else int(value)
    raise RefusedError(f"{name} is not a small whole number")


def _searches(rows: list[Row], kind: str) -> list[Row]:
    """Searches with their lists; rows of one search share its ID or else its user, time and query."""
    if kind == "search":
        return [{**row, "search_id": _search_id(row)} for row in rows]
    searches: dict[str, Row] = {}
    for row in rows:
        key = _search_id(row)
        search = searches.setdefault(key, _empty_search(row, key, kind))
        item = row["item_id"]
        if kind == "impression":
            search["impressed"].append(item)
        if row.get("clicked", kind == "click"):
            search["clicked"].append(item)
        if row.get("purchased"):
            search["purchased"].append(item)
    return list(searches.values())


def _empty_search(row: Row, key: str, kind: str) -> Row:
    """A list is null, "not recorded", where no column tells of it."""
    kept = {name: value for name, value in row.items() if name not in _PER_ITEM}
    lists: Row = {"impressed": [] if kind == "impression" else None, "purchased": [] if "purchased" in row else None}
    return {**kept, **lists, "clicked": [], "search_id": key}


def _search_id(row: Row) -> str:
    return str(row.get("search_id") or f"{row.get('user_id')}@{row['time']:%Y-%m-%dT%H:%M:%S.%f} {row['query']}")
