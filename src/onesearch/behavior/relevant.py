"""RSU: the part of a long history that is relevant to this query, or to this candidate (SIM's general search unit).

    soft  the k behaviours with the largest cosine to the query
    hard  the k latest behaviours of the query's category

Positions in the history are returned in time order, `PADDING` where fewer than k qualify.
Sources: SIM (arXiv 2006.05639), OneSearch (arXiv 2509.03236).

Shapes: ... any leading dimensions, T behaviours, k kept.
"""

import torch
from torch import Tensor

from onesearch.behavior.window import PADDING


def most_similar(similarity: Tensor, mask: Tensor, k: int) -> Tensor:
    """Soft search: positions of the `k` most similar behaviours, in time order.

    Args:
        similarity: cosine of each behaviour to the query, [..., T].
        mask: true where a behaviour exists, [..., T].
        k: how many are kept.

    Returns:
        Positions in 0 … T−1, then PADDING, [..., k] int64.
    """
    return _best(similarity, mask, k)


def same_category(category: Tensor, history: Tensor, k: int) -> Tensor:
    """Hard search: positions of the `k` latest behaviours of the category, in time order, [..., k] int64.

    Args:
        category: wanted category, [...] int64; a negative one is unknown and matches nothing.
        history: category of each behaviour, oldest to newest, [..., T] int64; negative on padding.
        k: how many are kept.
    """
    recency = torch.arange(history.shape[-1], device=history.device, dtype=torch.float32).expand_as(history)
    return _best(recency, (history == category[..., None]) & (history >= 0), k)


def _best(score: Tensor, mask: Tensor, k: int) -> Tensor:
    """Positions of the `k` best-scored behaviours of `mask`, ascending, PADDING last: [..., k]."""
    length = score.shape[-1]
    picked = score.masked_fill(~mask, float("-inf")).topk(min(k, length), dim=-1).indices
    exists = mask.gather(-1, picked)
    positions = torch.where(exists, picked, length).sort(dim=-1).values  # `length` sorts behind every real position
    positions = torch.where(positions == length, PADDING, positions)
    return torch.nn.functional.pad(positions, (0, k - positions.shape[-1]), value=PADDING)
