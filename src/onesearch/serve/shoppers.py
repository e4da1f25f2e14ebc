"""The context of a search that happens now: what the log holds of the shopper, and the events since."""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple, TypeVar

import pyarrow.compute as pc

from onesearch.log.prepared import Log
from onesearch.log.schema import COLD_START, MICROSECONDS_OF_DAY, RECENT
from onesearch.log.text import normalize_query
from onesearch.serve.events import KINDS, Event
from onesearch.types import SearchContext

T = TypeVar("T")
Timed = list[tuple[int, T]]
"""What happened, with the microsecond of each."""


class Busy(NamedTuple):
    """A shopper of the log."""

    user_id: str
    num_searches: int


class Shoppers:
    """Everybody whom the log knows.

    Args:
        log: the prepared log.
        most: shoppers whose history is kept in memory.
    """

    def __init__(self, log: Log, most: int) -> None:
        self.log = log
        self._longest = int(log.manifest.config["max_history"])
        self._once = threading.Lock()  # the log reads its tables when they are first asked for
        self._history = lru_cache(maxsize=most)(lambda user_id: log.context(user_id, ""))

    def context(
        self, user_id: str | None, query: str, events: Sequence[Event] = (), today: int | None = None
    ) -> SearchContext:
        """A search after everything in the log and after `events`; statistics end at the test boundary.

        Without events it happens on the day after the log's last, with events today, as they do. What the log knows of
        somebody is all until its end: their events until then were the future of an earlier log.

        Args:
            user_id: None, or somebody unknown to the log, has no history there.
            query: as typed.
            events: of this shopper, oldest first.
            today: days since 1970-01-01; by the clock if not given.
        """
        key = normalize_query(query)
        with self._once:
            is_known = user_id in self.known
            history = self._history(user_id if is_known else None)
            cold_start = self.log.clicked_items.get(key, ())[:COLD_START]
        context = history._replace(user_id=user_id or "", query=key, cold_start=cold_start)
        since = [event for event in events if event.us > self._end] if is_known else events
        if not since:
            return context
        today = int(time.time()) * 1_000_000 // MICROSECONDS_OF_DAY if today is None else today
        context = context._replace(day=max(context.day, today))
        return continued(context, since, self.log.row_of, self._longest)

    @cached_property
    def _end(self) -> int:
        """The microsecond of the last behaviour of the log."""
        tables = (self.log.searches, self.log.events)  # both in time order
        return max((int(table["time"][-1].value) for table in tables if len(table)), default=0)

    @cached_property
    def known(self) -> frozenset[str]:
        """IDs of everybody in the log."""
        tables = (self.log.users, self.log.searches, self.log.events)
        return frozenset(user for table in tables for user in table["user_id"].unique().to_pylist() if user is not None)

    @cached_property
    def busiest(self) -> list[Busy]:
        """Those who searched the most, 100 at most, the busiest first."""
        counts = pc.value_counts(self.log.searches["user_id"].drop_null()).to_pylist()
        ordered = sorted(counts, key=lambda row: (-row["counts"], row["values"]))
        return [Busy(row["values"], row["counts"]) for row in ordered[:100]]


def continued(
    context: SearchContext, events: Sequence[Event], row_of: Mapping[str, int], longest: int
) -> SearchContext:
    """A context as it is after some more events.

    As in the log, a click or order with a query happened in a search, and an order in a search is a click on the item.
    A search counts once, however many clicks name its query. Items that the catalogue does not have are passed over.
    Days end with that of the context, on which "now" is: clocks differ a little.

    Args:
        context: before the events, on the day of the search.
        events: of its shopper, in any order; of the same moment a search comes first, then clicks.
        row_of: item ID → row.
        longest: of the long sequences.
    """
    asked: Timed[str] = []
    in_search: Timed[int] = []
    clicks: Timed[int] = []
    orders: Timed[int] = []
    clicked: set[tuple[str, int]] = set()  # in the search that goes on
    for event in sorted(events, key=lambda event: (event.us, KINDS.index(event.kind))):
        if event.query and (event.kind == "search" or not asked or asked[-1][1] != event.query):
            if not asked or asked[-1][1] != event.query:
                clicked.clear()
            asked.append((event.us, event.query))
        row = row_of.get(event.item_id or "")
        if row is None:
            continue
        if event.kind == "order":
            orders.append((event.us, row))
        if event.kind == "click" or (event.query and (event.query, row) not in clicked):
            clicks.append((event.us, row))
            if event.query:
                in_search.append((event.us, row))
                clicked.add((event.query, row))
    queries = _later(context.recent_query_times, context.recent_queries, asked, RECENT)
    recent = _later(context.recent_click_times, context.recent_clicks, in_search, RECENT)
    long = _later(context.long_click_times, context.long_clicks, clicks, longest)
    bought = _later(context.long_order_times, context.long_orders, orders, longest)
    return context._replace(
        recent_queries=tuple(query for _, query in queries),
        recent_query_times=tuple(us for us, _ in queries),
        recent_clicks=tuple(row for _, row in recent),
        recent_click_times=tuple(us for us, _ in recent),
        long_clicks=tuple(row for _, row in long),
        long_click_times=tuple(us for us, _ in long),
        long_click_days=tuple(min(us // MICROSECONDS_OF_DAY, context.day) for us, _ in long),
        long_orders=tuple(row for _, row in bought),
        long_order_times=tuple(us for us, _ in bought),
    )


def _later(times: Iterable[int], before: Iterable[T], since: Timed[T], longest: int) -> Timed[T]:
    """Two sequences as one, by time; what happened at the same moment stands as it was told."""
    return sorted([*zip(times, before, strict=True), *since], key=lambda one: one[0])[-longest:]
