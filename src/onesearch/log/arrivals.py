"""Items that come after the log: one file with the canonical columns, for a catalogue that lives on.

JSON lines, CSV or Parquet; `item_id` and `title` are needed, the other columns of `schema.ITEMS` may be left out.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from onesearch.log.schema import ITEMS, REQUIRED, table_of
from onesearch.log.text import normalize_query
from onesearch.types import ATTRIBUTE_TYPES, UserError

Row = dict[str, Any]

TEXTS = ("item_id", "title", "brand", "seller", "category", "attributes", "query")
"""Columns of a CSV file that no type is guessed for: the ID 007 is not 7."""


def read_arrivals(path: Path) -> pa.Table:
    """The items of a file as a canonical table.

    Raises:
        UserError: the file or a needed column is missing, a row has no ID or no title, an ID comes twice, an attribute
            type is none of the 18, or a value does not fit its column.
    """
    found = _read(path)
    for name in REQUIRED["items"]:
        if found and all(name not in row for row in found):
            raise UserError(f"{path} has no column '{name}': new items need {', '.join(REQUIRED['items'])}.")
    rows = [_item(path, number, row) for number, row in enumerate(found, start=1)]
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        if seen.setdefault(row["item_id"], number) != number:
            raise UserError(f"{path}, row {number}: item_id '{row['item_id']}' came in row {seen[row['item_id']]} too.")
    try:
        return table_of("items", rows)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(f"{path}: a value does not fit the columns of an item ({error}).") from error


def read_queries(path: Path) -> list[str]:
    """The distinct queries of a file's column `query`, normalised.

    Raises:
        UserError: the file or the column is missing.
    """
    rows = _read(path)
    if rows and all("query" not in row for row in rows):
        raise UserError(f"{path} has no column 'query'.")
    queries = (normalize_query(str(row["query"])) for row in rows if row.get("query") is not None)
    return list(dict.fromkeys(filter(None, queries)))


def _read_parquet(path: Path) -> list[Row]:
    rows: list[Row] = pq.read_table(path).to_pylist()
    return rows


def _read_csv(path: Path) -> list[Row]:
    texts = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(TEXTS, pa.string()))
    rows: list[Row] = pyarrow.csv.read_csv(path, convert_options=texts).to_pylist()
    return rows


def _read_json(path: Path) -> list[Row]:
    """Line by line: Arrow would guess that an ID is a date, and wants a value's type to be the same in all rows."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UserError(f'{path}, row {number}: a row is an object, such as {{"item_id": …}}.')
    return rows


READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json,
}


def _read(path: Path) -> list[Row]:
    if path.suffix not in READERS:
        raise UserError(f"{path} is none of {', '.join(READERS)}: give new items and queries as one of these.")
    if not path.is_file():
        raise UserError(f"{path} is missing.")
    try:
        return READERS[path.suffix](path)
    except ValueError as error:  # Arrow's errors, and those of JSON and of UTF-8, are such
        raise UserError(f"{path} cannot be read: {error}.") from error


def _item(path: Path, number: int, row: Row) -> Row:
    """One item; whatever the file's reader made of its values becomes canonical."""
    for name in REQUIRED["items"]:
        if row.get(name) is None or not str(row[name]).strip():
            raise UserError(f"{path}, row {number}: '{name}' is empty; every item needs one.")
    known = {name: value for name, value in row.items() if name in ITEMS.names and value != ""}
    return known | {
        "item_id": str(row["item_id"]),
        "title": str(row["title"]),
        "category": _listed(known.get("category")),
        "attributes": _attributes(path, number, known.get("attributes") or {}),
    }


def _attributes(path: Path, number: int, found: Any) -> list[tuple[str, list[str]]] | None:
    """The values of each type; from JSON comes a mapping, from Parquet that or a list of pairs."""
    is_map = isinstance(found, list) and all(isinstance(pair, tuple) for pair in found)
    if not is_map and not isinstance(found, dict):
        way_out = """write {"Color": ["red"]} in JSON lines, or a map in Parquet"""
        raise UserError(f"{path}, row {number}: 'attributes' does not name the types of its values; {way_out}.")
    values = {type_: _listed(value) for type_, value in dict(found).items()}
    unknown = set(values) - set(ATTRIBUTE_TYPES)
    if unknown:
        types = ", ".join(ATTRIBUTE_TYPES)
        raise UserError(f"{path}, row {number}: '{min(unknown)}' is no attribute type; use {types}.")
    return [(type_, listed) for type_, listed in values.items() if listed] or None


def _listed(value: Any) -> Any:
    """A lone string as a list of one: Arrow would take it for a list of letters."""
    if isinstance(value, str):
        return [value] if value.strip() else None
    return value
