"""The columns of a table of lists against the same row by row, each by its formula."""

import math

import numpy as np
import pytest
import torch

from onesearch.log.counts import PairCounts
from onesearch.losses import LEVEL_WEIGHTS
from onesearch.tasks.preference import PreferenceList
from onesearch.tasks.preference_table import list_table, pair_columns, rewards

ITEM_IDS = [f"i{row}" for row in range(6)]
COUNTED = {("boots", 0): (100, 20, 5), ("boots", 1): (100, 0, 0), ("boots", 2): (40, 10, 0), ("rug", 0): (3, 3, 3)}


@pytest.fixture
def counts():
    queries, items = zip(*COUNTED, strict=True)
    return PairCounts.of(queries, np.array(items), np.zeros(4, np.int64), np.array(list(COUNTED.values())))


def reward(query, item, level):
    """r(q,i) by hand."""
    pos, clk, order = (math.log(n + 10) for n in COUNTED.get((query, item), (0, 0, 0)))
    ctr, cvr = clk / (pos + clk + order), order / clk
    return 2 * LEVEL_WEIGHTS[level] * ctr * cvr / (ctr + cvr)


def weight(gap):
    return 3.0 if gap == 0 else min(3.0, 1 / gap) if gap > 0 else 0.0


def test_rewards_of_a_table(counts):
    """Row by row; a pair, or a query, that nobody has counted has λ/2."""
    queries, items, levels = ["boots", "rug", "boots", "boots", "lamp"], [0, 0, 1, 5, 0], [0, 2, 3, 4, 1]
    got = rewards(counts, queries, np.array(items), np.array(levels))
    assert got.dtype == np.float64
    assert got == pytest.approx([reward(*row) for row in zip(queries, items, levels, strict=True)], rel=1e-12)
    assert got[3:].tolist() == pytest.approx([0.2 / 2, 1.5 / 2])


@pytest.fixture
def lists(make_search):
    boots, rug = (make_search(search_id=name, query=name) for name in ("boots", "rug"))
    return [
        PreferenceList(boots, 0, (1, 5, 2), (0, 3, 4, 2)),
        PreferenceList(rug, 3, (4,), (5, 5)),
        PreferenceList(boots, 1, (0, 2), (3, 0, 2)),
    ]


def test_a_table_is_its_lists_row_by_row(counts, lists):
    """Rewards by hand; weights 1/gap, at most 3, 3 for equal rewards (λ = 0 both), 0 for the inverted third list."""
    reference = -torch.arange(12.0).reshape(3, 4)
    rows = list_table(lists, reference, counts, ITEM_IDS, 3.0).to_pylist()
    for row, one, logs in zip(rows, lists, reference.tolist(), strict=True):
        items = one.chosen, *one.rejected
        found = [reward(one.context.query, item, level) for item, level in zip(items, one.levels, strict=True)]
        assert row["search_id"] == one.context.search_id
        assert [row["chosen"], *row["rejected"]] == [ITEM_IDS[item] for item in items]
        assert [row["reference_chosen"], *row["reference_rejected"]] == logs[: len(items)]
        assert row["levels"] == list(one.levels)
        assert row["rewards"] == pytest.approx(found, rel=1e-12)
        assert row["weights"] == pytest.approx([weight(found[0] - other) for other in found[1:]], rel=1e-12)
    assert rows[1]["weights"] == [3.0]
    assert rows[2]["weights"] == [0.0, 0.0]


def test_what_no_item_has_is_beside_the_items_of_a_table(counts, lists):
    """SIDs and their log-probabilities, behind those of the items; it weighs the most. A soft list has no weights."""
    lists[2] = lists[2]._replace(shares=(0.5, 0.3, 0.2))
    invalid = [np.array([[1, 2], [0, 3]]), np.empty((0, 2), np.int64), np.array([[3, 3]])]
    reference = -torch.arange(18.0).reshape(3, 6)
    table = list_table(lists, reference, counts, ITEM_IDS, 3.0, invalid)
    alone = list_table(lists, reference, counts, ITEM_IDS, 3.0)
    for row, want in zip(table.to_pylist(), alone.to_pylist(), strict=True):
        for name in want.keys() - {"invalid", "reference_invalid"}:
            assert row[name] == want[name]
    assert table["invalid"].to_pylist() == [[[1, 2], [0, 3]], [], [[3, 3]]]
    assert table["reference_invalid"].to_pylist() == [[-4, -5], [], [-15]]
    assert table["invalid_weight"].to_pylist() == [3, 3, None]
    assert [row is None for row in table["weights"].to_pylist()] == [False, False, True]
    assert table["rewards"].to_pylist()[2] is None
    assert alone["invalid"].to_pylist() == alone["reference_invalid"].to_pylist() == [[], [], []]
    assert pair_columns(table).rejected.tolist() == pair_columns(alone).rejected.tolist()


def test_pairs_of_a_table(counts, lists):
    """Each rejected item beside its chosen one, of the lists in their order."""
    reference = -torch.arange(12.0).reshape(3, 4)
    table = list_table(lists, reference, counts, ITEM_IDS, 3.0)
    pairs = pair_columns(table)
    assert pairs.numbers.tolist() == [0, 0, 0, 1, 2, 2]
    assert pairs.chosen.tolist() == [0, 0, 0, -4, -8, -8]
    assert pairs.rejected.tolist() == [-1, -2, -3, -5, -9, -10]
    want = [r[0] - other for r in table["rewards"].to_pylist() for other in r[1:]]
    assert pairs.reward_gaps == pytest.approx(want)
    assert pairs.weights.tolist() == [w for row in table["weights"].to_pylist() for w in row]


def test_soft_lists_have_pairs_without_weights(counts, lists):
    soft = [one._replace(shares=(1 / len(one.levels),) * len(one.levels)) for one in lists]
    reference = -torch.arange(12.0).reshape(3, 4)
    pairs, want = (pair_columns(list_table(some, reference, counts, ITEM_IDS, 3.0)) for some in (soft, lists))
    assert (pairs.reward_gaps, pairs.weights) == (None, None)
    for name in ("numbers", "chosen", "rejected"):
        assert getattr(pairs, name).tolist() == getattr(want, name).tolist()
