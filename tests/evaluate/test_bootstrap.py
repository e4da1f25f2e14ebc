import numpy as np
import pytest
from scipy.stats import bootstrap

from onesearch.evaluate.bootstrap import interval, resampled_means


def test_agrees_with_the_normal_approximation_and_scipy():
    """2,000 searches, hit rate 0.3: the standard error is sqrt(.3 · .7 / 2000) = 0.01025, the interval ± 1.96 of it."""
    values = (np.arange(2000) % 10 < 3).astype(float)
    found = interval(values.mean(), resampled_means(values[:, None], np.arange(2000), 2000, seed=1)[:, 0])
    assert found.value == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx((0.3 - 0.0201, 0.3 + 0.0201), abs=0.0015)
    expected = bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=2).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.0015)


def test_an_interval_holds_its_value_to_the_last_bit():
    """Eight searches that score alike: every mean is the same number up to rounding, and the interval is a point."""
    assert interval(0.1, np.array([np.nextafter(0.1, 1)] * 3)) == (0.1, 0.1, np.nextafter(0.1, 1))
    assert interval(0.1, np.array([np.nextafter(0.1, 0)] * 3)) == (0.1, np.nextafter(0.1, 0), 0.1)


def test_columns_share_their_resamples():
    """A column that is always 0.1 above another differs by exactly 0.1 in every resample: the test is paired."""
    values = np.random.default_rng(0).random((300, 1))
    means = resampled_means(np.hstack([values, values + 0.1]), np.arange(300), 50)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 0.1)
    assert means[:, 0].std() > 0


def test_seeds():
    values = np.random.default_rng(0).random((50, 2))
    first, again, other = (resampled_means(values, np.arange(50), 20, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_users_are_drawn_with_all_their_searches():
    """User 7 finds [1, 1, 1], user 2 [0]: drawn twice, once or not at all, the mean is 1, 3/4 or 0; a half are 3/4."""
    means = resampled_means(np.array([[1.0], [1.0], [0.0], [1.0]]), np.array([7, 7, 2, 7]), 400)[:, 0]
    assert set(means) == {0.0, 0.75, 1.0}
    assert np.mean(means == 0.75) == pytest.approx(0.5, abs=0.08)


def test_twenty_searches_of_each_user_tell_no_more_than_one():
    """100 users whose searches all score alike: the standard error is that of 100 draws, not of 2,000."""
    of_user = np.arange(100) % 10 < 3
    values, users = np.repeat(of_user, 20).astype(float)[:, None], np.repeat(np.arange(100), 20)
    assert resampled_means(values, users, 2000).std() == pytest.approx((0.3 * 0.7 / 100) ** 0.5, rel=0.06)
    assert resampled_means(values, np.arange(2000), 2000).std() == pytest.approx((0.3 * 0.7 / 2000) ** 0.5, rel=0.06)


def test_a_search_that_is_not_judged_counts_for_nobody():
    """A column with gaps has the means of the same users' judged searches alone, resample by resample.

    User 0's only search is not judged: a resample of user 0 alone says nothing.
    """
    rng = np.random.default_rng(0)
    values, users = rng.random((60, 1)), np.arange(60) // 3
    gaps = np.where((np.arange(60) % 3 == 1)[:, None], np.nan, values)
    judged = ~np.isnan(gaps[:, 0])
    expected = resampled_means(values[judged], users[judged], 50)
    np.testing.assert_allclose(resampled_means(np.hstack([values, gaps]), users, 50)[:, 1], expected[:, 0])
    lone = resampled_means(np.array([[np.nan], [1.0]]), np.array([0, 1]), 40)[:, 0]
    assert set(lone[~np.isnan(lone)]) == {1.0}
    assert 0 < np.isnan(lone).sum() < 40
    assert interval(1.0, lone) == (1.0, 1.0, 1.0)
