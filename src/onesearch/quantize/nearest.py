"""The nearest centroid, the same wherever and in whatever company a vector is coded.

    code(x) = argmin_k ‖x − C[k]‖² = argmin_k ‖C[k]‖² − 2·x·C[k]

Codes are stored and compared for years: they must not depend on the batch that a vector came in, nor on the device.
Float32 products differ in their last bits from one shape and machine to another. So float32 decides only where
the best centroid leads by more than the products' error bound; the few vectors in doubt are decided in float64, where
centroids whose distances differ by less than `TIE` of the vectors' scale count as equal, and the lowest code wins.

Shapes: N vectors, D width, K centroids.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

TIE = 1e-10
"""Relative distance below which two centroids are equally near: far above float64 rounding, far below any meaning."""

ROWS = 8192
"""Vectors that are widened to float64 at once: they stay in a CPU's cache from one layer to the next."""

_CHUNK_ELEMENTS = (2**20, 2**25)  # scores held at once: 4 MB stay in a CPU's cache until they are read; on a GPU more
_COLUMNS = 32  # their minima alone are ten times faster than with their places (see `Lowest`); of fewer, slower
_UNIT = 2.0**-24  # rounding of float32
_INPUT_ROUNDING = {"highest": 0.0, "high": 2.0**-11, "medium": 2.0**-8}  # TF32 and bfloat16 round the factors


class Lowest(NamedTuple):
    """The lowest of each row's scores, folded to 32 columns: found in two steps, which column, then where in it."""

    best: Tensor  # [n] the lowest score
    codes: Tensor  # [n] where it stands
    columns: Tensor  # [n, 32] the lowest of each column
    members: Tensor  # [n, K/32] the column that holds the lowest


class Scores:
    """Scores ‖C[k]‖² − 2·x·C[k] of chunks of vectors, written into one buffer: each call overwrites the last.

    Args:
        centroids: [K, D]
        is_open: [K] bool, the centroids that may be nearest; None: all.
        rough: round factors and products to bfloat16's 8 bits, which is good enough to fit and not to code.
    """

    def __init__(self, centroids: Tensor, is_open: Tensor | None = None, rough: bool = False) -> None:
        missing = -len(centroids) % _COLUMNS
        padded = pad(centroids.float(), (0, 0, 0, missing))
        is_open = centroids.new_ones(len(centroids), dtype=torch.bool) if is_open is None else is_open
        self.norms = torch.where(pad(is_open, (0, missing)), padded.square().sum(dim=1), torch.inf)
        self.factors = (-2 * padded.T).to(torch.bfloat16 if rough else torch.float32).contiguous()
        self.chunk = max(1, _CHUNK_ELEMENTS[padded.device.type == "cuda"] // len(padded))
        self.scores, self.products = padded.new_empty(0), self.factors.new_empty(0)

    def __call__(self, vectors: Tensor) -> Tensor:
        """[n, K] for float32 [n, D] with n at most `chunk`; columns of +inf follow up to a multiple of 32."""
        shape = len(vectors), len(self.norms)
        if len(self.scores) < len(vectors):
            self.scores = self.scores.new_empty(shape)
        scores = self.scores[: len(vectors)]
        if self.factors.dtype == torch.float32:
            return torch.addmm(self.norms, vectors, self.factors, out=scores)
        if len(self.products) < len(vectors):
            self.products = self.products.new_empty(shape)
        torch.mm(vectors.to(torch.bfloat16), self.factors, out=self.products[: len(vectors)])
        return scores.copy_(self.products[: len(vectors)]).add_(self.norms)

    def lowest(self, vectors: Tensor) -> Lowest:
        """The nearest centroids of [n, D] float32 vectors, with n at most `chunk`."""
        scores = self(vectors)
        folded = scores.view(len(scores), scores.shape[1] // _COLUMNS, _COLUMNS)
        columns = folded.amin(dim=1)
        column = columns.min(dim=1).indices  # faster than argmin
        members = folded.transpose(1, 2)[torch.arange(len(scores), device=scores.device), column]
        best, place = members.min(dim=1)
        return Lowest(best, place * _COLUMNS + column, columns, members)


@torch.no_grad()
def nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    """[N] int64 codes of the nearest centroids.

    Args:
        vectors: [N, D] of any floating type.
        centroids: [K, D]
    """
    scores_of, largest = Scores(centroids), centroids.float().norm(dim=1).max()
    codes = []
    for chunk in vectors.split(scores_of.chunk):
        rounded = chunk.float()
        codes.append(_decided(scores_of.lowest(rounded), _margin(rounded, largest), chunk, centroids))
    return torch.cat(codes)


def _decided(lowest: Lowest, margin: Tensor, vectors: Tensor, centroids: Tensor) -> Tensor:
    """The codes of the lowest scores, in float64 where another score is within the margin [n]."""
    limit = (lowest.best + margin).unsqueeze(1)
    doubtful = ((lowest.columns <= limit).sum(dim=1) > 1) | ((lowest.members <= limit).sum(dim=1) > 1)
    rows = doubtful.nonzero().flatten()
    if len(rows):
        lowest.codes[rows] = _first_of_the_nearest(vectors[rows].double(), centroids.double())
    return lowest.codes


def _margin(vectors: Tensor, largest: Tensor) -> Tensor:
    """[N] the most by which the difference of two float32 scores can be wrong; no centroid is longer than `largest`."""
    length = vectors.norm(dim=1)
    summed = (vectors.shape[1] + 8) * _UNIT
    margin: Tensor = 2 * largest * (2 * (summed + 2 * _input_rounding()) * length + summed * largest)
    return margin


def _input_rounding() -> float:
    """How far products may round their factors; torch refuses to say once a backend was set on its own to do so."""
    try:
        return _INPUT_ROUNDING[torch.get_float32_matmul_precision()]
    except RuntimeError:
        return max(_INPUT_ROUNDING.values())


def _first_of_the_nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    norms = centroids.square().sum(dim=1)
    scores = torch.addmm(norms, vectors, centroids.T, alpha=-2)
    scale = vectors.square().sum(dim=1, keepdim=True) + norms.max()
    ties = scores <= scores.min(dim=1, keepdim=True).values + TIE * scale
    return ties.to(torch.uint8).argmax(dim=1)  # the first of the equals
