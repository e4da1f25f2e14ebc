"""The nearest centroid, the same wherever and in whatever company a vector is coded.

    code(x) = argmin_k ‖x − C[k]‖² = argmin_k ‖C[k]‖² − 2·x·C[k]

Codes are stored and compared for years: they must not depend on the batch that a vector came in, nor on the device.
Float32 products differ in their last bits from one shape and machine to another. So float32 decides only where
the best centroid leads by more than the products' error bound; the few vectors in doubt are decided in float64, where
centroids whose distances differ by less than `TIE` of the vectors' scale count as equal, and the lowest code wins.

Shapes: N vectors, D width, K centroids.
"""

import torch
from torch import Tensor

TIE = 1e-10
"""Relative distance below which two centroids are equally near: far above float64 rounding, far below any meaning."""

_CHUNK_ELEMENTS = 2**22  # scores held at once: 16 MB, which stays in a CPU's cache hierarchy
_UNIT = 2.0**-24  # rounding of float32
_INPUT_ROUNDING = {"highest": 0.0, "high": 2.0**-11, "medium": 2.0**-8}  # TF32 and bfloat16 round the factors


def chunk_size(num_centroids: int) -> int:
    """How many vectors have their scores with all centroids held at once."""
    return max(1, _CHUNK_ELEMENTS // num_centroids)


class Scores:
    """Float32 scores ‖C[k]‖² − 2·x·C[k] of chunks of vectors, written into one buffer: each call overwrites the last.

    Args:
        centroids: [K, D]
        is_open: [K] bool, the centroids that may be nearest; None: all.
    """

    def __init__(self, centroids: Tensor, is_open: Tensor | None = None) -> None:
        quick = centroids.float()
        norms = quick.square().sum(dim=1)
        self.norms = norms if is_open is None else torch.where(is_open, norms, torch.inf)
        self.transposed = quick.T.contiguous()
        self.chunk = max(1, _CHUNK_ELEMENTS // len(centroids))
        self.buffer = quick.new_empty(0, len(centroids))

    def __call__(self, vectors: Tensor) -> Tensor:
        """[n, K] for [n, D] with n at most `chunk`."""
        if len(self.buffer) < len(vectors):
            self.buffer = self.buffer.new_empty(len(vectors), self.buffer.shape[1])
        scores = self.buffer[: len(vectors)]
        torch.addmm(self.norms, vectors.float(), self.transposed, alpha=-2, out=scores)
        return scores


@torch.no_grad()
def nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    """[N] int64 codes of the nearest centroids.

    Args:
        vectors: [N, D] of any floating type.
        centroids: [K, D]
    """
    scores_of = Scores(centroids)
    codes = [_nearest(chunk, centroids, scores_of(chunk)) for chunk in vectors.split(scores_of.chunk)]
    return torch.cat(codes)


def _nearest(vectors: Tensor, centroids: Tensor, scores: Tensor) -> Tensor:
    best, codes = scores.min(dim=1)
    doubtful = (scores <= (best + _margin(vectors, centroids)).unsqueeze(1)).sum(dim=1) > 1
    rows = doubtful.nonzero().flatten()
    if len(rows):
        codes[rows] = _first_of_the_nearest(vectors[rows].double(), centroids.double())
    return codes


def _margin(vectors: Tensor, centroids: Tensor) -> Tensor:
    """[N] the most by which the difference of two float32 scores can be wrong."""
    largest = centroids.float().norm(dim=1).max()
    length = vectors.float().norm(dim=1)
    summed = (vectors.shape[1] + 8) * _UNIT
    factors = _INPUT_ROUNDING[torch.get_float32_matmul_precision()]
    margin: Tensor = 2 * largest * (2 * (summed + 2 * factors) * length + summed * largest)
    return margin


def _first_of_the_nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    norms = centroids.square().sum(dim=1)
    scores = torch.addmm(norms, vectors, centroids.T, alpha=-2)
    scale = vectors.square().sum(dim=1, keepdim=True) + norms.max()
    ties = scores <= scores.min(dim=1, keepdim=True).values + TIE * scale
    return ties.to(torch.uint8).argmax(dim=1)  # the first of the equals
