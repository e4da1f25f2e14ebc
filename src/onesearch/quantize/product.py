"""Optimised product quantisation (OPQ): a learned rotation, then one small codebook for each part of the vector.

    min over R, C of  Σ_i ‖R·x_i − ŷ_i‖²,     ŷ_i = (C_1[o_1], C_2[o_2]),     Rᵀ·R = I

Solved by turns (Ge et al., CVPR 2013): with R fixed, one k-means step in each subspace; with the codes fixed, R = U·Vᵀ
of the SVD Ŷᵀ·X = U·S·Vᵀ (orthogonal Procrustes). It starts from the principal axes, dealt out so that the subspaces
have like products of variances. A sample of `POINTS_PER_CODE` vectors a code decides all of it.
"""

import torch
from torch import Tensor

from onesearch.quantize.kmeans import Effort, kmeans
from onesearch.quantize.lloyd import Rows, assign, lloyd
from onesearch.quantize.nearest import nearest

POINTS_PER_CODE = 256
TURNS = {"exact": 4, "fast": 3, "faiss": 4}
"""Turns between rotation and codebooks: eight more lower the error by half a percent."""


@torch.no_grad()
def fit_product(
    vectors: Rows, sizes: tuple[int, ...], seed: int, effort: Effort = "exact"
) -> tuple[Tensor, list[Tensor]]:
    """Fit the rotation and the sub-quantizers.

    Args:
        vectors: [N, D] with D a multiple of the number of sub-quantizers M.
        sizes: codes of each sub-quantizer.
        seed: sub-quantizer m starts from seed + m.
        effort: see `kmeans`.

    Returns:
        The rotation R [D, D] and the codebooks, each [K_m, D / M].
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(vectors), generator=generator)[: POINTS_PER_CODE * max(sizes)]
    sample = vectors[rows.to(vectors.device)].float()
    rotation = _principal_rotation(sample, len(sizes))
    parts = _parts(sample, rotation, len(sizes))
    codebooks = [kmeans(part, size, seed + m, effort) for m, (part, size) in enumerate(zip(parts, sizes, strict=True))]
    for _ in range(TURNS[effort]):
        targets = [book[assign(part, book).codes] for part, book in zip(parts, codebooks, strict=True)]
        rotation = _procrustes(sample, torch.cat(targets, dim=1))
        parts = _parts(sample, rotation, len(sizes))
        codebooks = [lloyd(part, book, 1) for part, book in zip(parts, codebooks, strict=True)]
    return rotation, codebooks


def quantize_product(vectors: Tensor, rotation: Tensor, codebooks: list[Tensor]) -> Tensor:
    """[N, M] int64 codes of vectors [N, D], few enough to be widened to float64."""
    parts = _parts(vectors.double(), rotation.double(), len(codebooks))
    return torch.stack([nearest(part, book) for part, book in zip(parts, codebooks, strict=True)], dim=1)


def reconstruct_product(codes: Tensor, rotation: Tensor, codebooks: list[Tensor]) -> Tensor:
    """[N, D] vectors from codes [N, M], rotated back."""
    return torch.cat([book[codes[:, number]] for number, book in enumerate(codebooks)], dim=1) @ rotation


def _parts(vectors: Tensor, rotation: Tensor, num_parts: int) -> list[Tensor]:
    return [part.contiguous() for part in (vectors @ rotation.T).chunk(num_parts, dim=1)]


def _procrustes(vectors: Tensor, targets: Tensor) -> Tensor:
    """The orthogonal R that brings R·x nearest to the targets."""
    left, _, right = torch.linalg.svd((targets.T @ vectors).double())
    rotation: Tensor = left @ right
    return rotation.to(vectors.dtype)


def _principal_rotation(vectors: Tensor, num_parts: int) -> Tensor:
    """Principal axes as rows, the largest first to the part whose variances have the smallest product so far."""
    centred = vectors - vectors.mean(dim=0)
    variances, axes = torch.linalg.eigh((centred.T @ centred / len(vectors)).double())
    width = vectors.shape[1] // num_parts
    logs = variances.clamp(min=1e-12).log()
    logs -= logs.min()  # variances below 1 would make a product smaller with every axis that is dealt
    parts: list[list[int]] = [[] for _ in range(num_parts)]
    products = [0.0] * num_parts
    for axis in reversed(range(len(variances))):  # eigh sorts ascending
        open_parts = [number for number in range(num_parts) if len(parts[number]) < width]
        part = min(open_parts, key=lambda number: products[number])
        parts[part].append(axis)
        products[part] += float(logs[axis])
    rotation: Tensor = axes.T[[axis for part in parts for axis in part]]
    return rotation.to(vectors.dtype)
