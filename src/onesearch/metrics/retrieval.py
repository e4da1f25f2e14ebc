"""Retrieval of clicked items from a whole catalogue: R@10, R@100 and MRR@10 over distinct queries."""

from typing import Any

import torch
from torch import Tensor

from onesearch.metrics.ranking import hits, recall, reciprocal_rank


class Gathered:
    """Numbered rows that arrive in parts, from several processes some of them twice."""

    def __init__(self) -> None:
        self.parts: list[tuple[Tensor, ...]] = []

    def __bool__(self) -> bool:
        return bool(self.parts)

    def add(self, *columns: Tensor) -> None:
        """One more part, kept on the CPU: the numbers of its rows [B], then any columns [B, …]."""
        self.parts.append(tuple(column.cpu() for column in columns))

    def table(self) -> list[Tensor]:
        """The columns with every row once, by its number."""
        columns = [torch.cat(column) for column in zip(*self.parts, strict=True)]
        order = columns[0].argsort(stable=True)
        numbers = columns[0][order]
        is_first = torch.ones(len(numbers), dtype=torch.bool)
        is_first[1:] = numbers[1:] != numbers[:-1]
        return [column[order[is_first]] for column in columns]


def retrieval(found: Tensor, clicked: Tensor, unseen: Tensor) -> dict[str, float]:
    """Means over queries, and over the unseen ones alone where there are any.

    Args:
        found: [Q, K] item rows, best first, K at least 100 or all items.
        clicked: [Q, X] distinct item rows, -1 is padding.
        unseen: [Q] bool, queries that were not learnt from.
    """
    hit = hits(found.numpy(), [[item for item in row if item >= 0] for row in clicked.tolist()])
    num_clicked = (clicked >= 0).sum(1).numpy()
    values: dict[str, Any] = {
        "recall@10": recall(hit, num_clicked, 10),
        "recall@100": recall(hit, num_clicked, 100),
        "mrr@10": reciprocal_rank(hit, 10),
    }
    means = {name: float(value.mean()) for name, value in values.items()}
    if unseen.any():
        means |= {f"{name}_unseen": float(value[unseen.numpy()].mean()) for name, value in values.items()}
    return means
