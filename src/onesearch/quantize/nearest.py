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

ROWS = 16_384
"""Vectors that are widened to float64 at once."""

_CHUNK_ELEMENTS = (2**20, 2**25)  # scores held at once: 4 MB stay in a CPU's cache until they are read; on a GPU more
_SHARES = 32  # the minimum of many columns alone is ten times faster than with its place: see `Lowest`
_UNIT = 2.0**-24  # rounding of float32
_INPUT_ROUNDING = {"highest": 0.0, "high": 2.0**-11, "medium": 2.0**-8}  # TF32 and bfloat16 round the factors


class Lowest(NamedTuple):
    """The lowest of each row's scores, found in two steps: whose column of shares holds it, then in which share."""

    best: Tensor  # [n] the lowest score
    codes: Tensor  # [n] where it stands
    columns: Tensor  # [n, K/32] the lowest of each column
    members: Tensor  # [n, 32] the column that holds the lowest


class Scores:
    """Scores ‖C[k]‖² − 2·x·C[k] of chunks of vectors, written into one buffer: each call overwrites the last.

    Args:
        centroids: [K, D]
        is_open: [K] bool, the centroids that may be nearest; None: all.
        rough: round factors and products to bfloat16's 8 bits, which is good enough to fit and not to code.
    """

    def __init__(self, centroids: Tensor, is_open: Tensor | None = None, rough: bool = False) -> None:
        missing = -len(centroids) % _SHARES
        padded = pad(centroids.float(), (0, 0, 0, missing))
        is_open = centroids.new_ones(len(centroids), dtype=torch.bool) if is_open is None else is_open
        self.norms = torch.where(pad(is_open, (0, missing)), padded.square().sum(dim=1), torch.inf)
        self.transposed = padded.T.to(torch.bfloat16 if rough else torch.float32).contiguous()
        self.chunk = max(1, _CHUNK_ELEMENTS[padded.device.type == "cuda"] // len(padded))
        self.scores, self.products = padded.new_empty(0), self.transposed.new_empty(0)

    def __call__(self, vectors: Tensor) -> Tensor:
        """[n, K] for [n, D] with n at most `chunk`; columns of +inf follow up to a multiple of 32."""
        shape = len(vectors), len(self.norms)
        if len(self.scores) < len(vectors):
            self.scores = self.scores.new_empty(shape)
        scores = self.scores[: len(vectors)]
        if self.transposed.dtype == torch.float32:
            return torch.addmm(self.norms, vectors.float(), self.transposed, alpha=-2, out=scores)
        if len(self.products) < len(vectors):
            self.products = self.products.new_empty(shape)
        torch.mm(vectors.to(torch.bfloat16), self.transposed, out=self.products[: len(vectors)])
        return scores.copy_(self.products[: len(vectors)]).mul_(-2).add_(self.norms)

    def lowest(self, vectors: Tensor) -> Lowest:
        """The nearest centroids of [n, D] vectors, with n at most `chunk`."""
        scores = self(vectors)
        shares = scores.view(len(scores), _SHARES, scores.shape[1] // _SHARES)
        columns = shares.amin(dim=1)
        column = columns.min(dim=1).indices  # faster than argmin
        members = shares.transpose(1, 2)[torch.arange(len(scores), device=scores.device), column]
        best, share = members.min(dim=1)
        return Lowest(best, share * columns.shape[1] + column, columns, members)


@torch.no_grad()
def nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    """[N] int64 codes of the nearest centroids.

    Args:
        vectors: [N, D] of any floating type.
        centroids: [K, D]
    """
    scores_of = Scores(centroids)
    codes = [_nearest(chunk, centroids, scores_of.lowest(chunk)) for chunk in vectors.split(scores_of.chunk)]
    return torch.cat(codes)


def _nearest(vectors: Tensor, centroids: Tensor, lowest: Lowest) -> Tensor:
    limit = (lowest.best + _margin(vectors, centroids)).unsqueeze(1)
    doubtful = ((lowest.columns <= limit).sum(dim=1) > 1) | ((lowest.members <= limit).sum(dim=1) > 1)
    rows = doubtful.nonzero().flatten()
    if len(rows):
        lowest.codes[rows] = _first_of_the_nearest(vectors[rows].double(), centroids.double())
    return lowest.codes


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
