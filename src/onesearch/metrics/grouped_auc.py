"""GAUC: the AUC inside each search, averaged over searches by their number of exposures.

    GAUC = Σ_s n_s·AUC_s / Σ_s n_s   over searches that hold both a positive and a negative

AUC_s is the share of (positive, negative) pairs in the right order, ties count half. A model that only knows which
searches end in clicks has a high AUC and a GAUC of one half.
Source: Zhu et al., Optimized Cost per Click in Taobao Display Advertising (2017).
"""

import numpy as np
import numpy.typing as npt


def grouped_auc(scores: npt.ArrayLike, labels: npt.ArrayLike, mask: npt.ArrayLike) -> float:
    """GAUC of padded lists; NaN when no list holds both classes.

    Args:
        scores: of each candidate, [S, X].
        labels: outcomes, [S, X], 0 or 1.
        mask: candidates that exist, [S, X] bool.
    """
    score, label, exists = np.asarray(scores), np.asarray(labels) > 0, np.asarray(mask, bool)
    pairs = (label & exists)[:, :, None] & (~label & exists)[:, None, :]
    wins = (score[:, :, None] > score[:, None, :]) + 0.5 * (score[:, :, None] == score[:, None, :])
    num_pairs = pairs.sum((1, 2))
    both = num_pairs > 0
    if not both.any():
        return float("nan")
    auc = (wins * pairs).sum((1, 2))[both] / num_pairs[both]
    return float(np.average(auc, weights=exists.sum(1)[both]))
