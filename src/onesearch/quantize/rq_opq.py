"""RQ-OPQ, the tokenizer of OneSearch: residual layers for what items share, product layers for what sets them apart.

    e° ∈ R^D → (c_1, c_2, c_3 | o_1, o_2)      RQ on e°, OPQ on the residual that RQ leaves      (arXiv 2509.03236)

Queries and items share one codebook, fitted on both together. Without product layers it is RQ k-means alone, without
residual layers OPQ alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from onesearch.quantize.codebook import Codebook, CodebookRecipe, check_embeddings, check_sizes
from onesearch.quantize.kmeans import Effort
from onesearch.quantize.nearest import ROWS
from onesearch.quantize.product import fit_product, quantize_product, reconstruct_product
from onesearch.quantize.residual import (
    Layer,
    Residuals,
    fit_residual,
    quantize_balanced,
    quantize_residual,
    reconstruct,
)
from onesearch.types import UserError


class RqOpq(Codebook):
    """Residual layers, then product layers.

    Args:
        rq_sizes: codes of each residual layer; empty for OPQ alone.
        opq_sizes: codes of each product layer; empty for RQ alone.
        dim: D, the width of the embeddings.
        normalize_residuals: L2-normalise what each residual layer leaves.
    """

    rotation: Tensor

    def __init__(
        self, rq_sizes: Sequence[int], opq_sizes: Sequence[int], dim: int, normalize_residuals: bool = True
    ) -> None:
        super().__init__(rq_sizes, opq_sizes, dim)
        if opq_sizes and dim % len(opq_sizes):
            raise UserError(f"dim is {dim}: it must be a multiple of the {len(opq_sizes)} product layers.")
        self.normalize_residuals = normalize_residuals
        for level, size in enumerate(self.rq_sizes):
            self.register_buffer(f"rq_{level}", torch.zeros(size, dim))
            self.register_buffer(f"rq_{level}_lengths", torch.ones(size))
        for number, size in enumerate(self.opq_sizes):
            self.register_buffer(f"opq_{number}", torch.zeros(size, dim // len(self.opq_sizes)))
        self.register_buffer("rotation", torch.eye(dim))

    def options(self) -> dict[str, Any]:
        """Sizes, width, normalisation."""
        shape = {"rq_sizes": self.rq_sizes, "opq_sizes": self.opq_sizes, "dim": self.dim}
        return shape | {"normalize_residuals": self.normalize_residuals}

    @torch.no_grad()
    def encode(self, embeddings: Tensor, slack: float | None = None) -> Tensor:
        """[N, C] int64 codes of embeddings [N, D]; with `slack` the last residual layer is balanced over them."""
        if slack is None or not self.rq_sizes:
            parts = embeddings.split(ROWS)
            coded = [self._with_product(quantize_residual(p, self._layers(), self.normalize_residuals)) for p in parts]
            return torch.cat(coded)
        codes, rest = quantize_balanced(embeddings, self._layers(), self.normalize_residuals, slack)
        slices = [slice(start, start + ROWS) for start in range(0, len(codes), ROWS)]
        return torch.cat([self._with_product(Residuals(codes[part], rest[part])) for part in slices])

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """[N, D] approximate embeddings from codes [N, C]."""
        num_rq = len(self.rq_sizes)
        if self.opq_sizes:
            rest = reconstruct_product(codes[:, num_rq:], self.rotation, self._codebooks())
        else:
            rest = self.rotation.new_zeros(len(codes), self.dim)
        return reconstruct(codes[:, :num_rq], self._layers(), rest)

    def level_centroids(self, level: int) -> Tensor:
        """[K_l, D] the centroids of a layer; a product layer's are rotated back, zero outside their own subspace."""
        if level < len(self.rq_sizes):
            return self.get_buffer(f"rq_{level}")
        number = level - len(self.rq_sizes)
        width = self.dim // len(self.opq_sizes)
        return self.get_buffer(f"opq_{number}") @ self.rotation[number * width : (number + 1) * width]

    def _with_product(self, residuals: Residuals) -> Tensor:
        if not self.opq_sizes:
            return residuals.codes
        product = quantize_product(residuals.rest, self.rotation, self._codebooks())
        return torch.cat([residuals.codes, product], dim=1)

    def _layers(self) -> list[Layer]:
        names = [f"rq_{level}" for level in range(len(self.rq_sizes))]
        return [Layer(self.get_buffer(name), self.get_buffer(f"{name}_lengths")) for name in names]

    def _codebooks(self) -> list[Tensor]:
        return [self.get_buffer(f"opq_{number}") for number in range(len(self.opq_sizes))]


@dataclass(frozen=True)
class RqOpqRecipe(CodebookRecipe):
    """Fits RQ-OPQ.

    Args:
        rq_sizes: codes of each residual layer; empty for OPQ alone.
        opq_sizes: codes of each product layer; empty for RQ alone.
        normalize_residuals: L2-normalise what each residual layer leaves.
        slack: the last residual layer's codes hold at most ceil(N/K·slack) embeddings; null: no balance.
        effort: `exact`, `fast` (one sample, few axes) or `faiss` (its k-means, on GPUs where it has them).
    """

    rq_sizes: tuple[int, ...] = (4096, 1024, 512)
    opq_sizes: tuple[int, ...] = (256, 256)
    normalize_residuals: bool = True
    slack: float | None = 1.1
    effort: Effort = "exact"

    def __post_init__(self) -> None:
        check_sizes(self.rq_sizes, self.opq_sizes)
        if self.slack is not None and self.slack < 1:
            raise UserError(f"slack is {self.slack}: below 1 the codes cannot hold all vectors; use 1.1, or null.")

    def fit(self, embeddings: Tensor, seed: int = 0) -> RqOpq:
        """Fit on embeddings [N, D]; every layer starts from its own seed after `seed`."""
        codebook = RqOpq(self.rq_sizes, self.opq_sizes, embeddings.shape[1], self.normalize_residuals)
        codebook.to(embeddings.device)
        check_embeddings(embeddings, self.rq_sizes, self.opq_sizes)
        layers, rest = fit_residual(
            embeddings, codebook.rq_sizes, seed, self.effort, self.normalize_residuals, self.slack
        )
        for level, layer in enumerate(layers):
            codebook.get_buffer(f"rq_{level}").copy_(layer.centroids)
            codebook.get_buffer(f"rq_{level}_lengths").copy_(layer.lengths)
        if self.opq_sizes:
            rotation, tables = fit_product(rest, codebook.opq_sizes, seed + len(self.rq_sizes), self.effort)
            codebook.rotation.copy_(rotation)
            for number, table in enumerate(tables):
                codebook.get_buffer(f"opq_{number}").copy_(table)
        return codebook
