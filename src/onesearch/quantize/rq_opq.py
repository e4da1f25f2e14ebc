"""RQ-OPQ, the tokenizer of OneSearch: residual layers for what items share, product layers for what sets them apart.

    e° ∈ R^D → (c_1, c_2, c_3 | o_1, o_2)      RQ on e°, OPQ on the residual that RQ leaves      (arXiv 2509.03236)

Queries and items share one codebook, fitted on both together. A fitted codebook is frozen: it codes new vectors at any
time, one by one or in batches, on CPU or GPU, to the same SIDs.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from onesearch.quantize.product import fit_product, quantize_product, reconstruct_product
from onesearch.quantize.residual import Layer, fit_residual, quantize_residual, reconstruct
from onesearch.types import UserError


class RqOpq(nn.Module):
    """A codebook as buffers; `fit` or `load` gives a filled one.

    Args:
        rq_sizes: codes of each residual layer.
        opq_sizes: codes of each product layer; empty for RQ alone.
        dim: D, the width of the embeddings.
        normalize_residuals: L2-normalise what each residual layer leaves.
    """

    rotation: Tensor

    def __init__(
        self, rq_sizes: Sequence[int], opq_sizes: Sequence[int], dim: int, normalize_residuals: bool = True
    ) -> None:
        super().__init__()
        if opq_sizes and dim % len(opq_sizes):
            raise UserError(f"dim is {dim}: it must be a multiple of the {len(opq_sizes)} product layers.")
        self.rq_sizes, self.opq_sizes = tuple(rq_sizes), tuple(opq_sizes)
        self.dim, self.normalize_residuals = dim, normalize_residuals
        for level, size in enumerate(self.rq_sizes):
            self.register_buffer(f"rq_{level}", torch.zeros(size, dim))
            self.register_buffer(f"rq_{level}_lengths", torch.ones(size))
        for number, size in enumerate(self.opq_sizes):
            self.register_buffer(f"opq_{number}", torch.zeros(size, dim // len(self.opq_sizes)))
        self.register_buffer("rotation", torch.eye(dim))

    @classmethod
    def fit(
        cls,
        embeddings: Tensor,
        rq_sizes: Sequence[int] = (4096, 1024, 512),
        opq_sizes: Sequence[int] = (256, 256),
        seed: int = 0,
        num_iterations: int = 25,
        normalize_residuals: bool = True,
        slack: float | None = 1.1,
        init: str = "k-means++",
        backend: str = "torch",
    ) -> "RqOpq":
        """Fit a codebook on the embeddings of items and queries together.

        Args:
            embeddings: [N, D] fused and L2-normalised.
            rq_sizes: codes of each residual layer.
            opq_sizes: codes of each product layer.
            seed: of all layers; each layer starts from its own number after it.
            num_iterations: of k-means, of balancing and of OPQ's turns.
            normalize_residuals: L2-normalise what each residual layer leaves.
            slack: the last residual layer's codes hold at most ceil(N/K·slack) of the embeddings; None: no balance.
            init: `k-means++` or `random`.
            backend: `torch` or `faiss`.

        Raises:
            UserError: fewer embeddings than a layer has codes, or a value that is not finite.
        """
        model = cls(rq_sizes, opq_sizes, embeddings.shape[1], normalize_residuals).to(embeddings.device)
        model._check(embeddings)
        layers = fit_residual(
            embeddings, model.rq_sizes, seed, num_iterations, normalize_residuals, slack, init, backend
        )
        for level, layer in enumerate(layers):
            model.get_buffer(f"rq_{level}").copy_(layer.centroids)
            model.get_buffer(f"rq_{level}_lengths").copy_(layer.lengths)
        if model.opq_sizes:
            rest = quantize_residual(embeddings, layers, normalize_residuals, slack).rest
            own_seed = seed + len(model.rq_sizes)
            rotation, codebooks = fit_product(rest, model.opq_sizes, own_seed, num_iterations, init, backend)
            model.rotation.copy_(rotation)
            for number, codebook in enumerate(codebooks):
                model.get_buffer(f"opq_{number}").copy_(codebook)
        return model

    @torch.no_grad()
    def encode(self, embeddings: Tensor, slack: float | None = None) -> Tensor:
        """Code embeddings.

        Args:
            embeddings: [N, D] fused and L2-normalised.
            slack: None codes each embedding by itself, as all new items and queries are. With a number the last
                residual layer is balanced over these N: how the embeddings of the fit are coded, all at once.

        Returns:
            [N, C] int64, residual layers first.
        """
        residuals = quantize_residual(embeddings, self._layers(), self.normalize_residuals, slack)
        if not self.opq_sizes:
            return residuals.codes
        return torch.cat([residuals.codes, quantize_product(residuals.rest, self.rotation, self._codebooks())], dim=1)

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

    def save(self, path: Path) -> None:
        """Write a safetensors file that `load` reads."""
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, path, metadata={"normalize_residuals": str(self.normalize_residuals)})

    @classmethod
    def load(cls, path: Path) -> "RqOpq":
        """Read a codebook; it gives the same codes as the one that was saved."""
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            normalize = file.metadata()["normalize_residuals"] == "True"
        rq_sizes = _sizes(state, "rq_{}")
        model = cls(rq_sizes, _sizes(state, "opq_{}"), state["rotation"].shape[0], normalize)
        model.load_state_dict(state)
        return model

    def _layers(self) -> list[Layer]:
        names = [f"rq_{level}" for level in range(len(self.rq_sizes))]
        return [Layer(self.get_buffer(name), self.get_buffer(f"{name}_lengths")) for name in names]

    def _codebooks(self) -> list[Tensor]:
        return [self.get_buffer(f"opq_{number}") for number in range(len(self.opq_sizes))]

    def _check(self, embeddings: Tensor) -> None:
        for field, sizes in (("rq_sizes", self.rq_sizes), ("opq_sizes", self.opq_sizes)):
            for number, size in enumerate(sizes):
                if size > len(embeddings):
                    raise UserError(
                        f"{field}[{number}] is {size}, but only {len(embeddings)} embeddings are given to fit on: "
                        f"set it to at most {len(embeddings)}."
                    )
        bad = (~embeddings.isfinite().all(dim=1)).nonzero().flatten()
        if len(bad):
            raise UserError(f"embeddings: row {int(bad[0])} is not finite; {len(bad)} such rows. Check the encoder.")


def _sizes(state: dict[str, Tensor], pattern: str) -> list[int]:
    sizes: list[int] = []
    while (name := pattern.format(len(sizes))) in state:
        sizes.append(len(state[name]))
    return sizes
