"""Balanced k-means: no code may hold more than its share of the vectors.

    |{i : code_i = k}| ≤ ceil(N/K · slack)   for every k

Only the third residual layer is balanced: balancing all of them collapses the hierarchy (arXiv 2509.03236, which
publishes no algorithm). Ours: vectors ask for their nearest centroid that has room; a centroid takes the nearest of
those that ask, until it is full; whoever is left asks again. Each round fills a centroid or places everyone, so K
rounds suffice, and a round costs one table of scores of those still left.
"""

from math import ceil

import torch
from torch import Tensor

from onesearch.quantize.lloyd import Rows, means_of, read
from onesearch.quantize.nearest import Scores


def capacity(num_vectors: int, num_centroids: int, slack: float) -> int:
    """The most vectors that one code may hold: ceil(N/K · slack).

    Raises:
        ValueError: slack is below 1, so that the codes could not hold all vectors.
    """
    if slack < 1:
        raise ValueError(f"slack is {slack}: below 1 the codes cannot hold all vectors.")
    return ceil(num_vectors / num_centroids * slack)


@torch.no_grad()
def balanced_nearest(vectors: Rows, centroids: Tensor, slack: float = 1.1) -> Tensor:
    """[N] int64 codes of near centroids, none of which holds more than `capacity` vectors.

    Args:
        vectors: [N, D]; float32 is not copied.
        centroids: [K, D]
        slack: how much more than an equal share a code may hold; 1 is exact balance.
    """
    centroids = centroids.float()
    room = torch.full((len(centroids),), capacity(len(vectors), len(centroids), slack), device=vectors.device)
    codes = torch.full((len(vectors),), -1, dtype=torch.int64, device=vectors.device)
    left = torch.arange(len(vectors), device=vectors.device)
    while len(left):
        wish, distance = _nearest_open(vectors, left, centroids, room > 0)
        accepted = _accept(wish, distance, room)
        codes[left[accepted]] = wish[accepted]
        room -= torch.bincount(wish[accepted], minlength=len(room))
        left = left[~accepted]
    return codes


@torch.no_grad()
def balance(vectors: Tensor, centroids: Tensor, slack: float, num_iterations: int = 5) -> Tensor:
    """Move centroids [K, D] to the means of balanced clusters of the vectors [N, D]."""
    for _ in range(num_iterations):
        updated = means_of(vectors, balanced_nearest(vectors, centroids, slack), centroids)
        if torch.equal(updated, centroids):
            break
        centroids = updated
    return centroids


def _nearest_open(vectors: Rows, rows: Tensor, centroids: Tensor, is_open: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centroid with room for each of `rows`, and its squared distance."""
    scores_of = Scores(centroids, is_open)
    wishes, distances = [], []
    for chunk in read(vectors, scores_of.chunk, rows):
        best, wish, *_ = scores_of.lowest(chunk)
        wishes.append(wish)
        distances.append(best + chunk.square().sum(dim=1))
    return torch.cat(wishes), torch.cat(distances)


def _accept(wish: Tensor, distance: Tensor, room: Tensor) -> Tensor:
    """[n] bool: whether each vector is among the nearest that its wished centroid has room for."""
    by_distance = distance.sort(stable=True).indices
    order = by_distance[wish[by_distance].sort(stable=True).indices]  # grouped by centroid, nearest first
    sizes = torch.bincount(wish, minlength=len(room))
    group_starts = sizes.cumsum(0) - sizes
    place = torch.arange(len(wish), device=wish.device) - group_starts[wish[order]]
    accepted = torch.zeros_like(wish, dtype=torch.bool)
    accepted[order] = place < room[wish[order]]
    return accepted
