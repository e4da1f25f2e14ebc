"""RQ-VAE, the tokenizer of TIGER (arXiv 2305.05065), to compare with: residual codes of a learned latent.

    z = E(e°),   r_0 = z,   c_l = argmin_k ‖r_{l-1} − C_l[k]‖²,   r_l = r_{l-1} − C_l[c_l],   ẑ = Σ_l C_l[c_l]
    L = ‖e° − D(z + sg(ẑ − z))‖² + Σ_l ‖sg(r_{l-1}) − C_l[c_l]‖² + β·‖r_{l-1} − sg(C_l[c_l])‖²

sg is stop-gradient. The codebooks start from k-means on the latents of an encoder that has seen the data for a while,
and a code that nothing used in an epoch starts anew at a latent; without both, most codes die.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from onesearch.quantize.codebook import Codebook, CodebookRecipe, check_embeddings, check_sizes
from onesearch.quantize.kmeans import kmeans
from onesearch.quantize.nearest import ROWS, nearest


class RqVae(Codebook):
    """Encoder, residual codebooks over its latents, decoder.

    Args:
        rq_sizes: codes of each layer.
        dim: D, the width of the embeddings.
        latent: width of z.
        hidden: widths between D and the latent.
    """

    def __init__(self, rq_sizes: Sequence[int], dim: int, latent: int = 32, hidden: Sequence[int] = (128, 64)) -> None:
        super().__init__(rq_sizes, (), dim)
        self.latent, self.hidden = latent, tuple(hidden)
        self.encoder = _mlp([dim, *hidden, latent])
        self.decoder = _mlp([latent, *reversed(self.hidden), dim])
        self.tables = nn.ParameterList([torch.zeros(size, latent) for size in self.rq_sizes])

    def options(self) -> dict[str, Any]:
        """Sizes and widths."""
        return {"rq_sizes": self.rq_sizes, "dim": self.dim, "latent": self.latent, "hidden": self.hidden}

    @torch.no_grad()
    def encode(self, embeddings: Tensor, slack: float | None = None) -> Tensor:
        """[N, C] int64 codes of embeddings [N, D], each coded by itself, in float64."""
        exact = _mlp([self.dim, *self.hidden, self.latent]).to(embeddings.device, torch.float64)
        exact.load_state_dict(self.encoder.state_dict())
        return torch.cat([self.quantize(exact(part.double()))[0] for part in embeddings.split(ROWS)])

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """[N, D] approximate embeddings from codes [N, C]."""
        latents = sum(table[codes[:, level]] for level, table in enumerate(self.tables))
        decoded: Tensor = self.decoder(latents)
        return decoded

    def level_centroids(self, level: int) -> Tensor:
        """[K_l, latent] the codebook of a layer."""
        table: Tensor = self.tables[level].detach()
        return table

    def quantize(self, latents: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Codes [N, C] of latents [N, latent], and what each layer was given, [N, latent] each."""
        rest, codes, given = latents, [], []
        for table in self.tables:
            given.append(rest)
            codes.append(nearest(rest.detach(), table.detach()))
            rest = rest - table.detach()[codes[-1]]
        return torch.stack(codes, dim=1), given

    def loss(self, embeddings: Tensor, commitment: float) -> tuple[Tensor, Tensor]:
        """The training loss of embeddings [B, D], and their codes [B, C]."""
        latents = self.encoder(embeddings)
        codes, given = self.quantize(latents)
        chosen = [table[codes[:, level]] for level, table in enumerate(self.tables)]
        quantized = latents + (torch.stack(chosen).sum(dim=0) - latents).detach()
        total = mse_loss(self.decoder(quantized), embeddings, reduction="sum")
        for rest, entry in zip(given, chosen, strict=True):
            total = total + mse_loss(entry, rest.detach(), reduction="sum")
            total = total + commitment * mse_loss(rest, entry.detach(), reduction="sum")
        return total / len(embeddings), codes


@dataclass(frozen=True)
class RqVaeRecipe(CodebookRecipe):
    """Trains an RQ-VAE.

    Args:
        rq_sizes: codes of each layer.
        latent: width of the latent.
        hidden: widths between embedding and latent.
        commitment: β.
        epochs: passes over the embeddings; a quarter more go before, without codes.
        batch_size: embeddings a step.
        lr: of AdamW.
    """

    rq_sizes: tuple[int, ...] = (4096, 1024, 512)
    latent: int = 32
    hidden: tuple[int, ...] = (128, 64)
    commitment: float = 0.25
    epochs: int = 40
    batch_size: int = 1024
    lr: float = 1e-3

    def __post_init__(self) -> None:
        check_sizes(self.rq_sizes, ())

    def fit(self, embeddings: Tensor, seed: int = 0) -> RqVae:
        """Fit on embeddings [N, D]."""
        check_embeddings(embeddings, self.rq_sizes, ())
        # Lightning validates in inference mode, whose tensors know no gradient.
        with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)
            embeddings = embeddings.clone()
            model = RqVae(self.rq_sizes, embeddings.shape[1], self.latent, self.hidden).to(embeddings.device)
            optimizer = torch.optim.AdamW(model.parameters(), self.lr, weight_decay=0.0)
            for _ in range(max(1, self.epochs // 4)):
                for batch in self._batches(embeddings):
                    _step(optimizer, mse_loss(model.decoder(model.encoder(batch)), batch, reduction="sum") / len(batch))
            self._start_codebooks(model, embeddings, seed)
            for epoch in range(self.epochs):
                used = [torch.zeros(size, dtype=torch.bool, device=embeddings.device) for size in self.rq_sizes]
                for batch in self._batches(embeddings):
                    loss, codes = model.loss(batch, self.commitment)
                    _step(optimizer, loss)
                    for level, seen in enumerate(used):
                        seen[codes[:, level]] = True
                if epoch < self.epochs - 1:  # the last epoch's codes have settled
                    self._restart(model, embeddings, used)
        return model.requires_grad_(False).eval()

    def _batches(self, embeddings: Tensor) -> list[Tensor]:
        order = torch.randperm(len(embeddings)).to(embeddings.device)
        return [embeddings[rows].float() for rows in order.split(self.batch_size)]

    @torch.no_grad()
    def _start_codebooks(self, model: RqVae, embeddings: Tensor, seed: int) -> None:
        rest = model.encoder(embeddings.float())
        for level, table in enumerate(model.tables):
            table.copy_(kmeans(rest, len(table), seed + level))
            rest = rest - table[nearest(rest, table)]

    @torch.no_grad()
    def _restart(self, model: RqVae, embeddings: Tensor, used: list[Tensor]) -> None:
        """Codes that nothing used move to what their layer is given for some embedding."""
        rows = torch.randperm(len(embeddings))[: max(self.rq_sizes)].to(embeddings.device)
        _, given = model.quantize(model.encoder(embeddings[rows].float()))
        for table, seen, rest in zip(model.tables, used, given, strict=True):
            dead = (~seen).nonzero().flatten()
            table[dead] = rest[: len(dead)]


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _mlp(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for narrow, wide in pairwise(widths):
        layers += [nn.Linear(narrow, wide), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
