"""Histories, cold starts and counts against a brute-force reference, and nothing from the future."""

import datetime as dt

import numpy as np
import pytest
from brute_force import Reference
from marketplace import at, items, prepared, random_tables, search

from onesearch.log.schema import table_of
from onesearch.log.split import Split


@pytest.mark.parametrize(("seed", "max_history"), [(0, 200), (1, 3)])
def test_contexts_agree_with_brute_force(tmp_path, seed, max_history):
    """Every field of every search equals the one found by scanning the whole log in Python."""
    log = prepared(random_tables(seed), tmp_path, max_history=max_history)
    reference = Reference(log, max_history)
    contexts = log.contexts("train", "validation", "test")
    assert [context.search_id for context in contexts] == [
        row["search_id"] for row in sorted(reference.searches, key=lambda row: (row["time"], row["search_id"]))
    ]
    rows = {row["search_id"]: row for row in reference.searches}
    for context in contexts:
        for name, expected in reference.context(rows[context.search_id]).items():
            found = getattr(context, name)
            if name in ("recent_clicks", "long_clicks", "long_orders", "cold_start"):
                found = [log.item_ids[row] for row in found]
            assert (found if name == "day" else list(found)) == expected, (context.search_id, name)


def test_counts_agree_with_brute_force(tmp_path):
    """Each item and each (query, item), on each day of the log and long after it."""
    log = prepared(random_tables(2), tmp_path)
    reference = Reference(log, 200)
    first = min(context.day for context in log.contexts("train"))
    days = [first - 5, *range(first, first + 23), first + 1000]
    cases = [(item, day) for item in range(len(log.item_ids)) for day in days]
    found = log.item_counts.lookup(np.array([item for item, _ in cases]), np.array([day for _, day in cases]))
    assert found.tolist() == [reference.counts(log.item_ids[item], day) for item, day in cases]
    pairs = [(f"q {query}", item, day) for query in range(6) for item, day in cases[::7]]
    found = log.pair_counts.lookup(*(np.array(column) for column in zip(*pairs, strict=True)))
    assert found.tolist() == [reference.counts(log.item_ids[item], day, query) for query, item, day in pairs]
    last = np.arange(len(log.item_ids))
    assert log.item_counts.total(last).tolist() == [reference.counts(item, 10**6) for item in log.item_ids]


def test_queries_count_views_and_clicks_before_the_test(tmp_path):
    log = prepared(random_tables(3), tmp_path)
    past = [row for row in log.searches.to_pylist() if row["split"] != "test"]
    expected = {
        query: (
            sum(row["query_key"] == query for row in past),
            sum(len(row["clicked"]) for row in past if row["query_key"] == query),
        )
        for query in {row["query_key"] for row in past}
    }
    assert {row["query"]: (row["pv"], row["clicks"]) for row in log.queries.to_pylist()} == expected


def _with_planted(time: dt.datetime) -> dict:
    """The same user asks the same and buys the same item, inside and outside search, at `time`."""
    tables = random_tables(4)
    rows = tables["searches"].to_pylist()
    target = next(row for row in sorted(rows, key=lambda row: row["time"])[60:] if row["user_id"])
    planted = search(9000, target["user_id"], time, target["query"], impressed=["i0"], clicked=["i0"], purchased=["i0"])
    events = [
        {"user_id": target["user_id"], "item_id": "i1", "time": time, "scene": "live", "action": action}
        for action in ("click", "purchase")
    ]
    tables["searches"] = table_of("searches", [*rows, planted])
    tables["events"] = table_of("events", tables["events"].to_pylist() + events)
    return tables


@pytest.mark.parametrize("later", [dt.timedelta(0), dt.timedelta(microseconds=1), dt.timedelta(days=1)])
def test_nothing_leaks_from_the_future_or_from_the_same_time(tmp_path, later):
    """A planted search, click and order at the target's own time or later change nothing that it or its elders know."""
    split = Split(test_from=(at(6 * 70)).date())
    rows = sorted(random_tables(4)["searches"].to_pylist(), key=lambda row: row["time"])
    target = next(row for row in rows[60:] if row["user_id"])
    before = prepared(random_tables(4), tmp_path / "before", split)
    after = prepared(_with_planted(target["time"] + later), tmp_path / "after", split)
    known = {context.search_id: context for context in after.contexts("train", "validation", "test")}
    elders = {row["search_id"] for row in rows if row["time"] <= target["time"]}
    assert target["search_id"] in elders
    compared = [context for context in before.contexts("train", "validation", "test") if context.search_id in elders]
    for context in compared:
        assert known[context.search_id] == context
    day = next(context.day for context in compared if context.search_id == target["search_id"])
    for lookup in ("item_counts", "pair_counts"):
        arguments = [np.arange(12), np.full(12, day)]
        if lookup == "pair_counts":
            arguments.insert(0, [target["query"]] * 12)
        old, new = (getattr(log, lookup).lookup(*arguments) for log in (before, after))
        np.testing.assert_array_equal(old, new)


def test_a_planted_past_does_show(tmp_path):
    """The counterpart: the same behaviours a day earlier are seen, so the test above cannot pass on empty histories."""
    rows = sorted(random_tables(4)["searches"].to_pylist(), key=lambda row: row["time"])
    target = next(row for row in rows[60:] if row["user_id"])
    log = prepared(_with_planted(target["time"] - dt.timedelta(days=1)), tmp_path, Split(test_from=at(6 * 70).date()))
    context = next(
        found for found in log.contexts("train", "validation", "test") if found.search_id == target["search_id"]
    )
    assert 0 in context.recent_clicks
    assert 1 in context.long_clicks
    assert {0, 1} <= set(context.long_orders)
    assert 0 in context.cold_start


def test_statistics_freeze_at_the_test_boundary_but_the_users_own_history_goes_on(tmp_path):
    """u clicks i1 on the first test day: the day after, cold start and counts ignore it, u's own history does not."""
    rows = [search(n, "v", at(24 * n), "q", clicked=["i0"]) for n in range(10)]
    rows += [search(10, "u", at(240), "q", clicked=["i1"]), search(11, "u", at(270), "q", clicked=["i2"])]
    tables = {"items": table_of("items", items(3)), "searches": table_of("searches", rows)}
    log = prepared(tables, tmp_path, Split(test_from=at(240).date()))
    last = log.contexts("test")[-1]
    assert (last.recent_clicks, last.cold_start) == ((1,), (0,))
    assert log.item_counts.lookup(np.array([0, 1]), np.array([last.day] * 2)).tolist() == [[10, 10, 0], [0, 0, 0]]
