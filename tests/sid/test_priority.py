import numpy as np
import pytest

from onesearch.sid.priority import bucket_priority


def test_availability_comes_before_any_history():
    priority = bucket_priority(np.array([False, True]), np.array([[1000, 900, 800], [0, 0, 0]]))
    assert priority[1] > priority[0]


def test_a_worked_example():
    """m = 10, items (exposures, clicks, orders) = (90, 10, 0) and (10, 10, 10): CTR = 20/100, CVR = 10/20.
    ctr = 12/100, 12/20 → scaled .2, 1; cvr = 5/20, 15/20 → ⅓, 1; log(11) both → 1, 1; orders 0, log(11) → 0, 1.
    Composite = (.2 + ⅓ + 1 + 0)/4 and 1.
    """
    priority = bucket_priority(np.array([False, False]), np.array([[90, 10, 0], [10, 10, 10]]), prior_strength=10)
    assert priority == pytest.approx([(0.2 + 1 / 3 + 1) / 4, 1.0])


def test_a_log_without_impressions_or_any_history_is_ranked():
    """Without exposures each click proves one, so no rate exceeds 1; more clicks still win."""
    priority = bucket_priority(np.array([True, True, True]), np.array([[0, 5, 0], [0, 50, 0], [0, 0, 0]]))
    assert priority[1] > priority[0] > priority[2]
    assert bucket_priority(np.array([True, False]), np.zeros((2, 3), int)).tolist() == [2.0, 0.0]


def test_counts_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"counts must be \[2, 3\]"):
        bucket_priority(np.array([True, True]), np.zeros((3, 3), int))
