"""Stage `encoder`: align queries and items in one embedding space.

L = λ1·L_q2q + λ2·L_i2i + λ3·L_q2i + λ4·L_rank + λ5·L_rel (OneSearch, KHQE; closed forms ours, see `losses`).
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onesearch.losses import info_nce, rank_hinge, relevance_mse
from onesearch.models.text_encoder import EncoderBackbone, FreshEncoder, TextEncoder
from onesearch.models.text_tokenizer import load_tokenizer
from onesearch.stages.stage import Optimization, Stage
from onesearch.types import AlignmentBatch


@dataclass(frozen=True)
class AlignmentWeights:
    """λ1 to λ5."""

    q2q: float = 1.0
    i2i: float = 1.0
    q2i: float = 1.0
    rank: float = 1.0
    rel: float = 1.0


class EncoderStage(Stage):
    """Contrastive alignment of the text encoder.

    Args:
        run: the run folder.
        backbone: the transformer under the encoder.
        dim: D, width of the embeddings.
        temperature: τ of InfoNCE.
        weights: λ of each loss.
        tokenizer: a pretrained tokenizer by name; None: the run's own one.
        optimization: optimizer and schedule.
    """

    kind = "encoder"
    parents = ("log",)

    def __init__(
        self,
        run: Path,
        backbone: EncoderBackbone = FreshEncoder(),
        dim: int = 128,
        temperature: float = 0.05,
        weights: AlignmentWeights = AlignmentWeights(),
        tokenizer: str | None = None,
        optimization: Optimization = Optimization(),
    ) -> None:
        super().__init__(run, "encoder", optimization)
        self.backbone = backbone
        self.dim = dim
        self.temperature = temperature
        self.weights = weights
        self.tokenizer_name = tokenizer

    def configure_model(self) -> None:
        """Build the encoder once the DataModule has prepared the tokenizer."""
        if not hasattr(self, "encoder"):
            tokenizer = load_tokenizer(self.tokenizer_name or self.run / "tokenizer")
            self.encoder = TextEncoder(self.backbone.build(tokenizer), tokenizer, self.dim)

    def embed(self, batch: AlignmentBatch) -> Tensor:
        """Unit vectors [T, D] of the queries, then the items."""
        return torch.cat([self.encoder(batch.queries), self.encoder(batch.items)])

    def losses(self, batch: AlignmentBatch) -> dict[str, Tensor]:
        """The five losses; one that has no pairs in this batch is absent."""
        e = self.embed(batch)
        losses = {
            name: info_nce(e[p[:, 0]], e[p[:, 1]], self.temperature, batch.identity[p[:, 0]], batch.identity[p[:, 1]])
            for name, p in (("q2q", batch.q2q), ("i2i", batch.i2i), ("q2i", batch.q2i))
            if len(p)
        }
        if len(batch.ranked):
            query = e[batch.ranked[:, :1]]
            cosine = (
                (query * e[batch.ranked[:, 1:].clamp(min=0)]).sum(-1).masked_fill(batch.ranked[:, 1:] < 0, torch.nan)
            )
            losses["rank"] = rank_hinge(cosine[:, 0], cosine[:, 1], cosine[:, 2])
        if len(batch.judged):
            cosine = (e[batch.judged[:, 0]] * e[batch.judged[:, 1]]).sum(-1)
            losses["rel"] = relevance_mse(cosine, batch.grades)
        return losses

    def shared_step(self, batch: AlignmentBatch, split: str) -> Tensor:
        """Weighted sum of the losses, logged one by one."""
        losses = self.losses(batch)
        size = len(batch.q2i)
        total = torch.stack([getattr(self.weights, name) * loss for name, loss in losses.items()]).sum()
        self.log_dict(
            {f"{split}/{name}": loss for name, loss in losses.items()}, batch_size=size, sync_dist=split != "train"
        )
        self.log(f"{split}/loss", total, prog_bar=True, batch_size=size, sync_dist=split != "train")
        return total

    def training_step(self, batch: AlignmentBatch, _: int) -> Tensor:
        """One step of alignment."""
        return self.shared_step(batch, "train")

    def validation_step(self, batch: AlignmentBatch, _: int) -> None:
        """Losses and in-batch retrieval: is the clicked item the nearest of the batch's items?"""
        self.shared_step(batch, "val")
        e = self.embed(batch)
        items = batch.q2i[:, 1].unique()
        nearest = items[(e[batch.q2i[:, 0]] @ e[items].T).argmax(-1)]
        self.log(
            "val/in_batch_top1", (nearest == batch.q2i[:, 1]).float().mean(), batch_size=len(batch.q2i), sync_dist=True
        )

    def export(self, folder: Path) -> dict[str, Any]:
        """The encoder as Hugging Face writes it, the projection beside it."""
        self.encoder.save(folder)
        return {"dim": self.dim, "backbone": asdict(self.backbone), "num_steps": self.global_step}  # type: ignore[call-overload]
