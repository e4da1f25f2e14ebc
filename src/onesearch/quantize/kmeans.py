"""k-means and the nearest centroid.

    code(x) = argmin_k ‖x − C[k]‖²,     C[k] = mean of the x with code k

Codes are stored and compared for years, so `nearest` must not depend on the batch a vector came in, nor on the device.
Matrix products differ in their last bits from one batch shape to another; distances are therefore taken in float64, and
centroids whose distances differ by less than `TIE` of the vectors' scale count as equal: the lowest code wins. Training
needs no such care and runs in float32.

Shapes: N vectors, D width, K centroids.
"""

from collections.abc import Iterator
from math import ceil

import torch
from torch import Tensor

TIE = 1e-10
"""Relative distance below which two centroids are equally near: far above float64 rounding, far below any meaning."""

_CHUNK_ELEMENTS = 2**22  # distances held at once: 32 MB in float64
_MAX_POINTS_PER_CENTROID = 256  # more add time, not quality (faiss' rule)


def nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    """[N] int64 codes of the nearest centroids, the same for any batch size.

    Args:
        vectors: [N, D]
        centroids: [K, D]
    """
    wide = centroids.double()
    largest = wide.square().sum(dim=1).max()
    codes = []
    for chunk, scores in _scores(vectors.double(), wide):
        scale = chunk.square().sum(dim=1, keepdim=True) + largest
        ties = scores <= scores.min(dim=1, keepdim=True).values + TIE * scale
        codes.append(ties.to(torch.uint8).argmax(dim=1))  # the first of the equals
    return torch.cat(codes) if codes else vectors.new_zeros(0, dtype=torch.int64)


def kmeans(
    vectors: Tensor,
    num_centroids: int,
    seed: int,
    num_iterations: int = 25,
    init: str = "k-means++",
    backend: str = "torch",
) -> Tensor:
    """Fit centroids.

    Args:
        vectors: [N, D] with N ≥ `num_centroids`; at most 256 per centroid are used, drawn at random.
        num_centroids: K.
        seed: of the draw and of the start. Give each level its own: with one seed for all, deeper levels lose codes.
        num_iterations: of Lloyd's algorithm.
        init: `k-means++`, or `random` vectors, which is faster for thousands of centroids.
        backend: `torch`, or `faiss` where it is installed (always a random start).

    Returns:
        [K, D] float32. Where there are fewer distinct vectors than centroids, some centroids are never nearest.
    """
    _check_choices(len(vectors), num_centroids, init, backend)
    generator = torch.Generator().manual_seed(seed)
    sample = _draw(vectors, num_centroids * _MAX_POINTS_PER_CENTROID, generator).float()
    if backend == "faiss":
        return _faiss_kmeans(sample, num_centroids, seed, num_iterations)
    start = _draw(sample, num_centroids, generator) if init == "random" else _spread(sample, num_centroids, generator)
    return lloyd(sample, start, num_iterations)


def lloyd(vectors: Tensor, centroids: Tensor, num_iterations: int) -> Tensor:
    """Improve centroids [K, D] on vectors [N, D]; an empty one moves to a vector that is far from its own."""
    for _ in range(num_iterations):
        codes, distances = _assign(vectors, centroids)
        updated = cluster_means(vectors, codes, centroids)
        empty = (torch.bincount(codes, minlength=len(centroids)) == 0).nonzero().flatten()
        if len(empty):
            farthest = distances.sort(descending=True, stable=True).indices[: len(empty)]
            worth = distances[farthest] > 0  # duplicates of a centroid make no better one
            updated[empty[: len(farthest)][worth]] = vectors[farthest[worth]]
        if torch.equal(updated, centroids):
            break
        centroids = updated
    return centroids


def cluster_means(vectors: Tensor, codes: Tensor, centroids: Tensor) -> Tensor:
    """[K, D] the mean of each cluster; the old centroid where it is empty."""
    sums = torch.zeros_like(centroids, dtype=torch.float64).index_add_(0, codes, vectors.double())
    counts = torch.bincount(codes, minlength=len(centroids)).unsqueeze(1)
    return torch.where(counts > 0, sums / counts.clamp(min=1), centroids.double()).to(centroids.dtype)


def chunks(vectors: Tensor, num_centroids: int) -> Iterator[Tensor]:
    """Slices of the vectors so short that their distances to all centroids fit in a bounded memory."""
    size = max(1, _CHUNK_ELEMENTS // num_centroids)
    return (vectors[start : start + size] for start in range(0, len(vectors), size))


def _scores(vectors: Tensor, centroids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Chunks of vectors with ‖C[k]‖² − 2·x·C[k], which is the squared distance less ‖x‖²."""
    norms = centroids.square().sum(dim=1)
    for chunk in chunks(vectors, len(centroids)):
        yield chunk, torch.addmm(norms, chunk, centroids.T, alpha=-2)


def _assign(vectors: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Fast codes [N] and squared distances [N] for training."""
    best = [scores.min(dim=1) for _, scores in _scores(vectors, centroids)]
    codes = torch.cat([found.indices for found in best])
    return codes, (vectors - centroids[codes]).square().sum(dim=1)


def _draw(vectors: Tensor, num_drawn: int, generator: torch.Generator) -> Tensor:
    if len(vectors) <= num_drawn:
        return vectors
    return vectors[torch.randperm(len(vectors), generator=generator)[:num_drawn].to(vectors.device)]


def _spread(vectors: Tensor, num_centroids: int, generator: torch.Generator) -> Tensor:
    """k-means++: each next start is drawn with probability ∝ its squared distance to the nearest start so far."""
    chosen = [int(torch.randint(len(vectors), (1,), generator=generator))]
    distances = torch.full((len(vectors),), torch.inf, dtype=torch.float64, device=vectors.device)
    for draw in torch.rand(num_centroids - 1, generator=generator, dtype=torch.float64).tolist():
        distances = torch.minimum(distances, (vectors - vectors[chosen[-1]]).square().sum(dim=1).double())
        cumulative = distances.cumsum(dim=0)
        position = torch.searchsorted(cumulative, draw * cumulative[-1], right=True)
        chosen.append(min(int(position), len(vectors) - 1))
    return vectors[chosen]


def _faiss_kmeans(vectors: Tensor, num_centroids: int, seed: int, num_iterations: int) -> Tensor:
    try:
        import faiss  # an optional fast path for large catalogues on CPU
    except ImportError as error:
        raise ValueError("backend is 'faiss', but faiss is not installed: install faiss-cpu or use 'torch'.") from error
    trainer = faiss.Kmeans(
        vectors.shape[1],
        num_centroids,
        niter=num_iterations,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=ceil(len(vectors) / num_centroids),
    )
    trainer.train(vectors.cpu().numpy())
    return torch.from_numpy(trainer.centroids).to(vectors.device)


def _check_choices(num_vectors: int, num_centroids: int, init: str, backend: str) -> None:
    if num_vectors < num_centroids:
        raise ValueError(f"num_centroids is {num_centroids}, but only {num_vectors} vectors are given: use fewer.")
    if init not in ("k-means++", "random"):
        raise ValueError(f"init is '{init}': use 'k-means++' or 'random'.")
    if backend not in ("torch", "faiss"):
        raise ValueError(f"backend is '{backend}': use 'torch' or 'faiss'.")
