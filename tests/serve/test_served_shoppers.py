"""What happens while the service runs reads as if the log had held it."""

import time

import pytest

from onesearch.log.prepare import prepare
from onesearch.log.prepared import Log
from onesearch.log.schema import MICROSECONDS_OF_DAY, table_of
from onesearch.log.sources.source import Raw, Source
from onesearch.log.split import Split
from onesearch.models.reward_query import session_queries
from onesearch.serve.events import Event, microseconds
from onesearch.serve.shoppers import Shoppers, continued

SEQUENCES = (
    "recent_queries",
    "recent_query_times",
    "recent_clicks",
    "recent_click_times",
    "long_clicks",
    "long_click_times",
    "long_orders",
    "long_order_times",
    "profile",
    "query",
)
KEPT = 120
"""Searches of the earlier log, half of all."""


class EarlierShop(Source):
    """A shop as it was: what is not kept of its searches and events had not happened yet."""

    def __init__(self, shop: Source) -> None:
        self.shop = shop

    def read(self) -> Raw:
        tables = dict(self.shop.read().tables)
        searches = tables["searches"].to_pylist()[:KEPT]
        until = searches[-1]["time"]
        events = [event for event in tables["events"].to_pylist() if event["time"] <= until]
        return Raw(tables | {"searches": table_of("searches", searches), "events": table_of("events", events)})


@pytest.fixture(scope="module")
def earlier(tiny_shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("earlier") / "log"
    prepare(EarlierShop(tiny_shop), folder, Split(test_share=0.2, validation_share=0.2))
    return Log.open(folder)


def since(tiny_shop: Source, user: str) -> list[Event]:
    """What a shopper did after the earlier log, told as a shop's site would tell it."""
    tables = tiny_shop.read().tables
    told = []
    for search in tables["searches"].to_pylist()[KEPT:]:
        if search["user_id"] == user:
            us, query = microseconds(search["time"]), search["query"].lower()
            told.append(Event(user, "search", us, None, query))
            told += [Event(user, "click", us, item, query) for item in search["clicked"]]
            told += [Event(user, "order", us, item, query) for item in search["purchased"]]
    until = tables["searches"]["time"][KEPT - 1].as_py()
    for event in tables["events"].to_pylist():
        if event["user_id"] == user and event["time"] > until:
            kind = "order" if event["action"] == "purchase" else "click"
            told.append(Event(user, kind, microseconds(event["time"]), event["item_id"], None))
    return told


@pytest.mark.parametrize("user", ["u0", "u1", "u3", "u7", "u22"])
def test_events_read_as_if_the_log_had_held_them(tiny_shop, tiny_log, earlier, user):
    """Half a log and the rest as events give the sequences that the whole log gives."""
    events = since(tiny_shop, user)
    assert len(events) > 3
    want = tiny_log.context(user, "red boots")
    got = Shoppers(earlier, most=10).context(user, "Red  BOOTS", events[::-1])
    assert [getattr(got, name) for name in SEQUENCES] == [getattr(want, name) for name in SEQUENCES]
    assert max(got.long_click_days) <= got.day


@pytest.mark.parametrize("user", ["u0", "u1", "u3"])
def test_a_newer_log_counts_nothing_twice(tiny_shop, tiny_log, user):
    """A log that holds the events says all of them itself, though in it a click has the time of its search."""
    told = [event._replace(us=event.us + 5_000_000 * (event.kind == "click")) for event in since(tiny_shop, user)]
    until = microseconds(tiny_shop.read().tables["searches"]["time"][-1].as_py())
    told = [event for event in told if event.us <= until]
    assert len(told) > 3
    assert Shoppers(tiny_log, most=10).context(user, "rug", told) == tiny_log.context(user, "rug")
    assert Shoppers(tiny_log, most=10).context("new", "rug", told).long_clicks  # the log holds nothing of theirs


def test_a_search_and_what_was_done_just_before_it_have_one_day(tiny_log):
    """Events of yesterday and today, two years after the log: those of today are the session; counts end as before."""
    today = tiny_log.context("u0", "rug").day + 700
    noon = today * MICROSECONDS_OF_DAY + MICROSECONDS_OF_DAY // 2
    told = [
        Event("u0", "search", noon - MICROSECONDS_OF_DAY, None, "green lamp"),
        Event("u0", "search", noon, None, "red boots"),
        Event("u0", "click", noon + 60_000_000, "i03", "red boots"),
    ]
    shoppers = Shoppers(tiny_log, most=10)
    context = shoppers.context("u0", "rug", told, today)
    assert (context.day, context.long_click_days[-1], session_queries(context)) == (today, today, ["red boots"])
    assert session_queries(shoppers.context("u0", "rug", told, today + 1)) == []
    assert shoppers.context("u0", "rug", told).day >= time.time() // 86400 - 1
    assert shoppers.context("u0", "rug").day == today - 700


def test_without_events_it_is_the_context_of_the_log(tiny_log):
    """Known, unknown and nobody; the second time from memory."""
    shoppers = Shoppers(tiny_log, most=2)
    for _ in range(2):
        for user in ("u0", "u1", "u2", None):
            assert shoppers.context(user, "Blue  Kettle!") == tiny_log.context(user, "Blue  Kettle!")
    assert shoppers.context("stranger", "rug") == tiny_log.context("stranger", "rug")


def test_somebody_new_has_a_history_from_the_first_event_on(tiny_log):
    """An order in a search is a click, once, and none outside of one; a search counts once; what is gone is passed."""
    told = [
        Event("new", "click", 10, "i03", "green boots"),
        Event("new", "order", 11, "i03", "green boots"),
        Event("new", "order", 12, "i04", "green boots"),
        Event("new", "order", 13, "i05", None),
        Event("new", "click", 14, "i06", None),
        Event("new", "click", 15, "gone", "rug"),
    ]
    row_of = tiny_log.row_of
    got = continued(tiny_log.context("new", "lamp"), told, row_of, 1000)
    assert got.recent_queries == ("green boots", "rug")
    assert got.recent_clicks == (row_of["i03"], row_of["i04"])
    assert got.long_clicks == (row_of["i03"], row_of["i04"], row_of["i06"])
    assert got.long_orders == (row_of["i03"], row_of["i04"], row_of["i05"])


def test_sequences_stay_as_long_as_the_log_has_them(tiny_log):
    """20 recent ones, and as many long ones as the log was prepared for."""
    told = [Event("busy", "click", us, "i03", f"query {us}") for us in range(50)]
    got = continued(tiny_log.context("busy", "lamp"), told, tiny_log.row_of, 30)
    assert (len(got.recent_queries), len(got.recent_clicks), len(got.long_clicks)) == (20, 20, 30)
    assert got.recent_queries[-1] == "query 49"


def test_the_busiest_have_searched_the_most(tiny_log):
    """240 searches of 24 shoppers in turn, of which every tenth is anonymous: none has more than ten."""
    busiest = Shoppers(tiny_log, most=10).busiest
    counts = [one.num_searches for one in busiest]
    asked = tiny_log.searches["user_id"].to_pylist()
    assert counts == sorted(counts, reverse=True)
    assert {one.user_id: one.num_searches for one in busiest} == {
        user: asked.count(user) for user in set(asked) - {None}
    }
