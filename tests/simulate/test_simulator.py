"""The whole log: published shape, order in time, nothing shown before it exists, equal seeds give equal bytes."""

import datetime
from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest

from onesearch.log.schema import SCHEMAS, Tables
from onesearch.simulate import Marketplace, Simulator
from onesearch.simulate.catalogue import make_catalogue
from onesearch.simulate.sessions import GAP, plan
from onesearch.simulate.shoppers import make_shoppers
from onesearch.simulate.simulator import simulate
from onesearch.simulate.vocabulary import TYPES, load_vocabulary

TINY = {"num_items": 150, "num_users": 40, "num_searches": 200, "num_recommendations": 60, "num_judgments": 40}


def as_bytes(tables: Tables) -> bytes:
    sink = pa.BufferOutputStream()
    for name in sorted(tables):
        with pa.ipc.new_stream(sink, tables[name].schema) as stream:
            stream.write_table(tables[name].combine_chunks())
    return sink.getvalue().to_pybytes()


def test_equal_seeds_give_equal_bytes() -> None:
    first = as_bytes(Simulator(Marketplace(**TINY)).read().tables)
    assert as_bytes(simulate(Marketplace(**TINY))) == first
    assert as_bytes(simulate(Marketplace(**TINY, seed=1))) != first


def test_tables_are_canonical(tables: Tables) -> None:
    assert {name: table.schema for name, table in tables.items()} == SCHEMAS
    sizes = {name: len(table) for name, table in tables.items()}
    assert (sizes["items"], sizes["users"], sizes["searches"], sizes["judgments"]) == (600, 350, 4_000, 400)
    known = set(tables["items"]["item_id"].to_pylist())
    assert set(tables["events"]["item_id"].to_pylist()) <= known
    assert tables["searches"]["search_id"].to_pylist() == sorted(set(tables["searches"]["search_id"].to_pylist()))


def test_all_eighteen_attribute_types_are_recorded(tables: Tables) -> None:
    recorded = Counter(kind for row in tables["items"]["attributes"].to_pylist() for kind, values in row if values)
    assert set(recorded) == set(TYPES)
    rows = tables["items"].to_pylist()
    assert all(dict(row["attributes"]).get("Brand", [None]) == [row["brand"]] for row in rows)
    assert all(dict(row["attributes"])["Anchor"] == [row["seller"]] for row in rows)


def test_clicks_have_the_published_shape(searches: list[dict]) -> None:
    """CTR of a search near one half, about 1.3 clicks a clicked search, 5 to 13% of clicks bought."""
    clicks = np.array([len(search["clicked"]) for search in searches])
    assert 0.4 <= np.mean(clicks > 0) <= 0.6
    assert 1.15 <= clicks[clicks > 0].mean() <= 1.5
    assert 0.05 <= sum(len(search["purchased"]) for search in searches) / clicks.sum() <= 0.13


def test_purchases_are_clicks_and_clicks_are_impressions(searches: list[dict]) -> None:
    for search in searches:
        shown = search["impressed"]
        assert len(shown) == len(set(shown)) <= 20
        assert set(search["purchased"]) <= set(search["clicked"]) <= set(shown)
        assert search["clicked"] == [item for item in shown if item in set(search["clicked"])]


def test_clicks_fall_with_position(searches: list[dict]) -> None:
    rates = []
    for first in (0, 3, 6):
        shown = [search for search in searches if len(search["impressed"]) >= first + 3]
        rates.append(
            np.mean([item in search["clicked"] for search in shown for item in search["impressed"][first:][:3]])
        )
    assert rates[0] > 1.3 * rates[1] > 1.3 * 1.2 * rates[2]


def test_clicks_concentrate_on_few_items(searches: list[dict]) -> None:
    """The head decays like a power of the rank, and the first tenth of the clicked items has far more than a tenth."""
    counts = np.sort(list(Counter(item for search in searches for item in search["clicked"]).values()))[::-1]
    head = counts[: len(counts) // 2]
    slope, _ = np.polyfit(np.log(np.arange(1, len(head) + 1)), np.log(head), 1)
    assert -1.2 < slope < -0.35
    assert counts[: len(counts) // 10].sum() > 0.25 * counts.sum()


def test_queries_are_short_and_repeat(searches: list[dict]) -> None:
    """Two to three words mostly; most, not all, of the last tenth's queries were asked before."""
    words = np.array([len(search["query"].split()) for search in searches])
    assert 1.5 < words.mean() < 3
    assert np.mean(words <= 4) > 0.95
    cut = len(searches) * 9 // 10
    before = {search["query"] for search in searches[:cut]}
    assert 0.05 < np.mean([search["query"] not in before for search in searches[cut:]]) < 0.45


def test_times_are_sorted_and_sessions_do_not_overlap(searches: list[dict], config: Marketplace) -> None:
    times = [search["time"] for search in searches]
    assert times == sorted(times)
    start = datetime.datetime.combine(config.start, datetime.time(), datetime.UTC)
    assert start <= times[0]
    assert times[-1] < start + datetime.timedelta(days=config.num_days + 2)


def test_sessions_of_a_shopper_lie_an_hour_apart(config: Marketplace) -> None:
    vocabulary = load_vocabulary()
    shoppers = make_shoppers(vocabulary, make_catalogue(vocabulary, config), config)
    users, starts, lengths = plan(shoppers, config, config.chance("plan"))
    assert lengths.sum() == config.num_searches
    assert lengths.min() >= 1
    assert lengths.max() <= 4
    assert (np.diff(starts) >= 0).all()
    assert set(users) == set(range(config.num_users))
    for user in range(config.num_users):
        assert (np.diff(starts[users == user]) >= GAP - 1e-3).all()


def test_nothing_is_shown_before_it_is_listed_or_after_it_is_withdrawn(
    tables: Tables, searches: list[dict], config: Marketplace
) -> None:
    catalogue = make_catalogue(load_vocabulary(), config)
    row = {item: index for index, item in enumerate(tables["items"]["item_id"].to_pylist())}
    start = datetime.datetime.combine(config.start, datetime.time(), datetime.UTC)
    seen = [(search["time"], item) for search in searches for item in search["impressed"]]
    clicked = [(e["time"], e["item_id"]) for e in tables["events"].to_pylist() if e["action"] == "click"]
    for time, item in seen + clicked:
        day = (time - start).days
        assert catalogue.listed[row[item]] <= day < catalogue.withdrawn[row[item]]


def test_cold_users_and_items_exist(tables: Tables, searches: list[dict], config: Marketplace) -> None:
    """Cold shoppers do nothing before the last tenth of the time; some items are first shown in it."""
    start = datetime.datetime.combine(config.start, datetime.time(), datetime.UTC)
    late = start + datetime.timedelta(seconds=config.late)
    first: dict[str, datetime.datetime] = {}
    shown: dict[str, datetime.datetime] = {}
    for search in searches:
        first.setdefault(search["user_id"], search["time"])
        for item in search["impressed"]:
            shown.setdefault(item, search["time"])
    vocabulary = load_vocabulary()
    cold = make_shoppers(vocabulary, make_catalogue(vocabulary, config), config).cold
    users = tables["users"]["user_id"].to_pylist()
    assert all(first[users[user]] >= late for user in np.flatnonzero(cold))
    assert all(event["time"] >= late for event in tables["events"].to_pylist() if cold[users.index(event["user_id"])])
    assert 0.13 < np.mean([time >= late for time in first.values()]) < 0.3
    assert sum(time >= late for time in shown.values()) >= 5


def test_feed_has_purchases_that_were_clicked(tables: Tables) -> None:
    events = tables["events"].to_pylist()
    assert {event["scene"] for event in events} == {"recommend"}
    clicked = {(event["user_id"], event["item_id"]) for event in events if event["action"] == "click"}
    bought = [(event["user_id"], event["item_id"]) for event in events if event["action"] == "purchase"]
    assert 0.02 < len(bought) / len(events) < 0.15
    assert set(bought) <= clicked
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)


def test_judgments_use_all_grades(tables: Tables) -> None:
    """Each of the four grades has at least 8% of the pairs; no pair is graded twice."""
    judgments = tables["judgments"].to_pylist()
    grades = Counter(judgment["grade"] for judgment in judgments)
    assert set(grades) == {0, 1, 2, 3}
    assert min(grades.values()) > 0.08 * len(judgments)
    assert len({(judgment["query"], judgment["item_id"]) for judgment in judgments}) == len(judgments)


def test_history_tells_what_is_clicked(tables: Tables, searches: list[dict]) -> None:
    """Among the items shown in one search, the clicked one shares more brands with the shopper's past clicks.

    With no taste the two shares would be equal in expectation; a favourite brand multiplies the odds of a click by
    exp(1.3·1.7) = 9 at middling strength, so the clicked share must be far above.
    """
    brand = dict(zip(tables["items"]["item_id"].to_pylist(), tables["items"]["brand"].to_pylist(), strict=True))
    past: dict[str, Counter] = defaultdict(Counter)
    clicked, skipped = [], []
    for search in searches:
        known = past[search["user_id"]]
        if sum(known.values()) >= 5:
            for item in search["impressed"]:
                (clicked if item in search["clicked"] else skipped).append(known[brand[item]] > 0)
        known.update(brand[item] for item in search["clicked"])
    assert np.mean(clicked) > np.mean(skipped) + 0.15


@pytest.mark.parametrize("field", ["num_recommendations", "num_judgments"])
def test_parts_can_be_left_out(field: str) -> None:
    tables = simulate(Marketplace(**{**TINY, field: 0}))
    assert len(tables["events" if field == "num_recommendations" else "judgments"]) == 0
