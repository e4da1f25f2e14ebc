"""k-means on samples that grow: most iterations see few vectors, the last ones see all.

    C[k] = mean of the x with code k,    code(x) = argmin_k ‖x − C[k]‖²

Centroids move far in the first iterations, and a few dozen vectors a cluster are enough to say where to; only the
last moves need more. The first iterations need few dimensions, too: they start from a draw of vectors on the two
principal axes, and the number of axes doubles (as in the progressive clustering of faiss). Both errors
and the number of vectors alone in their residual codes come out better than from a start in all dimensions, be it
random or spread out as k-means++ does it.

The fast fit stays on these axes: A ≪ D of them say nearly as well which centroid is nearest. Only the last move, whose
means become the centroids, sees all dimensions, and it needs no products.

Nothing here is stored as a code, so rough products are exact enough; `nearest` is for codes. Shapes: N vectors, D
width, K centroids.
"""

from collections.abc import Iterator
from math import ceil
from typing import Any, Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from onesearch.quantize.nearest import ROWS, Scores
from onesearch.types import UserError

Effort = Literal["exact", "fast", "faiss"]
"""`exact` ends in all dimensions, `fast` moves on few axes; `faiss` is its k-means, 25 iterations, on GPUs it has."""


class Pass(NamedTuple):
    """Iterations on one sample."""

    points_per_centroid: int | None  # None: all vectors
    num_iterations: int


PASSES = {"exact": (Pass(128, 4), Pass(None, 4)), "fast": (Pass(64, 2), Pass(None, 1))}

_FAISS_ITERATIONS = 25
_START_POINTS = 32  # vectors a centroid that the start sees
_START_ITERATIONS = 3  # for each number of axes
_FIRST_AXES, _LAST_AXES = 2, 128  # wider vectors are clustered in all their dimensions by the exact passes alone
_AXES_POINTS = 8192  # vectors that the fast fit finds its axes with
_FAISS_POINTS_PER_CENTROID = 256  # more add time, not quality (faiss' rule)


class Rows(Protocol):
    """Vectors [N, D] that are read by their rows: a tensor, or what computes them when it is read."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> Tensor: ...
    @property
    def device(self) -> torch.device:
        """Where they are computed."""


class Clusters(NamedTuple):
    """Centroids and the vectors that went to them."""

    centroids: Tensor  # [K, D] float32
    codes: Tensor  # [N] int64, near enough to fit


class Assigned(NamedTuple):
    """What became of vectors that went to their nearest centroids."""

    codes: Tensor  # [n] int64, near enough to fit
    distances: Tensor  # [n] squared
    sums: Tensor  # [K, D] float64
    counts: Tensor  # [K]


def kmeans(vectors: Rows, num_centroids: int, seed: int, effort: Effort = "exact") -> Tensor:
    """[K, D] float32 centroids, fitted as by `cluster`."""
    return cluster(vectors, num_centroids, seed, effort).centroids


@torch.no_grad()
def cluster(vectors: Rows, num_centroids: int, seed: int, effort: Effort = "exact") -> Clusters:
    """Fit centroids, and code the vectors with them.

    Args:
        vectors: [N, D] with N ≥ `num_centroids`.
        num_centroids: K.
        seed: of the samples and the start. Give each level its own: with one seed for all, deeper levels lose codes.
        effort: how much work the fit may take.

    Returns:
        Centroids and codes. Where there are fewer distinct vectors than centroids, some centroids are never nearest.

    Raises:
        ValueError: fewer vectors than centroids, or no such effort.
    """
    if len(vectors) < num_centroids:
        raise ValueError(f"num_centroids is {num_centroids}, but only {len(vectors)} vectors are given: use fewer.")
    if effort not in get_args(Effort):
        raise ValueError(f"effort is '{effort}': use one of {', '.join(get_args(Effort))}.")
    order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed)).to(vectors.device)
    if effort == "fast":
        return _cluster_on_axes(vectors, num_centroids, order)
    if effort == "faiss":
        centroids = _faiss_kmeans(vectors[order[: num_centroids * _FAISS_POINTS_PER_CENTROID]], num_centroids, seed)
    else:
        started = _start_in_full(vectors[order[: num_centroids * _START_POINTS]].float(), num_centroids)
        centroids = _passes(vectors, started, order, PASSES[effort])
    return Clusters(centroids, assign(vectors, centroids).codes)


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


def _cluster_on_axes(vectors: Rows, num_centroids: int, order: Tensor) -> Clusters:
    axes = _principal_axes(vectors[order[:_AXES_POINTS]].float())
    rotated = axes.new_empty(len(vectors), axes.shape[1])
    for part, place in zip(read(vectors, ROWS), rotated.split(ROWS), strict=True):
        torch.mm(part, axes, out=place)
    started = _start(rotated[order[: num_centroids * _START_POINTS]], num_centroids)
    centroids = _passes(rotated, started, order, PASSES["fast"])
    codes = assign(rotated, centroids).codes
    return Clusters(means_of(vectors, codes, centroids @ axes.T), codes)


def _passes(vectors: Rows, centroids: Tensor, order: Tensor, passes: tuple[Pass, ...]) -> Tensor:
    for each in passes:
        centroids = lloyd(vectors, centroids, each.num_iterations, _sample(order, each, len(centroids)))
    return centroids


def _sample(order: Tensor, each: Pass, num_centroids: int) -> Tensor | None:
    if each.points_per_centroid is None or each.points_per_centroid * num_centroids >= len(order):
        return None  # all, in the order in which they lie
    return order[: each.points_per_centroid * num_centroids].sort().values  # read as they lie


def _farthest(distances: Tensor, number: int) -> Tensor:
    farthest = distances.sort(descending=True, stable=True).indices[:number]
    return farthest[distances[farthest] > 1e-6 * distances.max()]  # a duplicate of a centroid makes no better one


def _rough(vectors: Tensor) -> bool:
    """Whether products in bfloat16 are worth it: on a CPU with instructions for them, twice as fast."""
    has_bf16: bool = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return vectors.device.type == "cpu" and has_bf16


def _principal_axes(vectors: Tensor) -> Tensor:
    """[D, A] the axes of most variance (about 0), the first first."""
    _, ascending = torch.linalg.eigh((vectors.T @ vectors).double())
    axes: Tensor = ascending.flip(1)[:, :_LAST_AXES].to(vectors.dtype)
    return axes


def _start_in_full(vectors: Tensor, num_centroids: int) -> Tensor:
    axes = _principal_axes(vectors)
    return _start(vectors @ axes, num_centroids) @ axes.T


def _start(rotated: Tensor, num_centroids: int) -> Tensor:
    """[K, A] centroids from few axes to all; the vectors [n, A] lie in random order, the first axis first."""
    axes = rotated.shape[1]
    width = min(_FIRST_AXES, axes)
    centroids = rotated[:num_centroids, :width]
    while True:
        centroids = lloyd(rotated[:, :width], centroids, _START_ITERATIONS)
        if width == axes:
            return centroids
        wider = min(2 * width, axes)
        centroids = pad(centroids, (0, wider - width))
        width = wider


def _faiss_kmeans(vectors: Tensor, num_centroids: int, seed: int) -> Tensor:
    try:
        import faiss  # an optional engine: the core runs without it
    except ImportError as error:
        raise UserError("effort is 'faiss', but faiss is not installed: install faiss-cpu or use 'exact'.") from error
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
