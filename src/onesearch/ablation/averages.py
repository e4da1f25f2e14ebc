"""How well variants answer, and how far each lies from the first one on the same searches.

    v_xs   = mean over seeds of the metric of variant x at search s
    value  = mean_s v_xs            difference = mean_s (v_xs − v_1s)

Their 95% intervals are bootstrapped over users (`evaluate.bootstrap`). All variants share the resamples, so that
differences are paired: users who are easy for both cancel out. Where the log knows of orders, `oNDCG@10` judges the
searches that it can (`evaluate.orders`). What another seed would change is not in these
intervals: the figure of each seed stands beside them.

Shapes: V variants, T seeds, S searches, M metrics, R resamples.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onesearch.ablation.answers import DEPTH
from onesearch.evaluate.bootstrap import interval, resampled_means
from onesearch.evaluate.orders import ORDERS_METRIC
from onesearch.metrics.ranking import Values, hit_rate, hits, recall, reciprocal_rank

METRICS = (f"HR@{DEPTH}", f"recall@{DEPTH}", f"MRR@{DEPTH}")

Averages = dict[str, Any]
"""{"num_searches": S, "metrics": {name: figure}, "differences": {name: figure}}, a figure being
{"value", "low", "high", "seeds": one value a seed}. The first variant has no differences."""


def judged(ranked: NDArray[np.int64], relevant: Sequence[Collection[int]], orders: Values | None = None) -> Values:
    """[S, M] in the order of METRICS and, where it is known, `ORDERS_METRIC`.

    Args:
        ranked: [S, DEPTH] item rows.
        relevant: [S] sets of clicked item rows, none of them empty.
        orders: [S] `oNDCG@10`, NaN where a search cannot be judged.
    """
    found = hits(ranked, relevant)
    num_relevant = np.array([len(items) for items in relevant])
    of_clicks = [hit_rate(found, DEPTH), recall(found, num_relevant, DEPTH), reciprocal_rank(found, DEPTH)]
    return np.stack([*of_clicks, *([] if orders is None else [orders])], axis=1)


def averages(
    values: Values, users: NDArray[np.int64], compares: bool = True, num_resamples: int = 1000, seed: int = 0
) -> list[Averages]:
    """Averages over searches, a variant each.

    Args:
        values: [V, T, S, M] metrics, NaN where a search is not judged, by whatever variant.
        users: [S] number of the user of each search.
        compares: whether the others are compared with the first variant.
        num_resamples: R, over users.
        seed: of the resampling.
    """
    values = values[..., ~np.isnan(values).all(axis=(0, 1, 2))]  # a slice may hold no search with an order
    num_variants, _, num_searches, num_metrics = values.shape
    by_search = values.mean(axis=1).transpose(1, 0, 2)  # [S, V, M]
    by_seed = np.nanmean(values, axis=2).transpose(0, 2, 1)  # [V, M, T]
    flat = by_search.reshape(num_searches, -1)
    resampled = resampled_means(flat, users, num_resamples, seed).T.reshape(num_variants, num_metrics, -1)
    found: list[Averages] = []
    for variant in range(num_variants):
        gains = by_seed[variant] - by_seed[0], resampled[variant] - resampled[0]
        differences = _figures(*gains) if compares and variant else {}
        metrics = _figures(by_seed[variant], resampled[variant])
        found.append({"num_searches": num_searches, "metrics": metrics, "differences": differences})
    return found


def _figures(by_seed: Values, resampled: Values) -> dict[str, Any]:
    """A figure for each metric, of [M, T] averages and their [M, R] resamples."""
    return {
        name: {**interval(by_seed[m].mean().item(), resampled[m])._asdict(), "seeds": by_seed[m].tolist()}
        for m, name in enumerate((*METRICS, ORDERS_METRIC)[: len(by_seed)])
    }
