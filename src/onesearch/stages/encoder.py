"""Stage `encoder`: align queries and items in one embedding space.

fit       L = λ1·L_q2q + λ2·L_i2i + λ3·L_q2i + λ4·L_rank + λ5·L_rel (OneSearch, KHQE; closed forms ours, see `losses`)
validate  the losses, and retrieval of the clicked items from the whole catalogue
predict   the vectors of all items and queries, to RUN/embeddings
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from onesearch.artifacts import verify
from onesearch.losses import info_nce, rank_hinge, relevance_mse
from onesearch.metrics.retrieval import Gathered, retrieval
from onesearch.models.nearest import nearest
from onesearch.models.text_encoder import EncoderBackbone, FreshEncoder, Pooling, TextEncoder
from onesearch.models.text_tokenizer import load_tokenizer
from onesearch.stages.embedding_writer import EmbeddingFormat, EmbeddingWriter
from onesearch.stages.stage import Optimization, Stage
from onesearch.types import AlignmentBatch, ClickedQueries, EpochMiner, NamedTexts


@dataclass(frozen=True)
class AlignmentWeights:
    """λ1 to λ5."""

    q2q: float = 1.0
    i2i: float = 1.0
    q2i: float = 1.0
    rank: float = 1.0
    rel: float = 1.0


class EncoderStage(Stage):
    """Contrastive alignment of the text encoder; validation by retrieval; embeddings of the catalogue by `predict`.

    Args:
        run: the run folder.
        backbone: the transformer under the encoder.
        dim: D, width of the embeddings; None: the transformer's own, without a projection.
        pooling: `mean` over tokens, or `cls`, for which BGE was trained.
        max_length: where texts are cut, in tokens; from the command line it is the data's, for positions that training
            never saw would mean nothing.
        temperature: τ of InfoNCE.
        weights: λ of each loss.
        tokenizer: a pretrained tokenizer by name; None: the run's own one.
        embeddings: how `predict` writes them.
        optimization: optimizer and schedule.
    """

    kind = "encoder"
    parents = ("log",)

    def __init__(
        self,
        run: Path,
        backbone: EncoderBackbone = FreshEncoder(),
        dim: int | None = 128,
        pooling: Pooling = "mean",
        max_length: int = 64,
        temperature: float = 0.05,
        weights: AlignmentWeights = AlignmentWeights(),
        tokenizer: str | None = None,
        embeddings: EmbeddingFormat = "parquet",
        optimization: Optimization = Optimization(),
    ) -> None:
        super().__init__(run, "encoder", optimization)
        self.backbone = backbone
        self.dim = dim
        self.pooling = pooling
        self.max_length = max_length
        self.temperature = temperature
        self.weights = weights
        self.tokenizer_name = tokenizer
        self.embeddings = embeddings

    def configure_callbacks(self) -> list[lightning.Callback]:
        """What `predict` streams to disk, beside every stage's."""
        parents = [self.run / "log", self.run / "encoder"]
        return [EmbeddingWriter(self.run / "embeddings", parents, self.embeddings), *super().configure_callbacks()]

    def build(self) -> None:
        """To fit, build the encoder once the DataModule has prepared the tokenizer; else read the fitted one."""
        if self.trainer.state.fn == "fit":
            tokenizer = load_tokenizer(self.tokenizer_name or self.run / "tokenizer")
            self.encoder = TextEncoder(
                self.backbone.build(tokenizer), tokenizer, self.dim, self.max_length, self.pooling
            )
            self.encoder.train()  # what is loaded comes ready for inference, without dropout
        else:
            verify(self.run / "encoder", "encoder", [self.run / "log"])
            self.encoder = TextEncoder.load(self.run / "encoder")

    # fit

    def on_train_epoch_start(self) -> None:
        """Let the data look for hard negatives under the encoder as it is now."""
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, EpochMiner):
            data.mine(self.current_epoch, self.embed_all)

    def embed_all(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [len(texts), D] on every process' device, where they are searched; each embeds its share."""
        share = -(-len(texts) // self.trainer.world_size)
        start = self.trainer.global_rank * share
        own = self.encoder.embed(texts[start : start + share])
        padded = own.new_zeros(share, own.shape[1])
        padded[: len(own)] = own
        return self._gathered(padded)[: len(texts)]

    def _gathered(self, tensor: Tensor) -> Tensor:
        """The rows of all processes, rank by rank, on the device; the processes must have equally many."""
        gathered = self.all_gather(tensor.to(self.device))
        assert isinstance(gathered, Tensor)
        return gathered.flatten(0, gathered.ndim - tensor.ndim)

    def embed(self, batch: AlignmentBatch) -> Tensor:
        """Unit vectors [T, D] of the queries, then the items."""
        return torch.cat([self.encoder(batch.queries), self.encoder(batch.items)])

    def losses(self, batch: AlignmentBatch) -> dict[str, Tensor]:
        """The five losses; one that has no pairs in this batch is absent."""
        e = self.embed(batch)
        hard = (e[batch.hard.clamp(min=0)], batch.hard >= 0) if batch.hard.shape[1] else ()
        losses = {
            name: info_nce(e[a], e[b], self.temperature, batch.identity[a], batch.identity[b], *others)
            for name, (a, b), others in (("q2q", batch.q2q.T, ()), ("i2i", batch.i2i.T, ()), ("q2i", batch.q2i.T, hard))
            if len(a)
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
        total = torch.stack([getattr(self.weights, name) * loss for name, loss in losses.items()]).sum()
        options: dict[str, Any] = {
            "batch_size": len(batch.q2i),
            "sync_dist": split != "train",
            "add_dataloader_idx": False,
        }
        self.log_dict({f"{split}/{name}": loss for name, loss in losses.items()}, **options)
        self.log(f"{split}/loss", total, prog_bar=True, **options)
        return total

    def training_step(self, batch: AlignmentBatch, _: int) -> Tensor:
        """One step of alignment."""
        return self.shared_step(batch, "train")

    # validate

    def on_validation_epoch_start(self) -> None:
        """Nothing is embedded yet."""
        self.items, self.queries = Gathered(), Gathered()

    def validation_step(
        self, batch: AlignmentBatch | NamedTexts | ClickedQueries, _: int, dataloader_idx: int = 0
    ) -> None:
        """Losses of a batch, or one more part of the catalogue and of the queries that are answered from it."""
        if isinstance(batch, AlignmentBatch):
            self.shared_step(batch, "val")
        elif isinstance(batch, NamedTexts):
            self.items.add(*map(self._gathered, (batch.rows, self.encoder.embed(batch.texts))))
        else:
            embedded = self.encoder.embed(batch.texts)
            self.queries.add(*map(self._gathered, (batch.rows, embedded, batch.clicked, batch.unseen)))

    def on_validation_epoch_end(self) -> None:
        """Answer every query from the whole catalogue. All processes come to the same figures."""
        if self.trainer.sanity_checking or not self.queries or not self.items:
            return
        item_rows, items = self.items.table()
        _, queries, clicked, unseen = self.queries.table()
        found = item_rows[nearest(queries.to(self.device), items, 100)]
        figures = {f"val/{name}": value for name, value in retrieval(found, clicked, unseen).items()}
        self.log_dict(figures, sync_dist=True)  # equal everywhere; said for Lightning, which asks
        self.items, self.queries = Gathered(), Gathered()  # a catalogue is not kept through the next epoch

    # predict

    def predict_step(self, batch: NamedTexts, _: int, dataloader_idx: int = 0) -> Tensor:
        """Unit vectors [B, D] as every later stage sees them."""
        return self.encoder.embed(batch.texts)

    def export(self, folder: Path) -> dict[str, Any]:
        """The encoder as Hugging Face writes it, the projection beside it."""
        self.encoder.save(folder)
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        return {
            "dim": self.encoder.dim,
            "pooling": self.pooling,
            "backbone": asdict(self.backbone),  # type: ignore[call-overload]
            "num_steps": self.global_step,
            "metrics": metrics,
        }
