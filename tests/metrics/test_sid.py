"""Right prefixes of written SIDs."""

import numpy as np

from onesearch.metrics.sid import prefix_matches


def test_a_prefix_is_right_where_all_codes_before_are():
    """By hand: two of three codes; none, though the last two agree; all of the second wanted SID."""
    written = np.array([[1, 2, 3], [0, 2, 3], [4, 5, 6]])
    wanted = [np.array([[1, 2, 9]]), np.array([[1, 2, 3]]), np.array([[4, 0, 6], [4, 5, 6]])]
    assert prefix_matches(written, wanted).tolist() == [[True, True, False], [False] * 3, [True] * 3]


def test_prefixes_of_two_wanted_sids_are_not_pieced_together():
    """4 of the one and 5 of the other make no 4-5."""
    wanted = [np.array([[4, 0], [9, 5]])]
    assert prefix_matches(np.array([[4, 5]]), wanted).tolist() == [[True, False]]


def test_no_search_has_no_match():
    assert prefix_matches(np.zeros((0, 3), int), []).shape == (0, 3)
