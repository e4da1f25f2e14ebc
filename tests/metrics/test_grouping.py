"""Groupings of items: worked examples, scikit-learn as the independent reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from onesearch.metrics.grouping import adjusted_rand, groups, numbers, pairs_kept, purity, purity_by_class

GROUPS = np.array([0, 0, 0, 1, 1, 2])
CLASSES = np.array([0, 0, 1, 1, 1, 1])
"""Group 0 holds classes 0, 0, 1; group 1 holds 1, 1; group 2 holds 1."""


def test_purity_worked_example():
    """Majorities 2 of 3, 2 of 2, 1 of 1: 5 of 6 items."""
    assert purity(GROUPS, CLASSES) == pytest.approx(5 / 6)


def test_purity_by_class_worked_example():
    """Both items of class 0 lie in group 0, where it is the most frequent; 3 of the 4 of class 1 lie in groups 1, 2."""
    assert purity_by_class(GROUPS, CLASSES).tolist() == [1.0, 0.75]


def test_pairs_kept_worked_example():
    """Pairs together in GROUPS: 01, 02, 12, 34. In CLASSES 01 and 34 still are: 2 of 4. No pair: all kept."""
    assert pairs_kept(GROUPS, CLASSES) == 0.5
    assert pairs_kept(np.arange(6), CLASSES) == 1.0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=40))
def test_adjusted_rand_is_that_of_scikit_learn(pairs):
    left, right = np.array(pairs).T
    assert adjusted_rand(left, right) == pytest.approx(adjusted_rand_score(left, right), abs=1e-12)


def test_rows_and_names_become_numbers():
    """Equal rows share a number; names are numbered in alphabetical order."""
    assert groups(np.array([[1, 2], [0, 9], [1, 2]])).tolist() == [1, 0, 1]
    assert numbers(["b", "a", "b"]).tolist() == [1, 0, 1]
