"""Exact search for the nearest items: the largest inner products, which are cosines where vectors have length 1.

The products of a chunk of queries with a chunk of items are all that is held at a time, so that neither the number of
queries nor the size of the catalogue is bounded by memory. Torch alone: it searches where the vectors are.

Shapes: Q queries, N items, D width.
"""

import torch
from torch import Tensor


def nearest(queries: Tensor, items: Tensor, k: int, chunk: int = 1024, item_chunk: int = 65536) -> Tensor:
    """Rows of the `k` nearest items of each query, best first.

    Args:
        queries: [Q, D].
        items: [N, D]; moved chunk by chunk to the device of the queries.
        k: number of items.
        chunk: queries held at once.
        item_chunk: items held at once.

    Returns:
        [Q, min(k, N)] int64, on the CPU.
    """
    found = [_nearest(part, items, min(k, len(items)), item_chunk).cpu() for part in queries.split(chunk)]
    return torch.cat(found)


def _nearest(queries: Tensor, items: Tensor, k: int, item_chunk: int) -> Tensor:
    """The best of the best of each chunk."""
    scores = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, len(items), item_chunk):
        part = queries @ items[start : start + item_chunk].to(queries.device).T
        best = part.topk(min(k, part.shape[1]))
        scores = torch.cat([scores, best.values], dim=1)
        rows = torch.cat([rows, best.indices + start], dim=1)
        kept = scores.topk(min(k, scores.shape[1]))
        scores, rows = kept.values, rows.gather(1, kept.indices)
    return rows
