"""How far an average over searches could move by chance: percentile bootstrap over users (Efron 1979).

    m*_r = Σ_u n_ru Σ_{s of u} v_s / Σ_u n_ru S_u,   n_r ~ Multinomial(U; 1/U, …, 1/U), over U users with S_u searches
    interval = the 2.5% and 97.5% quantiles of m*_1 … m*_R

Users are drawn with all their searches, since these are not independent: drawn one by one, intervals are too narrow.
A column may leave searches out that its metric cannot judge: they are NaN there, and S_u counts the others.
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


def resampled_means(
    values: NDArray[np.float64], users: NDArray[np.int64], num_resamples: int = 1000, seed: int = 0
) -> NDArray[np.float64]:
    """Averages of every column over the searches of users drawn with replacement.

    Args:
        values: [S, X] one row a search, one column a system and metric; NaN where a search is not judged.
        users: [S] number of the user of each search; all different where searches are independent.
        num_resamples: R.
        seed: of the drawing.

    Returns:
        [R, X]; NaN where no judged search was drawn.
    """
    rng = np.random.default_rng(seed)
    _, places = np.unique(users, return_inverse=True)
    num_users, judged = int(places.max()) + 1, ~np.isnan(values)
    sums, sizes = np.zeros((num_users, values.shape[1])), np.zeros((num_users, values.shape[1]))
    np.add.at(sums, places, np.where(judged, values, 0.0))
    np.add.at(sizes, places, judged)
    # Counting how often each user is drawn keeps memory at U numbers a resample instead of R · U · X.
    draws = (rng.integers(num_users, size=num_users) for _ in range(num_resamples))
    counts = (np.bincount(draw, minlength=num_users) for draw in draws)
    with np.errstate(invalid="ignore"):
        return np.stack([count @ sums / (count @ sizes) for count in counts])


def interval(value: float, means: NDArray[np.float64]) -> Interval:
    """The 95% percentile interval around an observed average.

    Args:
        value: the average over all searches.
        means: [R] the averages over resamples; those without a search (NaN) say nothing.
    """
    low, high = np.nanquantile(means, [0.025, 0.975]).tolist()
    # Where all searches score alike, sums in another order differ in the last bit.
    return Interval(value, min(low, value), max(high, value))
