"""The canonical tables: what every source is turned into and everything else reads.

IDs are strings. Null means "not recorded", an empty list means "none": they differ. Times are UTC.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

Tables = dict[str, pa.Table]
"""The five canonical tables by name: items, users, searches, events, judgments."""

Column: TypeAlias = "pa.ChunkedArray[Any]"
"""A column of a table."""
Array: TypeAlias = "pa.Array[Any]"

TIME = pa.timestamp("us", tz="UTC")
STRINGS = pa.list_(pa.string())
_ATTRIBUTES = pa.map_(pa.string(), STRINGS)
_TEXT = pa.string()

ITEMS = pa.schema(
    [
        ("item_id", _TEXT),
        ("title", _TEXT),
        ("brand", _TEXT),
        ("seller", _TEXT),
        ("category", STRINGS),  # names, coarse to fine
        ("price", pa.float64()),
        ("attributes", _ATTRIBUTES),  # one of types.ATTRIBUTE_TYPES -> values
        ("available", pa.bool_()),
    ]
)
USERS = pa.schema([(name, _TEXT) for name in ("user_id", "gender", "age_bucket", "country", "province", "city")])
SEARCHES = pa.schema(
    [
        ("search_id", _TEXT),
        ("user_id", _TEXT),
        ("time", TIME),
        ("query", _TEXT),
        ("query_key", _TEXT),  # normalised by text.normalize_query; filled in by validation
        ("entrance", _TEXT),
        ("impressed", STRINGS),  # in display order
        ("clicked", STRINGS),  # in click order
        ("purchased", STRINGS),
        ("split", _TEXT),  # train, validation or test
    ]
)
EVENTS = pa.schema(
    [
        ("user_id", _TEXT),
        ("item_id", _TEXT),
        ("time", TIME),
        ("scene", _TEXT),  # recommend, live, ...
        ("action", _TEXT),  # click or purchase
    ]
)
JUDGMENTS = pa.schema([("query", _TEXT), ("item_id", _TEXT), ("grade", pa.int8())])

SCHEMAS = {"items": ITEMS, "users": USERS, "searches": SEARCHES, "events": EVENTS, "judgments": JUDGMENTS}
REQUIRED = {
    "items": ("item_id", "title"),
    "users": ("user_id",),
    "searches": ("search_id", "time", "query"),
    "events": ("user_id", "item_id", "time", "action"),
    "judgments": ("query", "item_id", "grade"),
}
"""Columns in which a null makes the row useless."""

ACTIONS = ("click", "purchase")
GRADES = (0, 1, 2, 3)
SPLITS = ("train", "validation", "test")

KINDS = ("queries", "search_clicks", "clicks", "orders")
"""What a shopper does: the queries asked, items clicked in search, clicked anywhere, ordered anywhere."""
COUNTS = ("exposures", "clicks", "orders")
"""What is counted of items and of (query, item) pairs."""
NEVER = 2**31 - 1
"""In place of a day."""

RECENT = 20
"""Queries and clicks kept as recent; the prompt takes fewer."""
COLD_START = 20
"""Items most clicked for a query, kept for users without history."""
MICROSECONDS_OF_DAY = 86_400_000_000


def table_of(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The canonical table `name` as Arrow, from its `rows`; columns that a row leaves out are null."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMAS[name])


def complete(tables: Tables) -> Tables:
    """All five tables with all their columns in order: what a source leaves out is empty or null."""
    return {name: _conform(tables.get(name), schema) for name, schema in SCHEMAS.items()}


def _conform(table: pa.Table | None, schema: pa.Schema) -> pa.Table:
    if table is None:
        return schema.empty_table()
    present = set(table.column_names)
    columns = [
        table.column(field.name).cast(field.type) if field.name in present else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
