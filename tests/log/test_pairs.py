"""Mined pairs against ItemCF and Swing counted by hand and by sets."""

import collections
import itertools
import math

import numpy as np
import pyarrow as pa
import pytest

from onesearch.log.pairs import ItemCf, Swing, mine, mine_all


def clicks(pairs):
    return pa.table({"query": [q for q, _ in pairs], "item_id": [i for _, i in pairs]})


def brute_force(pairs, min_similarity, top_k):
    """|Q_a ∩ Q_b| / sqrt(|Q_a|·|Q_b|) of all item pairs a < b; of each a the top_k, ties by the name of b."""
    queries = {}
    for query, item in pairs:
        queries.setdefault(item, set()).add(query)
    found = {}
    for a, b in itertools.combinations(sorted(queries), 2):
        common = len(queries[a] & queries[b])
        similarity = common / math.sqrt(len(queries[a]) * len(queries[b]))
        if common and similarity >= min_similarity:
            found.setdefault(a, []).append((-similarity, b))
    return {(a, b): -similarity for a, partners in found.items() for similarity, b in sorted(partners)[:top_k]}


def brute_force_swing(pairs, alpha, top_k, max_degree):
    """The formula over sets, for items linked by queries, after the cap on both sides."""
    num_queries, num_items = (collections.Counter(pair[side] for pair in pairs) for side in (1, 0))

    def capped(side, key):
        """Edges that are among the first `max_degree` of their link (side 0) or text (side 1)."""
        kept = set()
        for name in {pair[side] for pair in pairs}:
            kept |= set(sorted((pair for pair in pairs if pair[side] == name), key=key)[:max_degree])
        return kept

    edges = capped(0, lambda p: (-num_queries[p[1]], p[1])) & capped(1, lambda p: (num_items[p[0]], p[0]))
    items = {query: {i for q, i in edges if q == query} for query, _ in edges}
    scores = collections.Counter()
    for u, v in itertools.combinations(sorted(items), 2):
        common = items[u] & items[v]
        for a, b in itertools.combinations(sorted(common), 2):
            scores[a, b] += 1 / math.sqrt(len(items[u]) * len(items[v])) / (alpha + len(common))
    partners = {}
    for (a, b), score in scores.items():
        partners.setdefault(a, []).append((-round(score, 12), b))
    return {(a, b): -score for a, found in partners.items() for score, b in sorted(found)[:top_k]}


def mined(pairs, of, by, *arguments, miner=ItemCf):
    table = mine(clicks(pairs), of, by, miner(*arguments))
    return {(row["left"], row["right"]): row["similarity"] for row in table.to_pylist()}


def test_by_hand():
    """x is clicked for q1 q2, y for q2 q3, z for q4: sim(x, y) = 1/√(2·2) = ½, and z is alone."""
    pairs = [("q1", "x"), ("q2", "x"), ("q2", "y"), ("q3", "y"), ("q4", "z")]
    assert mined(pairs, "item_id", "query", 0.1, 10) == {("x", "y"): pytest.approx(0.5)}
    assert mined(pairs, "item_id", "query", 0.6, 10) == {}
    # Queries: q1 = {x}, q2 = {x, y}, q3 = {y}: 1/√2 each.
    want = {("q1", "q2"): pytest.approx(2**-0.5), ("q2", "q3"): pytest.approx(2**-0.5)}
    assert mined(pairs, "query", "item_id", 0.1, 10) == want


@pytest.mark.parametrize(("seed", "min_similarity", "top_k"), [(0, 0.0, 100), (1, 0.3, 100), (2, 0.1, 2)])
def test_equals_brute_force(seed, min_similarity, top_k):
    rng = np.random.default_rng(seed)
    pairs = sorted({(f"q{q}", f"i{i}") for q, i in rng.integers([15, 12], size=(70, 2))})
    want = brute_force(pairs, min_similarity, top_k)
    assert mined(pairs, "item_id", "query", min_similarity, top_k) == pytest.approx(want)
    assert len(want) > 5


def test_the_order_is_fixed():
    """The same clicks in another order give the same table, row by row."""
    rng = np.random.default_rng(3)
    pairs = sorted({(f"q{q}", f"i{i}") for q, i in rng.integers([15, 12], size=(70, 2))})
    shuffled = [pairs[row] for row in rng.permutation(len(pairs))]
    for miner in (ItemCf(0.1, 3), Swing(1.0, 3)):
        assert mine(clicks(pairs), "query", "item_id", miner).equals(mine(clicks(shuffled), "query", "item_id", miner))


def test_no_clicks_give_no_pairs():
    assert mine_all(clicks([]), "query", "item_id", [ItemCf(), Swing()]) == []


def test_swing_by_hand():
    """q1 = {x, y}, q2 = {x, y, z}, q3 = {z, w}: only q1 and q2 share two items.

    w_1·w_2/(α + |{x, y}|) = 1/√(2·3)/(1 + 2). x and z meet in q2 alone: no swing, though ItemCF pairs them.
    """
    pairs = [("q1", "x"), ("q1", "y"), ("q2", "x"), ("q2", "y"), ("q2", "z"), ("q3", "z"), ("q3", "w")]
    assert mined(pairs, "item_id", "query", 1.0, 10, miner=Swing) == {("x", "y"): pytest.approx(1 / math.sqrt(6) / 3)}
    assert ("x", "z") in mined(pairs, "item_id", "query", 0.1, 10)
    # Queries: x links q1 q2, y links q1 q2, z links q2 q3: x and y share both queries, 1/√(2·2)/(1 + 2).
    assert mined(pairs, "query", "item_id", 1.0, 10, miner=Swing) == {("q1", "q2"): pytest.approx(1 / 6)}


@pytest.mark.parametrize(
    ("seed", "alpha", "top_k", "max_degree"), [(0, 1.0, 100, 100), (1, 5.0, 2, 100), (2, 0.5, 9, 4)]
)
def test_swing_equals_brute_force(seed, alpha, top_k, max_degree):
    rng = np.random.default_rng(seed)
    pairs = sorted({(f"q{q}", f"i{i}") for q, i in rng.integers([15, 12], size=(100, 2))})
    want = brute_force_swing(pairs, alpha, top_k, max_degree)
    assert mined(pairs, "item_id", "query", alpha, top_k, max_degree, miner=Swing) == pytest.approx(want)
    mirrored = [(item, query) for query, item in pairs]
    assert mined(mirrored, "query", "item_id", alpha, top_k, max_degree, miner=Swing) == pytest.approx(want)
    assert len(want) > 5


def test_the_cap_bounds_a_head_query():
    """One query with 3000 items would make 4.5 million pairs with its twin; with a cap of 10 they make 10·9/2."""
    pairs = [(query, f"i{item:04d}") for query in ("head", "twin") for item in range(3000)]
    for miner in (Swing(top_k=100, max_degree=10), ItemCf(top_k=100, max_degree=10)):
        table = mine(clicks(pairs), "item_id", "query", miner)
        names = set(table["left"].to_pylist()) | set(table["right"].to_pylist())
        assert table.num_rows == 45
        assert names == {f"i{item:04d}" for item in range(10)}


def test_what_two_miners_find_adds_up():
    """Each pair once, in order; ItemCF alone finds (x, z), both find (x, y)."""
    pairs = clicks([("q1", "x"), ("q1", "y"), ("q2", "x"), ("q2", "y"), ("q2", "z")])
    assert mine_all(pairs, "item_id", "query", [Swing()]) == [("x", "y")]
    assert mine_all(pairs, "item_id", "query", [Swing(), ItemCf()]) == [("x", "y"), ("x", "z"), ("y", "z")]
