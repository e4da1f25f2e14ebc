"""Items that come after the log: one file with the canonical columns, for a catalogue that lives on.

Any file that a log may be made of; `item_id` and `title` are needed, the other columns of `schema.ITEMS` may be left
out. A log keeps what it refuses in a table; new items are few and somebody's to mend, so one bad line refuses the file.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from onesearch.log import convert
from onesearch.log.records import Reader, RefusedError, Row
from onesearch.log.schema import REQUIRED, table_of
from onesearch.log.text import normalize_query
from onesearch.types import ATTRIBUTE_TYPES, UserError


def read_arrivals(path: Path) -> pa.Table:
    """The items of a file as a canonical table.

    Raises:
        UserError: the file or a needed column is missing, a line has no ID or no title, an ID comes twice, an attribute
            type is none of the 18, or a value does not fit its column.
    """
    seen: set[str] = set()

    def item(values: Row) -> Row:
        row = _item(values)
        if row["item_id"] in seen:
            raise RefusedError(f"item_id '{row['item_id']}' came before")
        seen.add(row["item_id"])
        return row

    return table_of("items", _read(path, item, REQUIRED["items"]))


def read_queries(path: Path) -> list[str]:
    """The distinct queries of a file's column `query`, normalised.

    Raises:
        UserError: the file or the column is missing, or a line cannot be read.
    """
    rows = _read(path, lambda values: {"query": normalize_query(convert.text(values.get("query")) or "")}, ("query",))
    return list(dict.fromkeys(row["query"] for row in rows if row["query"]))


def _read(path: Path, to_row: Callable[[Row], Row], columns: tuple[str, ...]) -> list[Row]:
    reader = Reader()
    rows = reader.read(path, to_row, columns)
    for refused in reader.rejected:
        raise UserError(f"{path}, line {refused.line}: {refused.reason}. Mend the line or leave it out.")
    return rows


def _item(values: Row) -> Row:
    return {
        "item_id": convert.identity(values.get("item_id"), "item_id"),
        "title": convert.identity(values.get("title"), "title"),
        "brand": convert.text(values.get("brand")),
        "seller": convert.text(values.get("seller")),
        "category": convert.strings(values.get("category")) or None,
        "price": convert.number(values.get("price"), "price"),
        "attributes": _attributes(values.get("attributes") or {}),
        "available": convert.flag(values.get("available"), "available"),
    }


def _attributes(found: Any) -> list[tuple[str, list[str]]] | None:
    """The values of each type; from JSON comes a mapping, from Parquet that or a list of pairs."""
    is_map = isinstance(found, list) and all(isinstance(pair, tuple) for pair in found)
    if not is_map and not isinstance(found, dict):
        raise RefusedError("""'attributes' names no types: write {"Color": ["red"]} as JSON, or a map in Parquet""")
    values = {type_: convert.strings(value) for type_, value in dict(found).items()}
    unknown = set(values) - set(ATTRIBUTE_TYPES)
    if unknown:
        raise RefusedError(f"'{min(unknown)}' is no attribute type; use {', '.join(ATTRIBUTE_TYPES)}")
    return [(type_, listed) for type_, listed in values.items() if listed] or None
