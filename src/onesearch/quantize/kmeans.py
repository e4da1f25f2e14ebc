"""k-means on samples that grow: most iterations see few vectors, the last ones see all.

    C[k] = mean of the x with code k,    code(x) = argmin_k ‖x − C[k]‖²

Centroids move far in the first iterations, and a few dozen vectors a cluster are enough to say where to; only the last
moves need every vector. The start is drawn as k-means++ draws, in rounds: as many new centroids at once as there are,
each with probability ∝ its squared distance to the nearest one so far (k-means||, Bahmani et al., 2012, with doubling).

Nothing here is stored as a code, so float32 is exact enough; `nearest` is for codes. Shapes: N vectors, D width, K
centroids.
"""

import contextlib
from collections.abc import Iterator
from math import ceil
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from onesearch.quantize.nearest import Scores

Effort = Literal["exact", "fast", "faiss"]
"""`exact` ends on all vectors, `fast` on a sample; `faiss` is its k-means, 25 iterations, on GPUs where it has them."""


class Pass(NamedTuple):
    """Iterations on one sample."""

    points_per_centroid: int | None  # None: all vectors
    num_iterations: int


PASSES = {"exact": (Pass(64, 8), Pass(128, 4), Pass(None, 5)), "fast": (Pass(64, 8), Pass(128, 2))}

_FAISS_ITERATIONS = 25
_FAISS_POINTS_PER_CENTROID = 256  # more add time, not quality (faiss' rule)
_WIDE = 256  # from this width on, bfloat16 products pay for the conversion


@torch.no_grad()
def kmeans(vectors: Tensor, num_centroids: int, seed: int, effort: Effort = "exact") -> Tensor:
    """Fit centroids.

    Args:
        vectors: [N, D] with N ≥ `num_centroids`; float32 is not copied.
        num_centroids: K.
        seed: of the samples and the start. Give each level its own: with one seed for all, deeper levels lose codes.
        effort: how much work the fit may take.

    Returns:
        [K, D] float32. Where there are fewer distinct vectors than centroids, some centroids are never nearest.

    Raises:
        ValueError: fewer vectors than centroids, or no such effort.
    """
    if len(vectors) < num_centroids:
        raise ValueError(f"num_centroids is {num_centroids}, but only {len(vectors)} vectors are given: use fewer.")
    if effort not in get_args(Effort):
        raise ValueError(f"effort is '{effort}': use one of {', '.join(get_args(Effort))}.")
    vectors = vectors.float()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(vectors), generator=generator).to(vectors.device)
    if effort == "faiss":
        return _faiss_kmeans(vectors[order[: num_centroids * _FAISS_POINTS_PER_CENTROID]], num_centroids, seed)
    first, *_ = PASSES[effort]
    with _quick_products(vectors):
        centroids = _spread(vectors[_sample(order, first, num_centroids)], num_centroids, generator)
        for each in PASSES[effort]:
            centroids = lloyd(vectors, centroids, each.num_iterations, _sample(order, each, num_centroids))
    return centroids


def lloyd(vectors: Tensor, centroids: Tensor, num_iterations: int, rows: Tensor | None = None) -> Tensor:
    """Move centroids [K, D] to the means of their vectors; an empty one to a vector that is far from its own.

    Args:
        vectors: [N, D] float32.
        centroids: [K, D] float32.
        num_iterations: the most moves; it ends earlier when nothing moves.
        rows: [n] the vectors to use; None: all.
    """
    for _ in range(num_iterations):
        updated = _moved(vectors, centroids, rows)
        if torch.equal(updated, centroids):
            break
        centroids = updated
    return centroids


def cluster_means(sums: Tensor, counts: Tensor, centroids: Tensor) -> Tensor:
    """[K, D] sums/counts, the old centroid where a cluster is empty; `sums` [K, D] in float64, `counts` [K]."""
    means = sums / counts.clamp(min=1).unsqueeze(1)
    return torch.where(counts.unsqueeze(1) > 0, means, centroids.double()).to(centroids.dtype)


def _sample(order: Tensor, each: Pass, num_centroids: int) -> Tensor:
    return order if each.points_per_centroid is None else order[: each.points_per_centroid * num_centroids]


def _moved(vectors: Tensor, centroids: Tensor, rows: Tensor | None) -> Tensor:
    sums = torch.zeros_like(centroids, dtype=torch.float64)
    counts = torch.zeros(len(centroids), dtype=torch.int64, device=centroids.device)
    distances = []
    scores_of = Scores(centroids)
    for chunk in _chunks(vectors, rows, scores_of.chunk):
        best, codes = scores_of(chunk).min(dim=1)
        sums.index_add_(0, codes, chunk.double())
        counts += torch.bincount(codes, minlength=len(centroids))
        distances.append(best + chunk.square().sum(dim=1))
    updated = cluster_means(sums, counts, centroids)
    empty = (counts == 0).nonzero().flatten()
    if len(empty):
        distance = torch.cat(distances)
        farthest = distance.sort(descending=True, stable=True).indices[: len(empty)]
        farthest = farthest[distance[farthest] > 1e-6 * distance.max()]  # a duplicate of a centroid makes no better one
        updated[empty[: len(farthest)]] = vectors[farthest if rows is None else rows[farthest]]
    return updated


def _chunks(vectors: Tensor, rows: Tensor | None, size: int) -> Iterator[Tensor]:
    """The vectors of `rows` in pieces, so that no copy of all of them is made."""
    if rows is None:
        yield from vectors.split(size)
    else:
        yield from (vectors[part] for part in rows.split(size))


def _spread(vectors: Tensor, num_centroids: int, generator: torch.Generator) -> Tensor:
    """k-means++ in rounds that double the number of centroids."""
    chosen = torch.randint(len(vectors), (1,), generator=generator).to(vectors.device)
    distances = torch.full((len(vectors),), torch.inf, device=vectors.device)
    lengths = vectors.square().sum(dim=1)
    newest = chosen
    while len(chosen) < num_centroids:
        scores_of = Scores(vectors[newest])
        best = torch.cat([scores_of(chunk).amin(dim=1) for chunk in vectors.split(scores_of.chunk)])
        distances = distances.minimum(best + lengths)
        # What is left of a vector's distance to its own copy is rounding: a copy must not be drawn again.
        weights = torch.where(distances > 1e-5 * lengths, distances, 0.0).double().cpu()
        wanted = min(len(chosen), num_centroids - len(chosen), int((weights > 0).sum()))
        if wanted == 0:  # fewer distinct vectors than centroids
            rest = torch.randint(len(vectors), (num_centroids - len(chosen),), generator=generator)
            return vectors[torch.cat([chosen, rest.to(chosen)])]
        newest = _draw(weights, wanted, generator).to(vectors.device)
        chosen = torch.cat([chosen, newest])
    return vectors[chosen]


def _draw(weights: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """[number] different rows, each drawn with probability ∝ its weight (Efraimidis and Spirakis, 2006)."""
    chance = torch.rand(len(weights), generator=generator, dtype=torch.float64)
    return torch.where(weights > 0, chance.log() / weights, -torch.inf).topk(number).indices


@contextlib.contextmanager
def _quick_products(vectors: Tensor) -> Iterator[None]:
    """On a CPU with bfloat16 instructions, products of wide vectors use them: near enough to fit, and twice as fast."""
    has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    if vectors.is_cuda or vectors.shape[1] < _WIDE or not has_bf16:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _faiss_kmeans(vectors: Tensor, num_centroids: int, seed: int) -> Tensor:
    try:
        import faiss  # an optional engine: the core runs without it
    except ImportError as error:
        raise ValueError("effort is 'faiss', but faiss is not installed: install faiss-cpu or use 'exact'.") from error
    trainer = faiss.Kmeans(
        vectors.shape[1],
        num_centroids,
        niter=_FAISS_ITERATIONS,
        seed=seed,
        gpu=getattr(faiss, "get_num_gpus", int)() > 0,
        min_points_per_centroid=1,
        max_points_per_centroid=ceil(len(vectors) / num_centroids),
    )
    trainer.train(vectors.cpu().numpy())
    return torch.from_numpy(trainer.centroids).to(vectors.device)
