import numpy as np

from onesearch.metrics.drift import drift, drift_advice

FITTED = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]])


def figures(added, errors):
    added = np.array(added)
    return drift(FITTED, added, np.full(4, 0.1), np.array(errors), (2, 2), (2,))


def test_worked_example():
    """[0,0,0] is known, [0,0,1] is a new SID of a known prefix: half new SIDs, no new prefix; errors .1 and .3 → 2×."""
    found = figures([[0, 0, 0], [0, 0, 1]], [0.1, 0.3])
    assert (found["num_added"], found["new_sids"], found["new_prefixes"]) == (2, 0.5, 0.0)
    assert found["residual_ratio"] == 2.0
    assert found["icr_items_of_fit"] == 1.0
    assert found["icr_items"] == 4 / 6  # the two on [0, 0, 0] are no longer alone
    assert found["cur_l1_l2_change"] == 0.0
    coarse, crowded = drift_advice(found)
    assert coarse.startswith("New items are coded 2.0 times as coarsely")
    assert crowded.startswith("66.7% of all items are alone in their SID, 100.0% were")


def test_items_like_those_of_the_fit_ask_for_nothing():
    found = figures([[0, 0, 1]], [0.1])
    assert found["residual_ratio"] == 1.0
    assert drift_advice(found) == []
