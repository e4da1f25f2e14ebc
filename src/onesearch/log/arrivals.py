"""Items that come after the log: one file with the canonical columns, for a catalogue that lives on.

JSON lines, CSV or Parquet; `item_id` and `title` are needed, the other columns of `schema.ITEMS` may be left out.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from onesearch.log.schema import ITEMS, REQUIRED, table_of
from onesearch.log.text import normalize_query
from onesearch.types import ATTRIBUTE_TYPES, UserError

READERS = {".parquet": pq.read_table, ".csv": pyarrow.csv.read_csv, ".json": pyarrow.json.read_json}
READERS[".jsonl"] = READERS[".json"]


def read_arrivals(path: Path) -> pa.Table:
    """The items of a file as a canonical table.

    Raises:
        UserError: the file or a needed column is missing, a row has no ID or no title, an ID comes twice, an attribute
            type is none of the 18, or a value does not fit its column.
    """
    table = _read(path)
    missing = [name for name in REQUIRED["items"] if name not in table.column_names]
    if missing:
        raise UserError(f"{path} has no column '{missing[0]}': new items need {', '.join(REQUIRED['items'])}.")
    rows = [_row(path, number, row) for number, row in enumerate(table.to_pylist(), start=1)]
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
    table = _read(path)
    if "query" not in table.column_names:
        raise UserError(f"{path} has no column 'query'.")
    queries = (normalize_query(str(query)) for query in table["query"].to_pylist() if query is not None)
    return list(dict.fromkeys(filter(None, queries)))


def _read(path: Path) -> pa.Table:
    if path.suffix not in READERS:
        raise UserError(f"{path} is none of {', '.join(READERS)}: give new items and queries as one of these.")
    if not path.is_file():
        raise UserError(f"{path} is missing.")
    try:
        return READERS[path.suffix](path)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} cannot be read: {error}.") from error


def _row(path: Path, number: int, row: dict[str, Any]) -> dict[str, Any]:
    """One item; whatever the file's reader made of its ID and its attributes becomes canonical."""
    for name in REQUIRED["items"]:
        if row[name] is None or not str(row[name]).strip():
            raise UserError(f"{path}, row {number}: '{name}' is empty; every item needs one.")
    attributes = dict(row.get("attributes") or {})
    unknown = set(attributes) - set(ATTRIBUTE_TYPES)
    if unknown:
        types = ", ".join(ATTRIBUTE_TYPES)
        raise UserError(f"{path}, row {number}: '{min(unknown)}' is no attribute type; use {types}.")
    known = {name: value for name, value in row.items() if name in ITEMS.names}
    filled = [(type_, values) for type_, values in attributes.items() if values]
    return known | {"item_id": str(row["item_id"]), "title": str(row["title"]), "attributes": filled or None}
