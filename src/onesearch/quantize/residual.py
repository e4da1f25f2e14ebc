"""Residual quantisation (RQ): each layer codes what the layers before it left over.

    r_0 = e°,     c_l = argmin_k ‖r_{l-1} − C_l[k]‖²,     r_l = r_{l-1} − C_l[c_l]      (arXiv 2509.03236)

With `normalize` r_l is divided by its length, as PRQ-KMeans does: small clusters then leave residuals as long as those
of large ones, and deeper layers keep something to code. A residual shorter than `ZERO` is rounding noise without a
direction and becomes exactly 0. For `decode`, the mean length of the residuals behind each code is kept:

    ê = C_1[c_1] + s_1[c_1]·(C_2[c_2] + s_2[c_2]·(C_3[c_3] + s_3[c_3]·r̂))       s = 1 without `normalize`
"""

from typing import NamedTuple

import torch
from torch import Tensor

from onesearch.quantize.balanced import balance, balanced_nearest
from onesearch.quantize.kmeans import kmeans, nearest

ZERO = 1e-6
"""Residuals shorter than this are 0: embeddings have length 1 and float32 rounding is 1e-7."""


class Layer(NamedTuple):
    """One residual layer."""

    centroids: Tensor  # [K, D]
    lengths: Tensor  # [K] s, the mean length of the residual behind each code


class Residuals(NamedTuple):
    """The outcome of quantising vectors layer by layer."""

    codes: Tensor  # [N, number of layers] int64
    rest: Tensor  # [N, D] float64, what the product layers code


def fit_residual(
    vectors: Tensor,
    sizes: tuple[int, ...],
    seed: int,
    num_iterations: int = 25,
    normalize: bool = True,
    slack: float | None = 1.1,
    init: str = "k-means++",
    backend: str = "torch",
) -> list[Layer]:
    """Fit the residual layers.

    Args:
        vectors: [N, D] embeddings of length 1.
        sizes: codes of each layer.
        seed: level l starts from seed + l, since equal starts lose codes at deeper levels.
        num_iterations: of k-means at each layer, and of balancing at the last one.
        normalize: L2-normalise the residual after each layer.
        slack: room of the last layer's codes, see `balanced_nearest`; None: not balanced.
        init: see `kmeans`.
        backend: see `kmeans`.
    """
    layers: list[Layer] = []
    rest = vectors.double()
    for level, size in enumerate(sizes):
        centroids = kmeans(rest, size, seed + level, num_iterations, init, backend)
        is_balanced = slack is not None and level == len(sizes) - 1
        if is_balanced and slack is not None:
            centroids = balance(rest, centroids, slack, num_iterations)
        codes = _codes(rest, centroids, slack if is_balanced else None)
        layers.append(Layer(centroids, _mean_lengths(rest, centroids, codes, normalize)))
        rest = _subtract(rest, centroids, codes, normalize)
    return layers


def quantize_residual(
    vectors: Tensor, layers: list[Layer], normalize: bool = True, slack: float | None = None
) -> Residuals:
    """Code vectors with fitted layers.

    Args:
        vectors: [N, D]
        layers: from `fit_residual`.
        normalize: as at fitting.
        slack: None codes each vector by itself, as new ones are; a number balances the last layer over these vectors.
    """
    rest, codes = vectors.double(), []
    for level, layer in enumerate(layers):
        codes.append(_codes(rest, layer.centroids, slack if level == len(layers) - 1 else None))
        rest = _subtract(rest, layer.centroids, codes[-1], normalize)
    return Residuals(torch.stack(codes, dim=1), rest)


def reconstruct(codes: Tensor, layers: list[Layer], rest: Tensor) -> Tensor:
    """[N, D] vectors from codes [N, L] and the reconstruction of what the layers left over, `rest` [N, D]."""
    for level in reversed(range(len(layers))):
        code = codes[:, level]
        rest = layers[level].centroids[code] + layers[level].lengths[code].unsqueeze(1) * rest
    return rest


def _codes(rest: Tensor, centroids: Tensor, slack: float | None) -> Tensor:
    return nearest(rest, centroids) if slack is None else balanced_nearest(rest, centroids, slack)


def _subtract(rest: Tensor, centroids: Tensor, codes: Tensor, normalize: bool) -> Tensor:
    difference = rest - centroids.double()[codes]
    if not normalize:
        return difference
    length = difference.norm(dim=1, keepdim=True)
    return torch.where(length < ZERO, 0.0, difference / length.clamp(min=ZERO))


def _mean_lengths(rest: Tensor, centroids: Tensor, codes: Tensor, normalize: bool) -> Tensor:
    if not normalize:
        return torch.ones_like(centroids[:, 0])
    lengths = (rest - centroids.double()[codes]).norm(dim=1)
    sums = torch.zeros(len(centroids), dtype=torch.float64, device=rest.device).index_add_(0, codes, lengths)
    counts = torch.bincount(codes, minlength=len(centroids))
    means = torch.where(counts > 0, sums / counts.clamp(min=1), lengths.mean())  # unused codes: the level's mean
    return means.to(centroids.dtype)
