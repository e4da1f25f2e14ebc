"""Calibration: does a predicted probability of .3 come true in 3 of 10 cases?

    ECE = Σ_b (n_b/n)·|mean prediction in b − share of positives in b|   over equal-width bins b of the prediction

Clicks are rare: nearly all predictions lie in the first of such bins. A diagram shows more where each bin holds as many
predictions (`equal_counts`); the ECE over those bins is reported beside the other.

Sources: Guo et al., On Calibration of Modern Neural Networks (2017); Nguyen and O'Connor (2015) for equal counts;
Wilson (1927) for the interval.
"""

import math
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


def equal_counts(probabilities: npt.ArrayLike, labels: npt.ArrayLike, num_bins: int = 10) -> Reliability:
    """The same over bins of as many predictions each, in ascending order; at most `num_bins`, none of them empty."""
    predicted, observed = np.asarray(probabilities, np.float64), np.asarray(labels, np.float64)
    order = np.argsort(predicted, kind="stable")
    parts = [part for part in np.array_split(order, num_bins) if len(part)]
    means = [np.array([values[part].mean() for part in parts]) for values in (predicted, observed)]
    return Reliability(means[0], means[1], np.array([len(part) for part in parts], np.int64))


def wilson(share: npt.ArrayLike, num: npt.ArrayLike, z: float = 1.96) -> tuple[npt.NDArray[np.float64], ...]:
    """Lower and upper end of the score interval of observed shares [bins] of `num` [bins] cases each."""
    p, n = np.asarray(share, np.float64), np.asarray(num, np.float64)
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


def expected_calibration_error(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, num_bins: int = 15, by_counts: bool = False
) -> float:
    """ECE of predictions [n] against outcomes [n], over bins of equal width or count; NaN when there are none."""
    bins = (equal_counts if by_counts else reliability)(probabilities, labels, num_bins)
    if not bins.num.sum():
        return math.nan
    return float(np.nansum(bins.num * np.abs(bins.predicted - bins.observed)) / bins.num.sum())
