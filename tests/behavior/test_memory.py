"""Clicks for a query, for queries like it and overall, by hand and by brute force, as of each day."""

import math
import pickle  # noqa: TID251 (as a process does that is spawned)

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from onesearch.behavior.memory import TRENDING_DAYS, ClickMemory
from onesearch.log.counts import ItemCounts


class Counts:
    """Clicks of (query, item) with the day on which they happened."""

    def __init__(self, clicks):
        self.clicks = clicks  # (query, item, day, number)

    def lookup(self, queries, items, days):
        rows = zip(queries, items.tolist(), days.tolist(), strict=True)
        found = [
            sum(n for q, i, d, n in self.clicks if (q, i) == (query, item) and d < day) for query, item, day in rows
        ]
        return np.array([[0, number, 0] for number in found])

    def first_day(self, query):
        return min(day for name, _, day, _ in self.clicks if name == query)


def memory(clicks, cosines, **options):
    """Queries 'a', 'b', … at these cosines from the direction e_0, in which every other query lies."""
    names = "abcdefgh"[: len(cosines)]
    vectors = {name: torch.tensor([c, math.sqrt(1 - c * c)]) for name, c in zip(names, cosines, strict=True)}
    items = {name: sorted({i for q, i, *_ in clicks if q == name}) for name in names}
    embed = lambda query: vectors.get(query, torch.tensor([1.0, 0.0]))  # noqa: E731
    return ClickMemory(items, embed, Counts(clicks), NO_ITEM_COUNTS, 0, **options)


NO_ITEM_COUNTS = ItemCounts.of(np.array([0]), np.array([99]), np.array([[0, 1, 0]]))
"""A log that goes on until day 99."""


def test_by_hand():
    """Query a at cosine 1 has clicks 3 : 1 on items 5, 6; b at .95 all on 6: scores .75 and .25 + e^-1 = .618."""
    clicks = [("a", 5, 1, 3), ("a", 6, 1, 1), ("b", 6, 1, 9)]
    found = memory(clicks, [1.0, 0.95], temperature=0.05)
    assert found.similar("new", 2, 5) == (5, 6)
    assert found.similar("new", 2, 1) == (5,)
    assert found.similar("new", 2, 5, hidden_from=0.99) == (6,)


def test_clicks_of_the_day_itself_are_not_known_yet():
    """On day 1 nothing had been clicked, on day 2 item 5, on day 4 more often item 6."""
    found = memory([("a", 5, 1, 1), ("a", 6, 3, 2)], [1.0])
    for ask in (lambda day: found.similar("new", day, 5), lambda day: found.own("a", day, 5)):
        assert [ask(day) for day in (1, 2, 3, 4)] == [(), (5,), (5,), (6, 5)]


def test_a_querys_own_record_is_its_own():
    """The most clicked first, cut at one; nothing for a query that is not known, however near."""
    found = memory([("a", 5, 1, 1), ("a", 6, 1, 2), ("b", 7, 1, 9)], [1.0, 1.0])
    assert found.own("a", 2, 5) == (6, 5)
    assert found.own("a", 2, 1) == (6,)
    assert found.own("new", 2, 5) == ()


def test_a_query_is_not_similar_to_itself():
    """Asked as a, b alone answers, though only one neighbour may."""
    found = memory([("a", 5, 1, 1), ("b", 6, 1, 1)], [1.0, 0.9], num_neighbors=1)
    assert found.similar("a", 2, 5) == (6,)
    assert found.similar("new", 2, 5) == (5,)


def test_far_queries_are_no_neighbours():
    found = memory([("a", 5, 1, 1), ("b", 6, 1, 1)], [0.9, 0.4], min_cosine=0.5)
    assert found.similar("new", 2, 5) == (5,)
    assert memory([("a", 5, 1, 1)], [0.4], min_cosine=0.5).similar("new", 2, 5) == ()


def test_near_wordings_are_hidden_with_the_query():
    """Hidden from .85 on, of three neighbours at 1, .9 and .8 the last is left."""
    clicks = [(name, item, 1, 1) for item, name in enumerate("abc")]
    assert memory(clicks, [1.0, 0.9, 0.8]).similar("new", 2, 5, hidden_from=0.85) == (2,)


def test_a_hidden_query_gives_its_place_away():
    """Of two neighbours allowed, the hidden one does not count."""
    clicks = [(name, item, 1, 1) for item, name in enumerate("abc")]
    found = memory(clicks, [1.0, 0.9, 0.8], num_neighbors=2)
    assert found.similar("new", 2, 5) == (0, 1)
    assert found.similar("new", 2, 5, hidden_from=0.99) == (1, 2)


def test_a_query_of_the_future_takes_no_place():
    """b is nearer but was first asked on day 5: until then a, the one neighbour allowed, answers."""
    found = memory([("a", 5, 1, 1), ("b", 6, 5, 1)], [0.9, 1.0], num_neighbors=1)
    assert [found.similar("new", day, 5) for day in (1, 2, 5, 6)] == [(), (5,), (5,), (6,)]


def test_it_travels_to_the_processes_that_write_prompts():
    found = memory([("a", 5, 1, 1)], [1.0])
    found.embed = torch.ones  # a lambda does not travel, Khqe's method does
    assert pickle.loads(pickle.dumps(found)).own("a", 2, 5) == (5,)


def test_without_a_log_nothing_is_remembered():
    found = memory([], [])
    assert (found.own("a", 9, 5), found.similar("a", 9, 5), found.trending(9, 5)) == ((), (), ())


def test_trending_is_what_was_clicked_lately():
    """Item 0 had five clicks on day 1, item 2 three on day 10, item 1 two on day 20; the log ends there.

    On day 11 the first is still remembered, on day 21 no longer; a week after the end it is as on the last day.
    """
    clicks = np.array([[0, 5, 0], [0, 3, 0], [0, 2, 0]])
    counts = ItemCounts.of(np.array([0, 2, 1]), np.array([1, 10, 20]), clicks)
    found = ClickMemory({}, lambda _: torch.zeros(2), Counts([]), counts, num_items=4)
    assert TRENDING_DAYS == 14
    assert found.trending(1, 5) == ()
    assert found.trending(11, 5) == (0, 2)
    assert found.trending(11, 1) == (0,)
    assert found.trending(21, 5) == found.trending(28, 5) == (2, 1)


@pytest.mark.parametrize("seed", range(5))
def test_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    clicks = [
        ("abcdefgh"[rng.integers(8)], int(rng.integers(6)), int(rng.integers(5)), int(rng.integers(1, 9)))
        for _ in range(40)
    ]
    vectors = dict(zip("abcdefgh", normalize(torch.from_numpy(rng.normal(size=(8, 3))), dim=1), strict=True))
    items = {name: sorted({i for q, i, *_ in clicks if q == name}) for name in vectors}
    found = ClickMemory(items, vectors.get, Counts(clicks), NO_ITEM_COUNTS, 6, num_neighbors=3, min_cosine=0.0)
    cosine = {name: float(vector @ vectors["a"]) for name, vector in vectors.items()}
    score = dict.fromkeys(range(6), 0.0)
    asked = {name for name, _, day, _ in clicks if day < 3} - {"a"}
    for name in sorted(asked, key=lambda name: -cosine[name])[:3]:
        known = [(i, n) for q, i, d, n in clicks if q == name and d < 3]
        for item, number in known if cosine[name] >= 0 else []:
            score[item] += math.exp((cosine[name] - 1) / 0.05) * number / sum(n for _, n in known)
    want = sorted((item for item in score if score[item]), key=lambda item: (-score[item], item))
    assert found.similar("a", 3, 9) == tuple(want)
