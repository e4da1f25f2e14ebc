"""k-means on samples that grow: most iterations see few vectors, the last ones see all.

    C[k] = mean of the x with code k,    code(x) = argmin_k ‖x − C[k]‖²

Centroids move far in the first iterations, and a few dozen vectors a cluster are enough to say where to; only the
last moves need more. The first iterations need few dimensions, too: they start from a draw of vectors on the two
principal axes, and the number of axes doubles (as in the progressive clustering of faiss). Both errors
and the number of vectors alone in their residual codes come out better than from a start in all dimensions, be it
random or spread out as k-means++ does it.

The fast fit stays on these axes: A ≪ D of them say nearly as well which centroid is nearest. Only the last move, whose
means become the centroids, sees all dimensions, and it needs no products.

Shapes: N vectors, D width, K centroids.
"""

from math import ceil
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from onesearch.quantize.lloyd import Rows, assign, lloyd, means_of, read
from onesearch.quantize.nearest import ROWS
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


class Clusters(NamedTuple):
    """Centroids and the vectors that went to them."""

    centroids: Tensor  # [K, D] float32
    codes: Tensor  # [N] int64, near enough to fit


@torch.no_grad()
def cluster(vectors: Rows, num_centroids: int, seed: int, effort: Effort = "exact") -> Clusters:
    """Centroids, fitted as by `kmeans`, and the vectors' codes."""
    centroids, codes = _fit(vectors, num_centroids, seed, effort)
    return Clusters(centroids, assign(vectors, centroids).codes if codes is None else codes)


@torch.no_grad()
def kmeans(vectors: Rows, num_centroids: int, seed: int, effort: Effort = "exact") -> Tensor:
    """Fit centroids.

    Args:
        vectors: [N, D] with N ≥ `num_centroids`.
        num_centroids: K.
        seed: of the samples and the start. Give each level its own: with one seed for all, deeper levels lose codes.
        effort: how much work the fit may take.

    Returns:
        [K, D] float32. Where there are fewer distinct vectors than centroids, some centroids are never nearest.

    Raises:
        ValueError: fewer vectors than centroids, or no such effort.
    """
    return _fit(vectors, num_centroids, seed, effort)[0]


def _fit(vectors: Rows, num_centroids: int, seed: int, effort: Effort) -> tuple[Tensor, Tensor | None]:
    """Centroids, and the codes where they come with them."""
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
    return centroids, None


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
