"""What every tokenizer is: a frozen codebook that turns embeddings into codes and back, and the recipe that fits one.

Shapes: N vectors, D width, C = residual + product layers.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from onesearch.types import UserError


class Codebook(nn.Module, ABC):
    """A fitted tokenizer, its tables as buffers.

    It codes new vectors at any time, one by one or in batches, on CPU or GPU, to the same semantic IDs.

    Args:
        rq_sizes: codes of each residual layer.
        opq_sizes: codes of each product layer.
        dim: D, the width of the embeddings.
    """

    def __init__(self, rq_sizes: Sequence[int], opq_sizes: Sequence[int], dim: int) -> None:
        super().__init__()
        self.rq_sizes, self.opq_sizes, self.dim = tuple(rq_sizes), tuple(opq_sizes), dim

    @abstractmethod
    def encode(self, embeddings: Tensor, slack: float | None = None) -> Tensor:
        """[N, C] int64 codes of embeddings [N, D], residual layers first.

        Args:
            embeddings: [N, D] fused and L2-normalised.
            slack: None codes each embedding by itself, as all new items and queries are. With a number the last
                residual layer is balanced over these N, where the tokenizer has such a layer: how a catalogue is coded.
        """

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """[N, D] approximate embeddings from codes [N, C]."""

    @abstractmethod
    def level_centroids(self, level: int) -> Tensor:
        """[K_l, width] the centroids of a layer; all layers have the same width."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The arguments that build an empty one of the same shape."""

    def save(self, path: Path) -> None:
        """Write a safetensors file that `load_codebook` reads."""
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self.state_dict().items()}
        # One entry: safetensors writes several in a random order, and equal codebooks must be equal files.
        description = json.dumps({"class": type(self).__name__, "options": self.options()})
        save_file(tensors, path, metadata={"codebook": description})


class CodebookRecipe(ABC):
    """How a codebook is fitted; the quantizer stage is given one."""

    slack: float | None = None
    """Room of the balanced layer when the catalogue is coded; None: not balanced."""

    @abstractmethod
    def fit(self, embeddings: Tensor, seed: int) -> Codebook:
        """Fit on the embeddings [N, D] of items and queries together.

        Raises:
            UserError: fewer embeddings than a layer has codes, or a value that is not finite.
        """


def check_sizes(rq_sizes: Sequence[int], opq_sizes: Sequence[int]) -> None:
    """Refuse layers without codes, and a codebook without layers.

    Raises:
        UserError: it names the field.
    """
    for field, sizes in (("rq_sizes", rq_sizes), ("opq_sizes", opq_sizes)):
        if any(size < 1 for size in sizes):
            raise UserError(f"{field} is {tuple(sizes)}: every layer needs at least 1 code.")
    if not rq_sizes and not opq_sizes:
        raise UserError("rq_sizes and opq_sizes are both empty: a codebook needs a layer.")


def check_embeddings(embeddings: Tensor, rq_sizes: Sequence[int], opq_sizes: Sequence[int]) -> None:
    """Refuse what no codebook can be fitted on.

    Raises:
        UserError: fewer embeddings than a layer has codes, or a value that is not finite.
    """
    for field, sizes in (("rq_sizes", rq_sizes), ("opq_sizes", opq_sizes)):
        for number, size in enumerate(sizes):
            if size > len(embeddings):
                raise UserError(
                    f"{field}[{number}] is {size}, but only {len(embeddings)} embeddings are given to fit on: "
                    f"set it to at most {len(embeddings)}."
                )
    finite = torch.cat([part.isfinite().all(dim=1) for part in embeddings.split(65_536)])
    bad = (~finite).nonzero().flatten()
    if len(bad):
        raise UserError(f"embeddings: row {int(bad[0])} is not finite; {len(bad)} such rows. Check the encoder.")
