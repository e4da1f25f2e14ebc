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
from onesearch.quantize.kmeans import Effort, cluster
from onesearch.quantize.lloyd import Rows
from onesearch.quantize.nearest import ROWS, nearest

ZERO = 1e-6
"""Residuals shorter than this are 0: embeddings have length 1 and float32 rounding is 1e-7."""

_FAST_POINTS = 128  # vectors a code of the largest layer that the fast fit looks at
_BALANCE_POINTS = 256  # vectors a code that balancing looks at


class Layer(NamedTuple):
    """One residual layer."""

    centroids: Tensor  # [K, D]
    lengths: Tensor  # [K] s, the mean length of the residual behind each code


class Residuals(NamedTuple):
    """The outcome of quantising vectors layer by layer."""

    codes: Tensor  # [N, number of layers] int64
    rest: Tensor  # [N, D], what the product layers code


class Rest:
    """What the layers so far leave of each vector, computed when it is read: no copy of all the vectors is held.

    Args:
        vectors: [N, D]
        normalize: L2-normalise what each layer leaves.
        dtype: to compute and to answer in.
        sample: [n] the vectors that it stands for; None: all.
    """

    def __init__(
        self, vectors: Tensor, normalize: bool, dtype: torch.dtype = torch.float32, sample: Tensor | None = None
    ) -> None:
        self.vectors, self.normalize, self.dtype, self.device = vectors, normalize, dtype, vectors.device
        self.sample = sample
        self.layers: list[tuple[Tensor, Tensor]] = []  # centroids [K, D], codes [N or n]

    def __len__(self) -> int:
        return len(self.vectors if self.sample is None else self.sample)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """What is left of some rows: [n, D]."""
        rest = self.vectors[rows if self.sample is None else self.sample[rows]].to(self.dtype)
        for centroids, codes in self.layers:
            rest = subtract(rest, centroids[codes[rows]], self.normalize)
        return rest

    def code(self, centroids: Tensor, codes: Tensor) -> None:
        """Add a layer."""
        self.layers.append((centroids, codes))


def fit_residual(
    vectors: Tensor,
    sizes: tuple[int, ...],
    seed: int,
    effort: Effort = "exact",
    normalize: bool = True,
    slack: float | None = 1.1,
) -> tuple[list[Layer], Rest]:
    """Fit the residual layers.

    Args:
        vectors: [N, D] embeddings of length 1.
        sizes: codes of each layer.
        seed: level l starts from seed + l, since equal starts lose codes at deeper levels.
        effort: see `kmeans`; `fast` fits all layers on one sample.
        normalize: L2-normalise the residual after each layer.
        slack: room of the last layer's codes, see `balanced_nearest`; None: not balanced.

    Returns:
        The layers, and the rest [N, D] that they leave of the vectors, or of the sample.
    """
    number = _FAST_POINTS * max(sizes, default=len(vectors))
    sample = _drawn(vectors, number, seed).sort().values if effort == "fast" and number < len(vectors) else None
    layers: list[Layer] = []
    rest = Rest(vectors, normalize, sample=sample)
    for level, size in enumerate(sizes):
        room = slack if level == len(sizes) - 1 else None
        centroids, codes = cluster(rest, size, seed + level, effort)
        if room is not None:
            centroids = balance(rest[_drawn(rest, size * _BALANCE_POINTS, seed + level)], centroids, room)
            codes = balanced_nearest(rest, centroids, room)
        layers.append(Layer(centroids, _mean_lengths(rest, centroids, codes)))
        rest.code(centroids, codes)
    return layers, rest


def quantize_residual(vectors: Tensor, layers: list[Layer], normalize: bool = True) -> Residuals:
    """Code each vector by itself with fitted layers, in float64.

    Args:
        vectors: [N, D], few enough to be widened.
        layers: from `fit_residual`.
        normalize: as at fitting.
    """
    rest = vectors.double()
    codes = torch.empty(len(vectors), len(layers), dtype=torch.int64, device=vectors.device)
    for level, layer in enumerate(layers):
        codes[:, level] = nearest(rest, layer.centroids)
        rest = subtract(rest, layer.centroids[codes[:, level]], normalize)
    return Residuals(codes, rest)


def quantize_balanced(vectors: Tensor, layers: list[Layer], normalize: bool, slack: float) -> tuple[Tensor, Rest]:
    """Codes [N, layers] of all vectors at once, the last layer balanced over them, and the rest [N, D] they leave.

    Args:
        vectors: [N, D]
        layers: from `fit_residual`.
        normalize: as at fitting.
        slack: room of the last layer's codes, see `balanced_nearest`.
    """
    codes = torch.empty(len(vectors), len(layers), dtype=torch.int64, device=vectors.device)
    for start in range(0, len(vectors), ROWS):
        part = slice(start, start + ROWS)
        codes[part, :-1] = quantize_residual(vectors[part], layers[:-1], normalize).codes
    rest = Rest(vectors, normalize, torch.float64)
    for level, layer in enumerate(layers):
        if level == len(layers) - 1:
            codes[:, -1] = balanced_nearest(rest, layer.centroids, slack)
        rest.code(layer.centroids, codes[:, level])
    return codes, rest


def reconstruct(codes: Tensor, layers: list[Layer], rest: Tensor) -> Tensor:
    """[N, D] vectors from codes [N, L] and the reconstruction of what the layers left over, `rest` [N, D]."""
    for level in reversed(range(len(layers))):
        code = codes[:, level]
        rest = layers[level].centroids[code] + layers[level].lengths[code].unsqueeze(1) * rest
    return rest


def subtract(rest: Tensor, chosen: Tensor, normalize: bool) -> Tensor:
    """The vectors [N, D] less the centroids [N, D] chosen for them, normalised if asked."""
    difference = rest - chosen
    if normalize:
        lengths = difference.norm(dim=1, keepdim=True)
        difference /= torch.where(lengths < ZERO, torch.inf, lengths)
    return difference


def _mean_lengths(rest: Rest, centroids: Tensor, codes: Tensor) -> Tensor:
    """[K] the mean length of what each code leaves; unused codes get the layer's mean; all 1 where it is kept."""
    size = len(centroids)
    if not rest.normalize:
        return torch.ones(size, device=codes.device)
    sums = torch.zeros(size, dtype=torch.float64, device=codes.device)
    for start in range(0, len(rest), ROWS):
        part = slice(start, start + ROWS)
        lengths = subtract(rest[part], centroids[codes[part]], normalize=False).norm(dim=1)
        sums.index_add_(0, codes[part], lengths.double())
    counts = torch.bincount(codes, minlength=size)
    return torch.where(counts > 0, sums / counts.clamp(min=1), sums.sum() / counts.sum()).float()


def _drawn(vectors: Rows, number: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(len(vectors), generator=generator)[:number].to(vectors.device)
