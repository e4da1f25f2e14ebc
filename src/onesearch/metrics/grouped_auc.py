"""GAUC: the AUC inside each search, averaged over searches by their number of exposures.

    GAUC = Σ_s n_s·AUC_s / Σ_s n_s   over searches that hold both a positive and a negative

AUC_s is the share of (positive, negative) pairs in the right order, ties count half. A model that only knows which
searches end in clicks has a high AUC and a GAUC of one half.
Source: Zhu et al., Optimized Cost per Click in Taobao Display Advertising (2017).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

_MOST_PAIRS = 1_000_000  # compared at once: some megabytes, however many searches there are


def grouped_auc(scores: npt.ArrayLike, labels: npt.ArrayLike, mask: npt.ArrayLike) -> float:
    """GAUC of padded lists; NaN when no list holds both classes.

    Args:
        scores: of each candidate, [S, X].
        labels: outcomes, [S, X], 0 or 1.
        mask: candidates that exist, [S, X] bool.
    """
    score, label, exists = np.asarray(scores), np.asarray(labels) > 0, np.asarray(mask, bool)
    searches, width = score.shape
    step = max(1, _MOST_PAIRS // max(1, width) ** 2)
    starts = range(0, searches, step)
    auc = np.concatenate(
        [np.empty(0), *(_auc(*(part[at : at + step] for part in (score, label, exists))) for at in starts)]
    )
    both = ~np.isnan(auc)
    return float(np.average(auc[both], weights=exists.sum(1)[both])) if both.any() else float("nan")


def _auc(score: npt.NDArray[Any], label: npt.NDArray[np.bool_], exists: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """The AUC of each search, [S]; NaN where a class is missing."""
    pairs = (label & exists)[:, :, None] & (~label & exists)[:, None, :]
    wins = (score[:, :, None] > score[:, None, :]) + 0.5 * (score[:, :, None] == score[:, None, :])
    num_pairs = pairs.sum((1, 2))
    return np.where(num_pairs > 0, (wins * pairs).sum((1, 2)) / np.maximum(num_pairs, 1), np.nan)
