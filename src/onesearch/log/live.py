"""The context of a search that happens now: the same record as `derive.contexts` gives, for one shopper at a time."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onesearch.log.schema import COLD_START, MICROSECONDS_OF_DAY, RECENT
from onesearch.types import SearchContext

if TYPE_CHECKING:
    from onesearch.log.prepared import Log


class _Behaviour(NamedTuple):
    """Sorts as in `derive`: by time, then by where it comes from, then by its place in the list."""

    us: int
    tie: str
    position: int
    item: int


def live_context(
    log: "Log", user_id: str | None, query: str, most_clicked: Mapping[str, tuple[int, ...]]
) -> SearchContext:
    """A search after everything in the log; statistics end at the test boundary.

    Args:
        log: the prepared log.
        user_id: None or an unknown user: no history.
        query: normalised.
        most_clicked: query -> item rows, best first.
    """
    searches = log.searches.filter(pc.equal(log.searches["user_id"], user_id or ""))
    events = log.events.filter(pc.equal(log.events["user_id"], user_id or ""))
    asked = sorted(zip(_times(searches), _plain(searches, "search_id"), _plain(searches, "query_key"), strict=True))
    in_search = _of_lists(log, searches, "clicked")
    recent = sorted(in_search)[-RECENT:]
    k = int(log.manifest.config["max_history"])
    clicks = sorted(in_search + _of_events(log, events, "click"))[-k:]
    orders = sorted(_of_lists(log, searches, "purchased") + _of_events(log, events, "purchase"))[-k:]
    return SearchContext(
        search_id="",
        user_id=user_id or "",
        query=query,
        day=_today(log),
        recent_queries=tuple(key for _, _, key in asked[-RECENT:]),
        recent_clicks=tuple(click.item for click in recent),
        long_clicks=tuple(click.item for click in clicks),
        long_click_days=tuple(click.us // MICROSECONDS_OF_DAY for click in clicks),
        long_orders=tuple(order.item for order in orders),
        cold_start=most_clicked.get(query, ())[:COLD_START],
        profile=_profile(log, user_id),
        clicked=(),
        purchased=(),
        impressed=None,
        recent_query_times=tuple(us for us, _, _ in asked[-RECENT:]),
        recent_click_times=tuple(click.us for click in recent),
        long_click_times=tuple(click.us for click in clicks),
        long_order_times=tuple(order.us for order in orders),
    )


def _plain(table: pa.Table, column: str) -> list[Any]:
    values: list[Any] = table[column].to_pylist()
    return values


def _of_lists(log: "Log", searches: pa.Table, column: str) -> list[_Behaviour]:
    columns = zip(_times(searches), _plain(searches, "search_id"), _plain(searches, column), strict=True)
    return [
        _Behaviour(us, search_id, position, log.row_of[item])
        for us, search_id, items in columns
        for position, item in enumerate(items or [])
    ]


def _of_events(log: "Log", events: pa.Table, action: str) -> list[_Behaviour]:
    chosen = events.filter(pc.field("action") == action)
    items = _plain(chosen, "item_id")
    return [_Behaviour(us, item, 0, log.row_of[item]) for us, item in zip(_times(chosen), items, strict=True)]


def _times(table: pa.Table) -> list[int]:
    times: list[int] = np.asarray(table["time"].cast(pa.int64())).tolist()
    return times


def _today(log: "Log") -> int:
    """The day after the last one of the log."""
    return max(_last(log.searches), _last(log.events)) // MICROSECONDS_OF_DAY + 1


def _last(table: pa.Table) -> int:
    return int(table["time"][-1].value) if len(table) else 0


def _profile(log: "Log", user_id: str | None) -> str:
    user = log.users.filter(pc.field("user_id") == (user_id or "")).slice(0, 1).to_pylist()
    return " ".join(user[0][name] for name in ("gender", "age_bucket", "province") if user[0][name]) if user else ""
