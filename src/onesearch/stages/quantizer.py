"""Stage `quantizer`: keyword-enhanced embeddings of items and queries → one RQ-OPQ codebook → the catalogue's SIDs.

A stage like every other, without gradients: one pass over the texts gathers the embeddings, its end fits the codebook.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onesearch.artifacts import verify
from onesearch.keywords.lexicon import Lexicon, mine_lexicon
from onesearch.keywords.marked import marked_values, pairs, united
from onesearch.khqe import KeywordEncoder, Khqe
from onesearch.log.prepared import Log
from onesearch.metrics.codebook import codebook_report
from onesearch.models.tagger import Tagger
from onesearch.models.text_encoder import TextEncoder
from onesearch.quantize.rq_opq import RqOpq
from onesearch.sid.priority import bucket_priority
from onesearch.stages.stage import Optimization, Stage
from onesearch.types import CatalogueBatch


class QuantizerStage(Stage):
    """Core keywords, fusion, RQ-OPQ.

    Args:
        run: the run folder.
        rq_sizes: codes of each residual layer.
        opq_sizes: codes of each product layer.
        normalize_residuals: L2-normalise what each residual layer leaves.
        slack: the third layer's codes hold at most ceil(N/K·slack) of the catalogue; null: no balance.
        num_iterations: of k-means.
        backend: `torch` or `faiss`.
        keywords_per_type: top_k, most core keywords of one attribute type.
        min_pv: least page views of a core keyword.
        tagger: mine core keywords from what `run/tagger` marks in titles and queries too.
        seed: of the k-means starts.
    """

    kind = "quantizer"
    parents: tuple[str, ...] = ("log", "encoder")

    def __init__(
        self,
        run: Path,
        rq_sizes: tuple[int, ...] = (4096, 1024, 512),
        opq_sizes: tuple[int, ...] = (256, 256),
        normalize_residuals: bool = True,
        slack: float | None = 1.1,
        num_iterations: int = 25,
        backend: str = "faiss",
        keywords_per_type: int = 1000,
        min_pv: int = 10,
        tagger: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(run, "quantizer", Optimization())
        self.automatic_optimization = False
        self.sizes = (rq_sizes, opq_sizes)
        self.normalize_residuals = normalize_residuals
        self.slack = slack
        self.num_iterations = num_iterations
        self.backend = backend
        self.keywords_per_type = keywords_per_type
        self.min_pv = min_pv
        self.uses_tagger = tagger
        if tagger:
            self.parents = (*self.parents, "tagger")
        self.seed = seed

    def configure_model(self) -> None:
        """Read the aligned encoder and mine the core keywords."""
        if hasattr(self, "encoder"):
            return
        self.log_tables = Log.open(self.run / "log")
        self.encoder = TextEncoder.load(self.run / "encoder").requires_grad_(False)
        self.keyword_encoder = KeywordEncoder(self.encoder, self._mine())

    def configure_optimizers(self) -> None:  # type: ignore[override]
        """Nothing is learnt by gradient."""

    def on_train_epoch_start(self) -> None:
        """Forget the embeddings of an earlier pass."""
        self.item_parts: list[Tensor] = []
        self.query_parts: list[Tensor] = []

    def training_step(self, batch: CatalogueBatch, _: int) -> None:
        """Embed one batch of texts."""
        if batch.items:
            self.item_parts.append(self.keyword_encoder.embed(batch.items))
        if batch.queries:
            self.query_parts.append(self.keyword_encoder.embed(batch.queries))

    def on_train_epoch_end(self) -> None:
        """Fit one codebook on items and queries, code the catalogue, measure the codes."""
        items, everything = torch.cat(self.item_parts), torch.cat(self.item_parts + self.query_parts)
        rq_sizes, opq_sizes = self.sizes
        codebook = RqOpq.fit(
            everything,
            rq_sizes,
            opq_sizes,
            self.seed,
            self.num_iterations,
            self.normalize_residuals,
            self.slack,
            backend=self.backend,
        )
        codes = codebook.encode(items, self.slack)
        log = self.log_tables
        counts = log.item_counts.total(np.arange(len(log.item_ids)))
        available = np.asarray(log.items["available"].fill_null(True))
        self.khqe = Khqe(
            self.keyword_encoder, codebook, log.item_ids, codes.numpy(), items, bucket_priority(available, counts)
        )
        self.quality = codebook_report(codes.numpy(), rq_sizes, opq_sizes)
        self.log_dict({f"codebook/{name}": float(value) for name, value in self.quality.items()})

    def export(self, folder: Path) -> dict[str, Any]:
        """Codebook, lexicon, SIDs and embeddings."""
        # Every known query, not only those that were fitted on: later stages look them up here.
        self.khqe.save(folder, self.log_tables.queries["query"].to_pylist())
        return {"quality": self.quality, "num_keywords": len(self.keyword_encoder.lexicon.keywords)}

    def _mine(self) -> Lexicon:
        log = self.log_tables
        views = log.item_counts.total(np.arange(len(log.item_ids)))[:, 0]
        attributes = [dict(row or ()) for row in log.items["attributes"].to_pylist()]
        titles, queries = log.items["title"].to_pylist(), log.queries["query"].to_pylist()
        asked_for: list[tuple[str, str]] = []
        if self.uses_tagger:
            verify(self.run / "tagger", "tagger", [self.run / "log"])
            tagger = Tagger.load(self.run / "tagger").to(self.device)
            texts = titles + queries
            marked = marked_values(texts, tagger.spans(texts), pairs(attributes))
            attributes, asked_for = united(attributes, marked[: len(titles)]), pairs(marked[len(titles) :])
        viewed = zip(queries, log.queries["pv"].to_pylist(), strict=True)
        return mine_lexicon(attributes, views.tolist(), viewed, self.keywords_per_type, self.min_pv, asked_for)
