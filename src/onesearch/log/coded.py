"""The canonical tables with numbers in place of texts, for `derive`: engines sort and join numbers many times faster.

item       row of the items table
shopper    place among the users who search, by ID; null: nobody is known
query      place among the distinct normalised queries, in the order of their bytes
place      of a search's or an item's ID among all of these IDs, in the order of their bytes: what orders equal times
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onesearch.log.mapped_files import sorted_texts
from onesearch.log.ragged import Ragged, lists
from onesearch.log.schema import MICROSECONDS_OF_DAY, SPLITS, Array, Column, Tables


class Coded(NamedTuple):
    """A log in numbers."""

    searches: pa.Table  # number, search_id, place, shopper, us, day, split, query, clicked, purchased, impressed
    events: pa.Table  # place of the item, shopper, us, day, item, action
    items: pa.Table  # item, place
    shoppers: pa.Table  # shopper, user_id
    queries: pa.Table  # query, text


def code(tables: Tables) -> Coded:
    """Number items, shoppers and queries of clean canonical tables with their split."""
    searches, events, items = (tables[name] for name in ("searches", "events", "items"))
    item_ids = items["item_id"].combine_chunks()
    users, queries = sorted_texts(searches["user_id"]), sorted_texts(searches["query_key"])
    places = pc.rank(pa.concat_arrays([item_ids, searches["search_id"].combine_chunks()]), tiebreaker="dense")
    of_items, of_searches = places.slice(0, len(items)), places.slice(len(items))
    item_of_event = pc.index_in(events["item_id"], item_ids)
    columns = {
        "number": pa.array(np.arange(len(searches))),
        "search_id": searches["search_id"],
        "place": of_searches,
        "shopper": pc.index_in(searches["user_id"], users),
        **_stamps(searches),
        "split": pc.index_in(searches["split"], pa.array(SPLITS)),
        "query": pc.index_in(searches["query_key"], queries),
        **{name: _item_rows(searches[name], item_ids) for name in ("clicked", "purchased", "impressed")},
    }
    outside = {
        "shopper": pc.index_in(events["user_id"], users),
        **_stamps(events),
        "place": of_items.take(item_of_event),
        "item": item_of_event,
        "action": events["action"],
    }
    return Coded(
        pa.table(columns),
        pa.table(outside),
        pa.table({"item": pa.array(np.arange(len(items), dtype=np.int32)), "place": of_items}),
        _numbered("shopper", "user_id", users),
        _numbered("query", "text", queries),
    )


def _stamps(table: pa.Table) -> dict[str, Any]:
    """Time in microseconds and in days since 1970-01-01; Ibis itself reads whole seconds only."""
    us = table["time"].cast(pa.int64())
    day = np.asarray(us, np.int64) // MICROSECONDS_OF_DAY  # floors before 1970 too, as integer division in SQL does not
    return {"us": us, "day": pa.array(day.astype(np.int32))}


def _item_rows(column: Column, item_ids: Array) -> "pa.ListArray[Any]":
    ragged = Ragged(column, item_ids)
    return lists(ragged.rows, pa.array(ragged.codes.astype(np.int32)), ragged.nulls)


def _numbered(number: str, name: str, texts: Array) -> pa.Table:
    return pa.table({number: pa.array(np.arange(len(texts), dtype=np.int32)), name: texts})
