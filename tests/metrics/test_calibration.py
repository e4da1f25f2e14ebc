"""Calibration and grouped AUC: worked by hand, then against torchmetrics and scikit-learn."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.functional.classification import binary_calibration_error

from onesearch.metrics.calibration import equal_counts, expected_calibration_error, reliability, wilson
from onesearch.metrics.grouped_auc import grouped_auc


def test_ece_by_hand():
    """Bins of .5: {.1, .3} mean .2, observed 0; {.6, .8} mean .7, observed .5: (2·.2 + 2·.2)/4 = .2."""
    assert expected_calibration_error([0.1, 0.3, 0.6, 0.8], [0, 0, 1, 0], num_bins=2) == pytest.approx(0.2)


def test_reliability_counts_every_prediction_once():
    """1.0 belongs to the last bin; the empty middle bin has no mean."""
    predicted, observed, num = reliability([0.0, 1.0, 0.9], [0, 1, 0], num_bins=3)
    assert num.tolist() == [1, 0, 2]
    assert math.isnan(predicted[1])
    assert predicted[2] == pytest.approx(0.95)
    assert observed[2] == 0.5


def test_ece_equals_torchmetrics():
    rng = np.random.default_rng(0)
    probability, label = rng.random(2000), rng.integers(0, 2, 2000)
    theirs = binary_calibration_error(torch.tensor(probability), torch.tensor(label), n_bins=15, norm="l1")
    assert expected_calibration_error(probability, label) == pytest.approx(theirs.item(), abs=1e-6)


def test_bins_of_equal_counts():
    """Five cases in two bins: the three least likely, then two; .1 .2 .3 → .2, one of three; .4 .9 → .65, both."""
    predicted, observed, num = equal_counts([0.9, 0.1, 0.3, 0.2, 0.4], [1, 0, 1, 0, 1], num_bins=2)
    assert num.tolist() == [3, 2]
    assert predicted.tolist() == pytest.approx([0.2, 0.65])
    assert observed.tolist() == pytest.approx([1 / 3, 1])
    ece = expected_calibration_error([0.9, 0.1, 0.3, 0.2, 0.4], [1, 0, 1, 0, 1], 2, by_counts=True)
    assert ece == pytest.approx((3 * (1 / 3 - 0.2) + 2 * 0.35) / 5)
    assert len(equal_counts([0.5], [1], num_bins=10).num) == 1


def test_equal_counts_show_what_equal_widths_hide():
    """Rates of 1% and 3%, both called 2%: in one bin of equal width the errors cancel, in two of equal counts not."""
    predicted = np.repeat([0.0199, 0.0201], 1000)
    labels = np.concatenate([np.arange(1000) < 10, np.arange(1000) < 30])
    assert expected_calibration_error(predicted, labels) < 1e-6
    assert expected_calibration_error(predicted, labels, 2, by_counts=True) == pytest.approx(0.01, abs=2e-4)


def test_wilson_interval_against_its_equation():
    """Its ends are the rates p for which (observed − p)² = z²·p(1 − p)/n; none of ten does not mean none ever."""
    shares, num = np.array([0.0, 0.3, 1.0]), np.array([10, 50, 7])
    low, high = wilson(shares, num)
    for end in (low, high):
        np.testing.assert_allclose((shares - end) ** 2, 1.96**2 * end * (1 - end) / num, atol=1e-12)
    assert low[0] == pytest.approx(0) and 0.2 < high[0] < 0.3


def test_nothing_predicted_is_nan():
    assert math.isnan(expected_calibration_error([], []))
    assert math.isnan(grouped_auc([[0.1, 0.2]], [[1, 1]], [[True, True]]))


def test_grouped_auc_by_hand():
    """Search 0: one of two pairs in order, 3 exposures. Search 1: a tie, 2 exposures; its padded positive is ignored.

    (3·.5 + 2·.5)/5 = .5; search 2 has no click and counts for nothing.
    """
    scores = [[0.5, 0.9, 0.1], [0.4, 0.4, 0.9], [0.1, 0.2, 0.3]]
    labels = [[1, 0, 0], [1, 0, 1], [0, 0, 0]]
    mask = [[True, True, True], [True, True, False], [True, True, True]]
    assert grouped_auc(scores, labels, mask) == pytest.approx(0.5)
    assert grouped_auc([[0.5, 0.1, 0.2]], [[1, 0, 0]], [[True] * 3]) == 1


def test_grouped_auc_equals_scikit_learn_search_by_search():
    rng = np.random.default_rng(1)
    scores, labels, mask = rng.integers(0, 5, (40, 8)), rng.integers(0, 2, (40, 8)), rng.random((40, 8)) < 0.8
    total = weight = 0.0
    for score, label, kept in zip(scores, labels, mask, strict=True):
        if 0 < label[kept].sum() < kept.sum():
            total += kept.sum() * roc_auc_score(label[kept], score[kept])
            weight += kept.sum()
    assert grouped_auc(scores, labels, mask) == pytest.approx(total / weight)


def test_grouped_auc_takes_no_more_memory_for_more_searches():
    """Of 2,000 lists of 100 all pairs at once would be 160 MB; what is found hangs on no chunk."""
    rng = np.random.default_rng(2)
    scores, labels, mask = rng.random((2000, 100)), rng.random((2000, 100)) < 0.1, np.ones((2000, 100), bool)
    tracemalloc.start()
    whole = grouped_auc(scores, labels, mask)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6
    assert whole == pytest.approx(
        np.mean([grouped_auc(scores[at : at + 500], labels[at : at + 500], mask[:500]) for at in range(0, 2000, 500)]),
        abs=1e-3,
    )
