"""Mined pairs against ItemCF counted by hand and by sets."""

import itertools
import math

import numpy as np
import pyarrow as pa
import pytest

from onesearch.log.pairs import mine


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


def mined(pairs, of, by, min_similarity, top_k):
    table = mine(clicks(pairs), of, by, min_similarity, top_k)
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
    assert mine(clicks(pairs), "query", "item_id", 0.1, 3).equals(mine(clicks(shuffled), "query", "item_id", 0.1, 3))


def test_no_clicks_give_no_pairs():
    assert mine(clicks([]), "query", "item_id", 0.1, 3).num_rows == 0
