"""Lloyd's iterations: send each vector to its nearest centroid, move each centroid to the mean of its vectors.

Nothing here is stored as a code, so rough products are exact enough; `nearest` is for codes. Shapes: N vectors, D
width, K centroids.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from onesearch.quantize.nearest import ROWS, Scores


class Rows(Protocol):
    """Vectors [N, D] that are read by their rows: a tensor, or what computes them when it is read."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> Tensor: ...
    @property
    def device(self) -> torch.device:
        """Where they are computed."""


class Assigned(NamedTuple):
    """What became of vectors that went to their nearest centroids."""

    codes: Tensor  # [n] int64, near enough to fit
    distances: Tensor  # [n] squared
    sums: Tensor  # [K, D] float64
    counts: Tensor  # [K]


def lloyd(vectors: Rows, centroids: Tensor, num_iterations: int, rows: Tensor | None = None) -> Tensor:
    """Move centroids [K, D] to the means of their vectors; an empty one to a vector that is far from its own.

    Args:
        vectors: [N, D]
        centroids: [K, D] float32.
        num_iterations: the most moves; it ends earlier when nothing moves.
        rows: [n] the vectors to use; None: all.
    """
    for _ in range(num_iterations):
        assigned = assign(vectors, centroids, rows)
        updated = cluster_means(assigned.sums, assigned.counts, centroids)
        empty = (assigned.counts == 0).nonzero().flatten()
        if len(empty):
            far = _farthest(assigned.distances, len(empty))
            updated[empty[: len(far)]] = vectors[far if rows is None else rows[far]].float()
        if torch.equal(updated, centroids):
            break
        centroids = updated
    return centroids


def assign(vectors: Rows, centroids: Tensor, rows: Tensor | None = None) -> Assigned:
    """Send vectors [N, D], or those of `rows` [n], to their nearest centroids [K, D], fast and nearly exactly."""
    sums = torch.zeros_like(centroids, dtype=torch.float64)
    codes, distances = [], []
    scores_of = Scores(centroids, rough=_rough(centroids))
    for chunk in read(vectors, scores_of.chunk, rows):
        lowest = scores_of.lowest(chunk)
        sums.index_add_(0, lowest.codes, chunk.double())
        codes.append(lowest.codes)
        distances.append(lowest.best + chunk.square().sum(dim=1))
    coded = torch.cat(codes)
    return Assigned(coded, torch.cat(distances), sums, torch.bincount(coded, minlength=len(centroids)))


def read(vectors: Rows, size: int, rows: Tensor | None = None) -> Iterator[Tensor]:
    """The vectors, or those of `rows`, in float32 pieces of at most `size`, so that no copy of all of them is made."""
    for start in range(0, len(vectors) if rows is None else len(rows), size):
        part = slice(start, start + size)
        yield vectors[part if rows is None else rows[part]].float()


def means_of(vectors: Rows, codes: Tensor, centroids: Tensor) -> Tensor:
    """[K, D] the means of the vectors [N, D] behind each code [N]; the centroid [K, D] where there are none."""
    sums = torch.zeros_like(centroids, dtype=torch.float64)
    for part, coded in zip(read(vectors, ROWS), codes.split(ROWS), strict=True):
        sums.index_add_(0, coded, part.double())
    return cluster_means(sums, torch.bincount(codes, minlength=len(centroids)), centroids)


def cluster_means(sums: Tensor, counts: Tensor, centroids: Tensor) -> Tensor:
    """[K, D] sums/counts, the old centroid where a cluster is empty; `sums` [K, D] in float64, `counts` [K]."""
    means = sums / counts.clamp(min=1).unsqueeze(1)
    return torch.where(counts.unsqueeze(1) > 0, means, centroids.double()).to(centroids.dtype)


def _farthest(distances: Tensor, number: int) -> Tensor:
    farthest = distances.sort(descending=True, stable=True).indices[:number]
    return farthest[distances[farthest] > 1e-6 * distances.max()]  # a duplicate of a centroid makes no better one


def _rough(vectors: Tensor) -> bool:
    """Whether products in bfloat16 are worth it: on a CPU with instructions for them, twice as fast."""
    has_bf16: bool = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return vectors.device.type == "cpu" and has_bf16
