"""Popular items of the nearest queries, by hand and by brute force, as of each day."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from onesearch.behavior.popular import NearestQueries


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


def nearest(clicks, cosines, **options):
    """Queries 'a', 'b', … at these cosines from the direction e_0."""
    names = "abcdefgh"[: len(cosines)]
    vectors = torch.tensor([[c, math.sqrt(1 - c * c)] for c in cosines])
    items = [sorted({i for q, i, *_ in clicks if q == name}) for name in names]
    return NearestQueries(list(names), vectors, items, Counts(clicks), **options)


DIRECTION = torch.tensor([1.0, 0.0])


def test_by_hand():
    """Query a at cosine 1 has clicks 3 : 1 on items 5, 6; b at .95 all on 6: scores .75 and .25 + e^-1 = .618."""
    clicks = [("a", 5, 1, 3), ("a", 6, 1, 1), ("b", 6, 1, 9)]
    found = nearest(clicks, [1.0, 0.95], temperature=0.05)
    assert found.popular(DIRECTION, 2, 5) == (5, 6)
    assert found.popular(DIRECTION, 2, 1) == (5,)
    assert found.popular(DIRECTION, 2, 5, hidden_from=0.99) == (6,)


def test_clicks_of_the_day_itself_are_not_known_yet():
    """On day 1 nothing had been clicked, on day 2 item 5, on day 4 more often item 6."""
    found = nearest([("a", 5, 1, 1), ("a", 6, 3, 2)], [1.0])
    assert [found.popular(DIRECTION, day, 5) for day in (1, 2, 3, 4)] == [(), (5,), (5,), (6, 5)]


def test_far_queries_are_no_neighbours():
    found = nearest([("a", 5, 1, 1), ("b", 6, 1, 1)], [0.9, 0.4], min_cosine=0.5)
    assert found.popular(DIRECTION, 2, 5) == (5,)
    assert nearest([("a", 5, 1, 1)], [0.4], min_cosine=0.5).popular(DIRECTION, 2, 5) == ()


def test_near_wordings_are_hidden_with_the_query():
    """Hidden from .85 on, of three neighbours at 1, .9 and .8 the last is left."""
    clicks = [(name, item, 1, 1) for item, name in enumerate("abc")]
    assert nearest(clicks, [1.0, 0.9, 0.8]).popular(DIRECTION, 2, 5, hidden_from=0.85) == (2,)


def test_the_querys_own_items_stand_first():
    """b is nearer: by score 6 (.9), 5 (e^-.6 = .55), 7 (.1). Asked as a, its 5 comes first; not where it is hidden."""
    clicks = [("a", 5, 1, 1), ("b", 6, 1, 9), ("b", 7, 1, 1)]
    found = nearest(clicks, [0.97, 1.0])
    assert found.popular(DIRECTION, 2, 5) == (6, 5, 7)
    assert found.popular(DIRECTION, 2, 5, query="a") == (5, 6, 7)
    assert found.popular(DIRECTION, 2, 5, query="new") == (6, 5, 7)
    assert found.popular(DIRECTION, 2, 5, hidden_from=0.99, query="a") == (5,)


def test_a_hidden_query_gives_its_place_away():
    """Of two neighbours allowed, the hidden one does not count."""
    clicks = [(name, item, 1, 1) for item, name in enumerate("abc")]
    found = nearest(clicks, [1.0, 0.9, 0.8], num_neighbors=2)
    assert found.popular(DIRECTION, 2, 5) == (0, 1)
    assert found.popular(DIRECTION, 2, 5, hidden_from=0.99) == (1, 2)


@pytest.mark.parametrize("seed", range(5))
def test_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    clicks = [
        ("abcdefgh"[rng.integers(8)], int(rng.integers(6)), int(rng.integers(5)), int(rng.integers(1, 9)))
        for _ in range(40)
    ]
    vectors = normalize(torch.from_numpy(rng.normal(size=(8, 3))), dim=1)
    items = [sorted({i for q, i, *_ in clicks if q == name}) for name in "abcdefgh"]
    found = NearestQueries(list("abcdefgh"), vectors, items, Counts(clicks), num_neighbors=3, min_cosine=0.0)
    query, day = vectors[0], 3
    cosine = (vectors @ query).tolist()
    score = dict.fromkeys(range(6), 0.0)
    for row in sorted(range(8), key=lambda row: -cosine[row])[:3]:
        known = [(i, n) for q, i, d, n in clicks if q == "abcdefgh"[row] and d < day]
        for item, number in known if cosine[row] >= 0 else []:
            score[item] += math.exp((cosine[row] - 1) / 0.05) * number / sum(n for _, n in known)
    want = sorted((item for item in score if score[item]), key=lambda item: (-score[item], item))
    assert found.popular(query, day, 9) == tuple(want)
