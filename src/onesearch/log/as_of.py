"""The files that searches are cut from as of their own time: `RUN/log/as_of/`, mapped and never read as a whole.

searches.arrow         a row a search, in time order: who asked what, what it led to, how many behaviours are earlier
shoppers.arrow         a row a user who searches: ID, profile, where the user's behaviours begin
queries.arrow          a row a distinct normalised query, in the order of its bytes
asked, search_clicks, clicks, orders.arrow      behaviours with their times, shopper by shopper, in the order of time
item_days, query_item_days.arrow                running totals, see `counts`

A history is the latest k of the first n behaviours of its shopper: each is written once, however many searches see it.
Items are rows of the items table, so that nothing is looked up when a log is opened.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from onesearch.log.mapped_files import Int64, Integers, MappedTable, ragged_range
from onesearch.log.schema import KINDS, MICROSECONDS_OF_DAY, RECENT
from onesearch.types import SearchContext

FOLDER = "as_of"

MOST_TEXTS = 1 << 14
"""Queries that are kept as texts: a few megabytes."""

_INT, _LONG, _TEXT, _ITEMS = pa.int32(), pa.int64(), pa.large_string(), pa.large_list(pa.int32())

SEARCHES = pa.schema(
    [
        ("search_id", _TEXT),
        ("shopper", _INT),  # row of shoppers.arrow, -1: nobody is known
        ("query", _INT),  # row of queries.arrow
        ("day", _INT),  # days since 1970-01-01
        ("split", pa.int8()),  # place in SPLITS
        *((f"num_{kind}", _INT) for kind in KINDS),  # behaviours of the shopper that are strictly earlier
        ("cold_start", _ITEMS),
        ("clicked", _ITEMS),
        ("purchased", _ITEMS),
        ("impressed", _ITEMS),  # null: not recorded
    ]
)
SHOPPERS = pa.schema([("user_id", _TEXT), ("profile", _TEXT), *((f"first_{kind}", _LONG) for kind in KINDS)])
QUERIES = pa.schema([("text", _TEXT), ("first_day", _INT)])  # first answered, `NEVER`: not before the test boundary
BEHAVIOURS = {kind: pa.schema([("query" if kind == "queries" else "item", _INT), ("us", _LONG)]) for kind in KINDS}
"""Microseconds since 1970-01-01."""


def behaviours_file(kind: str) -> str:
    """The file of one of `KINDS`."""
    return "asked.arrow" if kind == "queries" else f"{kind}.arrow"


class AsOf:
    """Searches as of their own time, cut when they are asked for.

    Args:
        folder: of the files.
        max_history: k, longest click and order sequence of a search.

    Raises:
        LogError: a file is missing or of another version.
    """

    def __init__(self, folder: Path, max_history: int) -> None:
        self.folder, self.max_history = folder, max_history
        searches = MappedTable(folder / "searches.arrow", SEARCHES)
        self.num_searches = len(searches)
        self.search_ids = searches.texts("search_id")
        self.shoppers, self.queries, self.days, self.splits = map(
            searches.numbers, ("shopper", "query", "day", "split")
        )
        self.counts = {kind: searches.numbers(f"num_{kind}") for kind in KINDS}
        self.cold_start, self.clicked, self.purchased, self.impressed = map(
            searches.lists, ("cold_start", "clicked", "purchased", "impressed")
        )
        shoppers = MappedTable(folder / "shoppers.arrow", SHOPPERS)
        self.user_ids, self.profiles = map(shoppers.texts, ("user_id", "profile"))
        self.firsts = {kind: shoppers.numbers(f"first_{kind}") for kind in KINDS}
        self.texts = MappedTable(folder / "queries.arrow", QUERIES).texts("text")
        self.text = lru_cache(MOST_TEXTS)(self.texts.__getitem__)  # a few queries are asked most of the time
        tables = {kind: MappedTable(folder / behaviours_file(kind), schema) for kind, schema in BEHAVIOURS.items()}
        self.values = {kind: table.numbers(BEHAVIOURS[kind].names[0]) for kind, table in tables.items()}
        self.times = {kind: table.numbers("us") for kind, table in tables.items()}

    def __reduce__(self) -> tuple[type["AsOf"], tuple[Path, int]]:
        return AsOf, (self.folder, self.max_history)  # a worker maps the files itself

    def context(self, row: int) -> SearchContext:
        """One search."""
        shopper = self.shoppers[row]
        queries, query_times = self._latest("queries", row, shopper, RECENT)
        recent, recent_times = self._latest("search_clicks", row, shopper, RECENT)
        clicks, click_times = self._latest("clicks", row, shopper, self.max_history)
        orders, order_times = self._latest("orders", row, shopper, self.max_history)
        return SearchContext(
            search_id=self.search_ids[row],
            user_id=self.user_ids[shopper] if shopper >= 0 else "",
            query=self.text(self.queries[row]),
            day=self.days[row],
            recent_queries=tuple(map(self.text, queries.tolist())),
            recent_clicks=tuple(recent.tolist()),
            long_clicks=tuple(clicks.tolist()),
            long_click_days=tuple((click_times // MICROSECONDS_OF_DAY).tolist()),
            long_orders=tuple(orders.tolist()),
            cold_start=self.cold_start[row] or (),
            profile=self.profiles[shopper] if shopper >= 0 else "",
            clicked=self.clicked[row] or (),
            purchased=self.purchased[row] or (),
            impressed=self.impressed[row],  # only there null and empty differ
            recent_query_times=tuple(query_times.tolist()),
            recent_click_times=tuple(recent_times.tolist()),
            long_click_times=tuple(click_times.tolist()),
            long_order_times=tuple(order_times.tolist()),
        )

    def _latest(self, kind: str, row: int, shopper: int, k: int) -> tuple[Integers, Integers]:
        """The latest `k` behaviours before a search and their times, oldest first: views."""
        if shopper < 0:
            return _NONE, _NONE
        first, known = self.firsts[kind][shopper], self.counts[kind][row]
        start, stop = first + max(0, known - k), first + known
        return self.values[kind].between(start, stop), self.times[kind].between(start, stop)

    def queries_seen(self, rows: Int64) -> Int64:
        """Numbers of the queries of searches [n], each followed by those asked recently before it, oldest first."""
        shoppers = self.shoppers.take(rows)
        known = self.counts["queries"].take(rows)
        first = np.zeros(len(rows), np.int64)
        first[shoppers >= 0] = self.firsts["queries"].take(shoppers[shoppers >= 0])
        recent = np.minimum(known, RECENT)
        lengths = 1 + recent
        starts = np.cumsum(lengths) - lengths
        seen = np.empty(int(lengths.sum()), np.int64)
        seen[starts] = self.queries.take(rows)
        inside = ragged_range(recent)
        seen[np.repeat(starts + 1, recent) + inside] = self.values["queries"].take(
            np.repeat(first + known - recent, recent) + inside
        )
        return seen


_NONE = np.empty(0, np.int64)
