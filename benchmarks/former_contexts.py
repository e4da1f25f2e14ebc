"""The former way to hold searches, as a peer: each with its whole history in a Parquet file, read into tuples.

The expressions are those that `onesearch prepare` had before its files were mapped: windows that collect up to
`max_history` behaviours for every search.
"""

from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ibis import Table, _

from onesearch.log.ragged import Ragged
from onesearch.log.schema import COLD_START, MICROSECONDS_OF_DAY, RECENT, Tables
from onesearch.types import SearchContext

_ITEM_LISTS = ("recent_clicks", "long_clicks", "long_orders", "cold_start", "clicked", "purchased", "impressed")


def write_contexts(tables: Tables, boundary: int, max_history: int, path: Path) -> None:
    """Derive the contexts of clean canonical tables and write them."""
    searches, events = (ibis.memtable(_stamped(tables[name])) for name in ("searches", "events"))
    connection = ibis.duckdb.connect()
    query_items = ibis.memtable(connection.to_pyarrow(query_item_days(searches, boundary)))
    found = connection.to_pyarrow(contexts(searches, events, ibis.memtable(tables["users"]), query_items, max_history))
    pq.write_table(found, path, write_page_checksum=True, compression="zstd")


def read_contexts(path: Path, item_ids: "pa.Array[Any]") -> list[SearchContext]:
    """The contexts as tuples, items by row."""
    table = pq.read_table(path, page_checksum_verification=True)
    columns = [_values(name, table[name], item_ids) for name in SearchContext._fields]
    return [SearchContext(*values) for values in zip(*columns, strict=True)]


def _values(name: str, column: "pa.ChunkedArray[Any]", item_ids: "pa.Array[Any]") -> list[Any]:
    """A column as Python's values; null lists but `impressed` and null texts are empty."""
    if not pa.types.is_list(column.type):
        return [value if value is not None else "" for value in column.to_pylist()]
    is_of_items = name in _ITEM_LISTS
    ragged = Ragged(column, item_ids if is_of_items else pa.array([], column.type.value_type))
    lists = ragged.tuples(ragged.codes.tolist() if is_of_items else ragged.values.to_pylist())
    return lists if name == "impressed" else [values or () for values in lists]


def _stamped(table: pa.Table) -> pa.Table:
    us = table["time"].cast(pa.int64())
    return table.append_column("us", us).append_column("day", pa.array(np.asarray(us, np.int64) // MICROSECONDS_OF_DAY))


def query_item_days(searches: Table, boundary: int) -> Table:
    """Running totals of (query, item) inside search at the end of each day on which they changed."""
    return _running(_search_counts(searches, boundary), ["query", "item_id"])


def _search_counts(searches: Table, boundary: int) -> Table:
    past = searches.filter(_.us < boundary)
    shown = past.mutate(impressed=_.impressed.fill_null(_.clicked))
    parts = [
        shown.select("day", query="query_key", item_id=_[column].unnest()).mutate(
            **{name: _int(name == kind) for name in ("exposures", "clicks", "orders")}
        )
        for column, kind in (("impressed", "exposures"), ("clicked", "clicks"), ("purchased", "orders"))
    ]
    return ibis.union(*parts).select("query", "item_id", "day", "exposures", "clicks", "orders")


def _running(increments: Table, keys: list[str]) -> Table:
    names = ("exposures", "clicks", "orders")
    daily = increments.group_by([*keys, "day"]).agg(**{name: _[name].sum() for name in names})
    until_now = ibis.window(group_by=keys, order_by="day", preceding=None, following=0)
    totals = daily.select(*keys, "day", **{name: _[name].sum().over(until_now).cast("int64") for name in names})
    return totals.order_by(*keys, "day")


def contexts(searches: Table, events: Table, users: Table, query_items: Table, max_history: int) -> Table:
    """One row a search: what the models may know of it (`types.SearchContext`, items by ID), in time order.

    Args:
        searches: canonical searches with their split.
        events: canonical events.
        users: canonical users.
        query_items: the result of `query_item_days`.
        max_history: longest click and order sequence.
    """
    clicks = _entries(searches, "clicked")
    orders = _entries(searches, "purchased")
    outside = events.mutate(tie="item_id", position=_int(0))
    all_clicks = clicks.union(_of(outside, "click"))
    all_orders = orders.union(_of(outside, "purchase"))
    asked = searches.select("user_id", "us", "day", value="query_key", tie="search_id", position=_int(0))
    rows = _latest(searches, asked, RECENT, recent_queries="value", recent_query_times="us")
    rows = _latest(rows, clicks, RECENT, recent_clicks="value", recent_click_times="us")
    rows = _latest(rows, all_clicks, max_history, long_clicks="value", long_click_days="day", long_click_times="us")
    rows = _latest(rows, all_orders, max_history, long_orders="value", long_order_times="us")
    rows = rows.left_join(_cold_start(searches, query_items), ["query_key", "day"], rname="{name}_cold")
    rows = rows.left_join(_profiles(users), "user_id", rname="{name}_profile")
    # `time` alone does not order equal times: without the ID two runs could differ.
    return rows.order_by("us", "search_id").select(
        "search_id", "user_id", "time", "day", "split", "recent_queries", "recent_clicks", "long_clicks",
        "long_click_days", "long_orders", "cold_start", "profile", "clicked", "purchased", "impressed",
        "recent_query_times", "recent_click_times", "long_click_times", "long_order_times",
        query="query_key",
    )  # fmt: skip


def _latest(searches: Table, behaviours: Table, k: int, **lists: str) -> Table:
    """Each search with the latest `k` strictly earlier `behaviours` of its user, oldest first.

    Behaviours are numbered within their user, and each carries the `k` values that end with it. A search that has n
    behaviours before it takes the list of number n. Its n is counted in one pass over behaviours and searches together,
    where a search sorts before behaviours of its own time: they are not earlier.
    """
    known = behaviours.filter(_.user_id.notnull())
    order = ["us", "tie", "position"]
    window = ibis.window(group_by="user_id", order_by=order, preceding=k - 1, following=0)
    number = ibis.row_number().over(group_by="user_id", order_by=order) + 1
    ending = known.select(
        "user_id", number=number, **{name: _[of].collect().over(window) for name, of in lists.items()}
    )
    marks = known.select("user_id", "us", search_id=ibis.null("string"), step=_int(1)).union(
        searches.select("user_id", "us", "search_id", step=_int(0))
    )
    so_far = ibis.window(group_by="user_id", order_by=["us", "step"], preceding=None, following=0)
    counted = marks.mutate(number=_.step.sum().over(so_far)).filter(_.search_id.notnull()).select("search_id", "number")
    found = searches.inner_join(counted, "search_id").left_join(ending, ["user_id", "number"])
    return found.select(*searches.columns, *lists)


def _cold_start(searches: Table, query_items: Table) -> Table:
    """Per query and day, the items most clicked for it until the end of the day before, best first."""
    next_change = _.day.lead().over(ibis.window(group_by=["query", "item_id"], order_by="day"))
    totals = query_items.select("item_id", "clicks", query_key="query", since="day", until=next_change)
    asked = searches.select("query_key", "day").distinct()
    valid = asked.join(totals.filter(_.clicks > 0), "query_key").filter(
        _.since < _.day, (_.day <= _.until) | _.until.isnull()
    )
    best = ibis.window(group_by=["query_key", "day"], order_by=[ibis.desc("clicks"), "item_id"])
    top = valid.mutate(rank=ibis.row_number().over(best)).filter(_.rank < COLD_START)
    return top.group_by("query_key", "day").agg(cold_start=_.item_id.collect(order_by="rank"))


def _profiles(users: Table) -> Table:
    known = ibis.array([_.gender, _.age_bucket, _.province]).filter(lambda part: part.notnull())
    return users.select("user_id", profile=known.join(" "))


def _entries(searches: Table, column: str) -> Table:
    """One row for each entry of a list column, in its order."""
    rows = searches.select("user_id", "us", "day", tie="search_id", value=column).unnest("value", offset="position")
    return rows.select("user_id", "us", "day", "value", "tie", position=_.position.cast("int64"))


def _of(outside: Table, action: str) -> Table:
    return (
        outside.filter(_.action == action)
        .select("user_id", "us", "day", "tie", "position", value="item_id")
        .select("user_id", "us", "day", "value", "tie", "position")
    )


def _int(value: int) -> ibis.expr.types.IntegerScalar:
    return ibis.literal(int(value), "int64")
