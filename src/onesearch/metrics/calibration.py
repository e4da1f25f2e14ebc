"""Calibration: does a predicted probability of .3 come true in 3 of 10 cases?

    ECE = Σ_b (n_b/n)·|mean prediction in b − share of positives in b|   over equal-width bins b of the prediction

Source: Guo et al., On Calibration of Modern Neural Networks (2017).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Reliability(NamedTuple):
    """Bins of a reliability diagram; NaN means where a bin is empty."""

    predicted: npt.NDArray[np.float64]  # [bins] mean prediction
    observed: npt.NDArray[np.float64]  # [bins] share of positives
    num: npt.NDArray[np.int64]  # [bins] predictions in the bin


def reliability(probabilities: npt.ArrayLike, labels: npt.ArrayLike, num_bins: int = 15) -> Reliability:
    """Mean prediction and share of positives in each of `num_bins` equal-width bins of [0, 1].

    Args:
        probabilities: predictions, [n], 0 to 1.
        labels: outcomes, [n], 0 or 1.
        num_bins: number of bins; the last one holds 1.0 too.
    """
    predicted, observed = np.asarray(probabilities, np.float64), np.asarray(labels, np.float64)
    bins = np.minimum((predicted * num_bins).astype(np.int64), num_bins - 1)
    num = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, weights=values, minlength=num_bins) / num for values in (predicted, observed)]
    return Reliability(means[0], means[1], num)


def expected_calibration_error(probabilities: npt.ArrayLike, labels: npt.ArrayLike, num_bins: int = 15) -> float:
    """ECE of predictions [n] against outcomes [n]; NaN when there are none."""
    predicted, observed, num = reliability(probabilities, labels, num_bins)
    if not num.sum():
        return float("nan")
    return float(np.nansum(num * np.abs(predicted - observed)) / num.sum())
