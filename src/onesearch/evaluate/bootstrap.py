"""How far an average over searches could move by chance: percentile bootstrap (Efron 1979).

    m*_r = (1/S) Σ_s n_rs · v_s,   n_r ~ Multinomial(S; 1/S, …, 1/S)
    interval = the 2.5% and 97.5% quantiles of m*_1 … m*_R

All columns share the resamples, so the difference of two systems' columns is a paired comparison: the searches that are
easy for both cancel out.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Interval(NamedTuple):
    """An average over searches with its 95% interval."""

    value: float
    low: float
    high: float


def resampled_means(values: NDArray[np.float64], num_resamples: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """Averages of every column over searches drawn with replacement.

    Args:
        values: [S, X] one row a search, one column a system and metric.
        num_resamples: R.
        seed: of the drawing.

    Returns:
        [R, X].
    """
    rng = np.random.default_rng(seed)
    num_searches = len(values)
    # Counting how often each search is drawn keeps memory at S numbers a resample instead of R · S · X.
    draws = (rng.integers(num_searches, size=num_searches) for _ in range(num_resamples))
    counts = (np.bincount(draw, minlength=num_searches) for draw in draws)
    return np.stack([count @ values for count in counts]) / num_searches


def interval(value: float, means: NDArray[np.float64]) -> Interval:
    """The 95% percentile interval around an observed average.

    Args:
        value: the average over all searches.
        means: [R] the averages over resamples.
    """
    low, high = np.quantile(means, [0.025, 0.975]).tolist()
    # Where all searches score alike, sums in another order differ in the last bit.
    return Interval(value, min(low, value), max(high, value))
