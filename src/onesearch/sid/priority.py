"""The order of items that share a SID: availability first, then a composite of historical CTR, CVR, clicks and orders.

    ctr = (clicks + m·CTR) / (exposures + m)      cvr = (orders + m·CVR) / (clicks + m)
    composite = (ctr/max ctr + cvr/max cvr + log(1 + clicks)/max + log(1 + orders)/max) / 4    in [0, 1]
    priority = 2·available + composite

CTR and CVR are the rates of the whole catalogue, so an item without a history has average rates. The paper names the
four signals and gives no formula; this one is ours: equal weights after scaling each to [0, 1].
"""

import numpy as np
from numpy.typing import NDArray

AVAILABLE = 2.0
"""What availability adds: more than any composite, so that nothing unavailable stands before something available."""


def bucket_priority(
    available: NDArray[np.bool_], counts: NDArray[np.integer], prior_strength: float = 10.0
) -> NDArray[np.float64]:
    """Compute the priority of each item in its bucket.

    Args:
        available: [N] whether the item can be bought.
        counts: [N, 3] exposures, clicks, orders of each item before the time of the answer.
        prior_strength: m, how many pseudo-exposures (and pseudo-clicks) pull a rate to the catalogue's.

    Returns:
        [N] priority, higher is better.
    """
    if counts.shape != (len(available), 3):
        raise ValueError(f"counts must be [{len(available)}, 3] (exposures, clicks, orders), but are {counts.shape}.")
    recorded, clicks, orders = np.asarray(counts, dtype=np.float64).T
    exposures = np.maximum(recorded, clicks)  # a log without impressions still proves one per click
    signals = (
        _smoothed_rate(clicks, exposures, prior_strength),
        _smoothed_rate(orders, clicks, prior_strength),
        np.log1p(clicks),
        np.log1p(orders),
    )
    composite = sum((_scaled(signal) for signal in signals), start=np.zeros(len(available))) / len(signals)
    return AVAILABLE * available + composite


def _smoothed_rate(hits: NDArray[np.float64], trials: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    overall = hits.sum() / max(trials.sum(), 1.0)
    rate: NDArray[np.float64] = (hits + strength * overall) / np.maximum(trials + strength, 1e-12)
    return rate


def _scaled(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    return signal / max(float(signal.max(initial=0.0)), 1e-12)
