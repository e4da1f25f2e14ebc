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
from onesearch.quantize.kmeans import Effort, kmeans
from onesearch.quantize.nearest import nearest

ZERO = 1e-6
"""Residuals shorter than this are 0: embeddings have length 1 and float32 rounding is 1e-7."""

ROWS = 16_384
"""Vectors that are widened to float64 at once."""

_BALANCE_POINTS = 256  # vectors a code that balancing looks at


class Layer(NamedTuple):
    """One residual layer."""

    centroids: Tensor  # [K, D]
    lengths: Tensor  # [K] s, the mean length of the residual behind each code


class Residuals(NamedTuple):
    """The outcome of quantising vectors layer by layer."""

    codes: Tensor  # [N, number of layers] int64
    rest: Tensor  # [N, D], what the product layers code


def fit_residual(
    vectors: Tensor,
    sizes: tuple[int, ...],
    seed: int,
    effort: Effort = "exact",
    normalize: bool = True,
    slack: float | None = 1.1,
) -> tuple[list[Layer], Tensor]:
    """Fit the residual layers.

    Args:
        vectors: [N, D] embeddings of length 1; one float32 copy of them is made.
        sizes: codes of each layer.
        seed: level l starts from seed + l, since equal starts lose codes at deeper levels.
        effort: see `kmeans`.
        normalize: L2-normalise the residual after each layer.
        slack: room of the last layer's codes, see `balanced_nearest`; None: not balanced.

    Returns:
        The layers, and the rest [N, D] float32 that they leave.
    """
    layers: list[Layer] = []
    rest = vectors.to(torch.float32, copy=True)
    for level, size in enumerate(sizes):
        room = slack if level == len(sizes) - 1 else None
        centroids = kmeans(rest, size, seed + level, effort)
        if room is not None:
            centroids = balance(_drawn(rest, size * _BALANCE_POINTS, seed + level), centroids, room)
        codes = nearest(rest, centroids) if room is None else balanced_nearest(rest, centroids, room)
        lengths = subtract_(rest, centroids, codes, normalize)
        layers.append(Layer(centroids, _mean_lengths(lengths, codes, size) if normalize else rest.new_ones(size)))
    return layers, rest


def quantize_residual(vectors: Tensor, layers: list[Layer], normalize: bool = True) -> Residuals:
    """Code each vector by itself with fitted layers, in float64.

    Args:
        vectors: [N, D], few enough to be widened.
        layers: from `fit_residual`.
        normalize: as at fitting.
    """
    rest = vectors.to(torch.float64, copy=True)
    codes = torch.empty(len(vectors), len(layers), dtype=torch.int64, device=vectors.device)
    for level, layer in enumerate(layers):
        codes[:, level] = nearest(rest, layer.centroids)
        subtract_(rest, layer.centroids, codes[:, level], normalize)
    return Residuals(codes, rest)


def quantize_balanced(vectors: Tensor, layers: list[Layer], normalize: bool, slack: float) -> Residuals:
    """Code all vectors at once, the last layer balanced over them; what is left comes in float32.

    Args:
        vectors: [N, D]
        layers: from `fit_residual`.
        normalize: as at fitting.
        slack: room of the last layer's codes, see `balanced_nearest`.
    """
    codes = torch.empty(len(vectors), len(layers), dtype=torch.int64, device=vectors.device)
    rest = torch.empty_like(vectors, dtype=torch.float32)
    for start in range(0, len(vectors), ROWS):
        part = slice(start, start + ROWS)
        codes[part, :-1], rest[part] = quantize_residual(vectors[part], layers[:-1], normalize)
    codes[:, -1] = balanced_nearest(rest, layers[-1].centroids, slack)
    subtract_(rest, layers[-1].centroids, codes[:, -1], normalize)
    return Residuals(codes, rest)


def reconstruct(codes: Tensor, layers: list[Layer], rest: Tensor) -> Tensor:
    """[N, D] vectors from codes [N, L] and the reconstruction of what the layers left over, `rest` [N, D]."""
    for level in reversed(range(len(layers))):
        code = codes[:, level]
        rest = layers[level].centroids[code] + layers[level].lengths[code].unsqueeze(1) * rest
    return rest


def subtract_(rest: Tensor, centroids: Tensor, codes: Tensor, normalize: bool) -> Tensor:
    """Subtract each vector's centroid in place, and normalise; return the lengths [N] before that, in float64."""
    lengths = torch.empty(len(rest), dtype=torch.float64, device=rest.device)
    for start in range(0, len(rest), ROWS):
        part = slice(start, start + ROWS)
        difference = rest[part].double() - centroids.double()[codes[part]]
        lengths[part] = length = difference.norm(dim=1)
        if normalize:
            difference = torch.where(
                (length < ZERO).unsqueeze(1), 0.0, difference / length.clamp(min=ZERO).unsqueeze(1)
            )
        rest[part] = difference.to(rest.dtype)
    return lengths


def _mean_lengths(lengths: Tensor, codes: Tensor, size: int) -> Tensor:
    sums = torch.zeros(size, dtype=torch.float64, device=codes.device).index_add_(0, codes, lengths)
    counts = torch.bincount(codes, minlength=size)
    means = torch.where(counts > 0, sums / counts.clamp(min=1), lengths.mean())  # unused codes: the level's mean
    return means.float()


def _drawn(vectors: Tensor, number: int, seed: int) -> Tensor:
    if len(vectors) <= number:
        return vectors
    generator = torch.Generator().manual_seed(seed)
    return vectors[torch.randperm(len(vectors), generator=generator)[:number].to(vectors.device)]
