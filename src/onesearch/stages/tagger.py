"""Stage `tagger`: a token classifier learns to mark the 18 attribute types from weak labels (OneSearch, KHQE).

L = mean cross-entropy of the BIO tags over all tokens that cover text.

What it is measured against are weak labels too: the values that the structured attributes of held-out items have in
their titles, and those of clicked items in unseen queries. A value that the attributes do not record counts as wrong
when it is marked, so that the figures are those of agreement with the catalogue.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from onesearch.artifacts import verify
from onesearch.metrics.spans import count_spans, span_scores
from onesearch.models.tagger import Tagger
from onesearch.models.text_encoder import EncoderBackbone, FreshEncoder
from onesearch.models.text_tokenizer import load_tokenizer
from onesearch.stages.stage import Optimization, Stage
from onesearch.types import ATTRIBUTE_TYPES, TaggingBatch

SOURCES = ("items", "queries")
"""Where a text comes from, in the order of the counts."""


class TaggerStage(Stage):
    """Token classification.

    Args:
        run: the run folder.
        backbone: the transformer under the tagger.
        dropout: in front of the linear layer.
        max_length: where texts are cut, in tokens; from the command line it is the data's.
        tokenizer: a pretrained tokenizer by name; None: the run's own one.
        optimization: optimizer and schedule.
    """

    kind = "tagger"
    parents = ("log",)
    counts: Tensor
    seen: Tensor
    epoch_seen: Tensor

    def __init__(
        self,
        run: Path,
        backbone: EncoderBackbone = FreshEncoder(),
        dropout: float = 0.1,
        max_length: int = 64,
        tokenizer: str | None = None,
        optimization: Optimization = Optimization(),
    ) -> None:
        super().__init__(run, "tagger", optimization)
        self.backbone = backbone
        self.dropout = dropout
        self.max_length = max_length
        self.tokenizer_name = tokenizer
        # Of the latest validation, and of the last epoch: in the checkpoint, for the facts of a fit that goes on.
        self.register_buffer("counts", torch.zeros(len(SOURCES), len(ATTRIBUTE_TYPES), 3, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(len(ATTRIBUTE_TYPES), dtype=torch.int64))
        self.register_buffer("epoch_seen", torch.zeros_like(self.seen))

    def build(self) -> None:
        """To fit, build the tagger once the DataModule has prepared the tokenizer; else read the fitted one."""
        if self.trainer.state.fn == "fit":
            tokenizer = load_tokenizer(self.tokenizer_name or self.run / "tokenizer")
            # What is read pretrained comes in evaluation mode, and Lightning keeps it there.
            self.tagger = Tagger(self.backbone.build(tokenizer), tokenizer, self.dropout, self.max_length).train()
        else:
            verify(self.run / "tagger", "tagger", [self.run / "log"])
            self.tagger = Tagger.load(self.run / "tagger")

    def on_train_epoch_start(self) -> None:
        """Count spans by type; a fit that goes on inside an epoch counts on."""
        self.epoch_seen.zero_()

    def training_step(self, batch: TaggingBatch, _: int) -> Tensor:
        """One step of token classification."""
        own = torch.from_numpy(count_spans(batch.spans, batch.spans)[:, 0]).to(self.device)
        self.epoch_seen += self._over_processes(own)
        loss = self._loss(batch)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.texts))
        return loss

    def on_train_epoch_end(self) -> None:
        """Keep what one epoch holds."""
        self.seen.copy_(self.epoch_seen)

    def on_validation_epoch_start(self) -> None:
        """Count from zero."""
        self.epoch_counts = torch.zeros_like(self.counts)

    def validation_step(self, batch: TaggingBatch, _: int) -> None:
        """Loss, and the spans that the tagger marks, as it will in use."""
        self.log("val/loss", self._loss(batch), batch_size=len(batch.texts), sync_dist=True)
        found = self.tagger.spans(batch.texts)
        for source in range(len(SOURCES)):
            rows = [row for row, is_query in enumerate(batch.is_query) if is_query == bool(source)]
            counts = count_spans([found[row] for row in rows], [batch.spans[row] for row in rows])
            self.epoch_counts[source] += torch.from_numpy(counts).to(self.device)

    def on_validation_epoch_end(self) -> None:
        """Precision, recall and F1 of all types together, of titles and queries apart; F1 of each type."""
        if self.trainer.sanity_checking:
            return
        self.counts.copy_(self._over_processes(self.epoch_counts))
        total = self.counts.sum(0)
        scores = {"": total.sum(0), **{f"{name}/": self.counts[row].sum(0) for row, name in enumerate(SOURCES)}}
        for prefix, counts in scores.items():
            self.log_dict(
                {f"val/{prefix}{name}": value for name, value in span_scores(counts.cpu())._asdict().items()},
                prog_bar=not prefix,
            )
        self.log_dict({f"val/f1/{type_}": f1 for type_, f1 in _f1_by_type(total).items()})

    def export(self, folder: Path) -> dict[str, Any]:
        """The tagger, how well it does, and how many spans of each type it saw."""
        self.tagger.save(folder)
        return {
            "val": {name: span_scores(self.counts[row].sum(0).cpu())._asdict() for row, name in enumerate(SOURCES)},
            "f1": {name: _f1_by_type(self.counts[row]) for row, name in enumerate(SOURCES)},
            "num_spans": dict(zip(ATTRIBUTE_TYPES, self.seen.tolist(), strict=True)),
            "num_steps": self.global_step,
        }

    def _loss(self, batch: TaggingBatch) -> Tensor:
        return cross_entropy(self.tagger(batch.tokens).float().flatten(0, 1), batch.tags.flatten())

    def _over_processes(self, counts: Tensor) -> Tensor:
        total = self.trainer.strategy.reduce(counts, reduce_op="sum")
        assert isinstance(total, Tensor)
        return total


def _f1_by_type(counts: Tensor) -> dict[str, float]:
    """F1 of the types that occur, marked or meant; `counts` [18, 3]."""
    rows = zip(ATTRIBUTE_TYPES, counts.cpu(), strict=True)
    return {type_: span_scores(row).f1 for type_, row in rows if row.any()}
