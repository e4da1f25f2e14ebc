"""Stage `quantizer`: keyword-enhanced embeddings of items and queries → one RQ-OPQ codebook → the catalogue's SIDs.

A stage like every other, without gradients: one pass over the texts gathers the embeddings, its end fits the codebook.
`validate` examines a finished one: it encodes everything again, fits another codebook on half of the texts, and writes
what it found (see `metrics.doctor`). `predict` codes what comes after the fit (see `catalogue`).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from numpy.typing import NDArray
from torch import Tensor

from onesearch.artifacts import read_manifest, verify, write_json
from onesearch.catalogue import Arrivals, add
from onesearch.keywords.lexicon import Lexicon, mine_lexicon
from onesearch.keywords.marked import marked_values, pairs, united
from onesearch.khqe import KeywordEncoder, Khqe
from onesearch.log.prepared import Log
from onesearch.metrics.doctor import Catalogue, diagnose
from onesearch.models.tagger import Tagger
from onesearch.models.text_encoder import TextEncoder
from onesearch.quantize.codebook import CodebookRecipe
from onesearch.quantize.codebooks import describe, read_recipe
from onesearch.quantize.rq_opq import RqOpqRecipe
from onesearch.report.terminal import show, show_arrivals
from onesearch.sid.priority import bucket_priority
from onesearch.stages.stage import Optimization, Stage, is_trial
from onesearch.types import ArrivalBatch, CatalogueBatch, UserError


class QuantizerStage(Stage):
    """Core keywords, fusion, RQ-OPQ.

    Args:
        run: the run folder.
        codebook: what is fitted and how; RQ-OPQ with the published sizes by default.
        keywords_per_type: top_k, most core keywords of one attribute type; 0: embeddings without keywords.
        min_pv: least page views of a core keyword.
        tagger: mine core keywords from what `run/tagger` marks in titles and queries too.
        stop_on_collapse: refuse codes that no generator should be trained on.
        seed: of the codebook's fit.
    """

    kind = "quantizer"
    parents: tuple[str, ...] = ("log", "encoder")

    def __init__(
        self,
        run: Path,
        codebook: CodebookRecipe = RqOpqRecipe(),
        keywords_per_type: int = 1000,
        min_pv: int = 10,
        tagger: bool = False,
        stop_on_collapse: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(run, "quantizer", Optimization())
        self.automatic_optimization = False
        self.recipe = codebook
        self.keywords_per_type = keywords_per_type
        self.min_pv = min_pv
        self.stop_on_collapse = stop_on_collapse
        self.uses_tagger = tagger
        if tagger:
            self.parents = (*self.parents, "tagger")
        self.seed = seed

    def build(self) -> None:
        """Read the aligned encoder and mine the core keywords; where a codebook is fitted already, read that."""
        verb = self.trainer.state.fn
        self.log_tables = Log.open(self.run / "log")
        if verb == TrainerFn.FITTING:
            self.encoder = TextEncoder.load(self.run / "encoder").requires_grad_(False)
            self.keyword_encoder = KeywordEncoder(self.encoder, self._mine())
            self.export_config = {"codebook": describe(self.recipe), "seed": self.seed}
        else:
            self.khqe = Khqe.open(self.run, with_added=verb == TrainerFn.PREDICTING)
            self.keyword_encoder, self.encoder = self.khqe.encoder, self.khqe.encoder.encoder
            config = read_manifest(self.run / "quantizer").config  # what is examined is what was fitted
            self.recipe, self.seed = read_recipe(config["codebook"]), config["seed"]

    def configure_optimizers(self) -> None:  # type: ignore[override]
        """Nothing is learnt by gradient."""

    def on_train_epoch_start(self) -> None:
        """Forget an earlier pass."""
        self.embedded: list[Tensor] = []
        self.queries: list[str] = []

    def training_step(self, batch: CatalogueBatch, _: int) -> None:
        """Embed one batch of texts."""
        self.embedded.append(self.keyword_encoder.embed([*batch.items, *batch.queries]))
        self.queries += batch.queries
        self.num_texts = batch.num_texts

    def on_train_epoch_end(self) -> None:
        """Fit one codebook on items and queries, code the catalogue, and stop where the codes are of no use."""
        if is_trial(self.trainer):
            return
        log, everything = self.log_tables, self._gathered().to(self.device)
        num_items = len(log.item_ids)
        codebook = self.recipe.fit(everything, self.seed)
        codes = codebook.encode(everything[:num_items], self.recipe.slack).cpu().numpy()
        query_codes = codebook.encode(everything[num_items:]).tolist()
        everything, codebook = everything.cpu(), codebook.cpu()
        items = everything[:num_items].clone()  # or the artefact would hold the queries twice
        counts = log.item_counts.total(np.arange(num_items))
        available = np.asarray(log.items["available"].fill_null(True))
        self.khqe = Khqe(self.keyword_encoder, codebook, log.item_ids, codes, items, bucket_priority(available, counts))
        self.khqe.know(self.queries, everything[num_items:], query_codes)
        self.diagnosis = diagnose(self._catalogue(everything))
        self.log_dict({f"codebook/{name}": float(value) for name, value in self.diagnosis.figures.items()})
        if self.diagnosis.is_collapsed and self.stop_on_collapse:
            raise UserError(f"{self.diagnosis.verdict} To go on all the same, set stop_on_collapse to false.")

    def on_validation_epoch_start(self) -> None:
        """As before an epoch of training."""
        self.on_train_epoch_start()

    def validation_step(self, batch: CatalogueBatch, index: int) -> None:
        """Embed one batch of texts."""
        self.training_step(batch, index)

    def on_validation_epoch_end(self) -> None:
        """Examine the codebook: figures and a verdict go to `RUN/doctor.json` and the terminal."""
        everything = self._gathered()
        items = everything[: len(self.log_tables.item_ids)]
        diagnosis = diagnose(self._catalogue(everything), self._refitted(everything, items))
        diagnosis.figures["reproduced"] = self._reproduced(items)
        fingerprint = read_manifest(self.run / "quantizer").fingerprint
        write_json(self.run / "doctor.json", {**diagnosis.as_json(), "quantizer": fingerprint})
        show(diagnosis)

    def on_predict_epoch_start(self) -> None:
        """Nothing has arrived yet."""
        self.arrived: list[Arrivals] = []

    def predict_step(self, batch: ArrivalBatch, _: int) -> None:
        """Embed a batch of new items and queries."""
        embed = self.keyword_encoder.embed
        self.arrived.append(Arrivals(batch.items, embed(batch.texts), batch.queries, embed(batch.queries)))

    def on_predict_epoch_end(self) -> None:
        """Append them to the catalogue with SIDs of the frozen codebook."""
        show_arrivals(*add(self.run, self.khqe, self.log_tables, self.arrived))

    def export(self, folder: Path) -> dict[str, Any]:
        """Codebook, lexicon, SIDs and embeddings."""
        # Every known query, not only those that were fitted on: later stages look them up here.
        self.khqe.save(folder, self.log_tables.queries["query"].to_pylist())
        num_keywords = len(self.keyword_encoder.lexicon.keywords)
        return {"quality": self.diagnosis.figures, "verdict": self.diagnosis.verdict, "num_keywords": num_keywords}

    def _gathered(self) -> Tensor:
        """[N, D] all embeddings of the pass, items first.

        Raises:
            UserError: the pass did not see every text.
        """
        everything = torch.cat(self.embedded)
        self.embedded.clear()
        if len(everything) != self.num_texts:
            raise UserError(
                f"The quantizer saw {len(everything)} of {self.num_texts} texts: run it on one device, and without "
                "limits on its batches."
            )
        return everything

    def _catalogue(self, everything: Tensor) -> Catalogue:
        """What the doctor looks at, from the embeddings of items and queries."""
        codebook, items = self.khqe.codebook, self.log_tables.items
        codes = self.khqe.item_codes
        categories = [names[-1] if names else "" for names in items["category"].to_pylist()]
        decoded = torch.cat([codebook.decode(part) for part in torch.from_numpy(codes).split(65_536)])
        return Catalogue(
            codes,
            codebook.rq_sizes,
            codebook.opq_sizes,
            everything[: len(codes)].numpy(),
            decoded.numpy(),
            items["title"].to_pylist(),
            categories,
            codebook.encode(everything[len(codes) :]).numpy(),
        )

    def _refitted(self, everything: Tensor, items: Tensor) -> NDArray[np.int64] | None:
        """The items' codes by a codebook that is fitted on half of the texts; None where these are too few."""
        half = len(everything) // 2
        if half < max(self.khqe.spec.sizes):
            return None
        order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(self.seed + 1))
        again = self.recipe.fit(everything[order[:half]].to(self.device), self.seed + 1).cpu()
        return again.encode(items, self.recipe.slack).numpy()

    def _reproduced(self, items: Tensor) -> float:
        """The share of items that are given the SID that stands in the artefact."""
        codes = self.khqe.codebook.encode(items, self.recipe.slack).numpy()
        return float((codes == self.khqe.item_codes).all(axis=1).mean())

    def _mine(self) -> Lexicon:
        log = self.log_tables
        views = log.item_counts.total(np.arange(len(log.item_ids)))[:, 0]
        attributes = [dict(row or ()) for row in log.items["attributes"].to_pylist()]
        titles, queries = log.items["title"].to_pylist(), log.queries["query"].to_pylist()
        asked_for: list[tuple[str, str]] = []
        if self.uses_tagger:
            verify(self.run / "tagger", "tagger", [self.run / "log"])
            tagger = Tagger.load(self.run / "tagger").to(self.trainer.strategy.root_device)
            texts = titles + queries
            marked = marked_values(texts, tagger.spans(texts), pairs(attributes))
            attributes, asked_for = united(attributes, marked[: len(titles)]), pairs(marked[len(titles) :])
        viewed = zip(queries, log.queries["pv"].to_pylist(), strict=True)
        return mine_lexicon(attributes, views.tolist(), viewed, self.keywords_per_type, self.min_pv, asked_for)
