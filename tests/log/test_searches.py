"""Searches as a sequence and as columns: the same as walking all contexts. Batches are small, so that rows cross."""

import datetime as dt
import tempfile
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
from brute_force import Reference
from hypothesis import given, settings
from hypothesis import strategies as st
from marketplace import START, items, prepared, random_tables, search

from onesearch.log import mapped_files
from onesearch.log.schema import table_of
from onesearch.log.searches import (
    ClickedPairs,
    Searches,
    answered,
    days_of,
    have_history,
    items_by_query,
    items_of,
    outcomes_of,
    pairs_of,
    queries_of,
    users_of,
)

ALL = "train", "validation", "test"


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped_files, "ROWS", 7)
        return prepared(random_tables(8), tmp_path_factory.mktemp("searches"))


@pytest.fixture(scope="module")
def searches(log):
    return log.contexts("train", "test")


@pytest.fixture(scope="module")
def contexts(searches):
    return list(searches)


def test_they_are_a_sequence(searches, contexts):
    assert len(searches) == len(contexts) > 100
    assert [searches[place] for place in range(len(searches))] == contexts
    assert (searches[-1], searches[5:60:7][2]) == (contexts[-1], contexts[19])
    assert list(searches[-9:]) == contexts[-9:]
    with pytest.raises(IndexError):
        searches[len(searches)]


def test_some_of_them_by_place_or_mask(searches, contexts):
    assert list(searches.take([40, 3, 40])) == [contexts[40], contexts[3], contexts[40]]
    assert list(searches.take([])) == []
    late = searches.days > np.median(searches.days)
    assert list(searches.take(late)) == [context for context, is_late in zip(contexts, late, strict=True) if is_late]
    assert list(searches.take(np.array([], np.int64))) == []


def test_columns_are_those_of_the_contexts(searches, contexts):
    assert searches.num_clicks.tolist() == [len(context.clicked) for context in contexts]
    assert searches.num_purchases.tolist() == [len(context.purchased) for context in contexts]
    assert searches.search_ids == [context.search_id for context in contexts]
    seen = dict.fromkeys(query for context in contexts for query in (context.query, *context.recent_queries))
    assert searches.queries_seen() == list(seen)
    assert searches[100:].queries_seen()[0] == contexts[100].query


def test_mapped_and_listed_searches_answer_alike(searches, contexts):
    """Whoever takes a sequence of contexts may be given either."""
    assert list(answered(searches)) == answered(contexts) != contexts
    assert have_history(searches).tolist() == have_history(contexts).tolist()
    assert {*have_history(contexts).tolist()} == {True, False}
    assert days_of(searches).tolist() == days_of(contexts).tolist()
    assert queries_of(searches) == queries_of(contexts)
    outcomes = [(found.query, found.clicked, found.purchased, found.impressed) for found in outcomes_of(contexts)]
    assert list(outcomes_of(searches)) == outcomes
    pairs, listed = pairs_of(searches), pairs_of(contexts)
    assert list(pairs) == listed
    assert (pairs[-1], list(pairs[3:9:2])) == (listed[-1], listed[3:9:2])
    assert items_of(pairs).tolist() == items_of(listed).tolist()
    grouped, expected = items_by_query(pairs), items_by_query(listed)
    assert {query: rows.tolist() for query, rows in grouped.items()} == {
        query: rows.tolist() for query, rows in expected.items()
    }
    assert len(grouped) == len(expected)


def test_users_have_numbers(searches, contexts):
    """Searches of one user share a number, and nobody else's; without a user each has its own."""
    for numbers in (users_of(searches).tolist(), users_of(contexts).tolist()):
        keys = [found.user_id or found.search_id for found in contexts]
        assert len(set(numbers)) == len(set(keys)) == len(set(zip(numbers, keys, strict=True)))
    assert any(not found.user_id for found in contexts)


def test_nothing_was_clicked(log):
    none = log.contexts("train").take(np.array([], np.int64))
    pairs = ClickedPairs(none)
    assert (len(pairs), list(pairs), dict(items_by_query(pairs)), none.queries_seen()) == (0, [], {}, [])
    with pytest.raises(IndexError):
        pairs[0]


def test_another_process_maps_the_files_itself(searches, contexts):
    """What travels are the rows and the folder, not what was mapped, nor what was found out."""
    part = searches[:30]
    assert len(part.answered) > 0
    sent = bytes(ForkingPickler.dumps(part))
    assert len(sent) < 1500
    found = ForkingPickler.loads(sent)
    assert isinstance(found, Searches)
    assert list(found) == contexts[:30]


SEARCH = st.tuples(
    st.sampled_from(["u", "v", None]), st.integers(0, 4), st.sampled_from("ab"), st.lists(st.integers(0, 2), max_size=2)
)
EVENT = st.tuples(st.sampled_from("uvw"), st.integers(0, 4), st.integers(0, 2), st.sampled_from(["click", "purchase"]))


@settings(max_examples=3, deadline=None)
@given(st.lists(SEARCH, min_size=4, max_size=12), st.lists(EVENT, max_size=6), st.integers(1, 3))
def test_any_log_gives_what_scanning_it_gives(rows, events, max_history):
    """Few users and times a day apart: most are equal, some users are unknown, some never search."""

    def day(number):
        return START + dt.timedelta(days=number)

    rows = [*rows, ("u", 5, "a", [0]), ("v", 6, "b", [1]), ("u", 7, "a", [])]  # every part of the split has a search
    tables = {
        "items": table_of("items", items(3)),
        "users": table_of("users", [{"user_id": "u", "gender": "F"}]),
        "searches": table_of(
            "searches",
            [
                search(number, user, day(time), query, clicked=[f"i{item}" for item in {*clicked}])
                | {"purchased": [f"i{item}" for item in {*clicked}][:1]}
                for number, (user, time, query, clicked) in enumerate(rows)
            ],
        ),
        "events": table_of(
            "events",
            [
                {"user_id": user, "item_id": f"i{item}", "time": day(time), "action": action}
                for user, time, item, action in events
            ],
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        log = prepared(tables, Path(folder), max_history=max_history)
        reference = Reference(log, max_history)
        by_id = {row["search_id"]: row for row in reference.searches}
        for context in log.contexts(*ALL):
            for name, expected in reference.context(by_id[context.search_id]).items():
                found = getattr(context, name)
                if name in ("recent_clicks", "long_clicks", "long_orders", "cold_start"):
                    found = [log.item_ids[row] for row in found]
                assert (found if name == "day" else list(found)) == expected, (context.search_id, name)
