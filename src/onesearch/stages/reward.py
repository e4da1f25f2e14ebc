"""Stage `reward`: three towers over SIM learn what a shopper does with a shown item (PARS; see `models.reward`).

fit    learns, and fits the relevance of the score to judgments where the log has any
test   judges the artefact by the test split: RUN/NAME_test.json, and RUN/NAME_test.png, a reliability diagram
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from onesearch.artifacts import read_manifest, verify, write_json
from onesearch.khqe import query_embeddings
from onesearch.log.prepared import Log
from onesearch.log.text import normalize_query
from onesearch.metrics.calibration import equal_counts, expected_calibration_error
from onesearch.metrics.list_metrics import ListMetrics
from onesearch.models.relevance import fit_ordinal, is_enough, judge
from onesearch.models.reward import (
    HistorySizes,
    RewardBatch,
    RewardLabels,
    RewardModel,
    RewardOutput,
    ScoreWeights,
    load_reward,
    reward_losses,
)
from onesearch.models.reward_towers import TOWERS, RewardSize
from onesearch.report.reliability import draw
from onesearch.sid.spec import SidSpec
from onesearch.stages.stage import Optimization, Stage, is_trial
from onesearch.types import UserError


class RewardStage(Stage):
    """Trains the reward model.

    Args:
        run: the run folder; reads `run/log` and `run/quantizer`.
        name: the stage's folder in it: `reward` is the one that later stages use; what it is compared with has another.
        size: widths, architecture and options.
        weights: of the score.
        optimization: optimizer and schedule.
    """

    seen: Tensor
    model: RewardModel
    kind = "reward"
    parents = ("log", "quantizer")

    def __init__(
        self,
        run: Path,
        name: str = "reward",
        size: RewardSize = RewardSize(),
        weights: ScoreWeights = ScoreWeights(),
        optimization: Optimization = Optimization(lr=3e-3),
    ) -> None:
        super().__init__(run, name, optimization)
        self.size = size
        self.weights = weights
        self.register_buffer("seen", torch.zeros(len(_SEEN), dtype=torch.int64))
        self.lists = nn.ModuleDict({name: ListMetrics() for name in (*TOWERS, "score")})
        self.placed = nn.ModuleDict({name: ListMetrics() for name in ("ctr", "ctcvr")})  # told where items were shown
        self.learns = size.architecture != "popularity"  # by gradient

    def build(self) -> None:
        """Build the model for the quantizer's embeddings and codes."""
        spec = json.loads((self.run / "quantizer" / "spec.json").read_text("utf-8"))
        sizes = SidSpec(spec["rq_sizes"], spec["opq_sizes"]).sizes
        with safe_open(self.run / "quantizer" / "embeddings.safetensors", framework="pt") as tensors:
            dim = tensors.get_slice("items").get_shape()[1]
        self.model = RewardModel(dim, sizes, self.size, self.weights, self._told(HistorySizes()))

    def configure_optimizers(self) -> Any:
        """None where nothing is learnt."""
        return super().configure_optimizers() if self.learns else None

    def on_fit_start(self) -> None:
        """Fit the relevance of the score to the log's judgments."""
        self.relevance_facts = self._fit_relevance()

    def training_step(self, batch: RewardBatch, _: int) -> Tensor | None:
        """One step over whole lists."""
        labels, mask = batch.labels, batch.inputs.mask
        if self.current_epoch == 0:
            self.model.observe(labels, mask)
            self.seen += self.trainer.strategy.reduce(_count(batch), reduce_op="sum")  # of all processes
        losses = self._losses(self.model(batch.inputs), labels, mask)
        total = torch.stack(list(losses.values())).sum()
        size = len(labels.drawn)
        self.log_dict({f"train/{name}": loss for name, loss in losses.items()}, batch_size=size)
        self.log("train/loss", total, prog_bar=True, batch_size=size)
        return total if self.learns else None

    def validation_step(self, batch: RewardBatch, _: int) -> None:
        """Collect predictions of the towers and of the score."""
        output = self._collect(batch)
        losses = self._losses(output, batch.labels, batch.inputs.mask)
        total = torch.stack(list(losses.values())).sum()
        self.log(f"{self._validated}/loss", total, batch_size=len(batch.labels.drawn), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """AUC, GAUC, log loss and calibration error of each tower; GAUC of the score, which is no probability."""
        for name in self.lists:
            values = _of(self.lists, name).compute()
            kept = {key: value for key, value in values.items() if name != "score" or key == "gauc"}
            self.log_dict({f"{self._validated}/{name}_{key}": value for key, value in kept.items()}, sync_dist=False)
            _of(self.lists, name).reset()

    def on_test_start(self) -> None:
        """Judge what the fit handed on, unless a checkpoint is named.

        Raises:
            UserError: several processes share the test.
        """
        if self.trainer.world_size > 1:  # they repeat searches to have as many each, and figures hang on all of them
            raise UserError(
                f"{self.name} is tested by one process: set 'trainer.devices' and 'trainer.num_nodes' to 1."
            )
        if self.trainer.ckpt_path is None and not is_trial(self.trainer):
            verify(self.run / self.name, self.kind, [self.run / parent for parent in self.parents])
            self.model = load_reward(self.run / self.name).to(self.device)

    def test_step(self, batch: RewardBatch, _: int) -> None:
        """Collect predictions on the test split, also as they are for a place on the page that is known."""
        self._collect(batch)
        output, targets = self.model(batch.inputs), _targets(batch.labels, batch.inputs.mask)
        for name in self.placed:
            label, at = targets[name]
            _of(self.placed, name).update(getattr(output, name).sigmoid(), label, at)

    def on_test_epoch_end(self) -> None:
        """Write the figures beside those of the comparison, and draw what the probabilities are worth."""
        lists = {name: _of(self.lists, name).lists() for name in self.lists}
        found = {name: _of(self.lists, name).compute() for name in self.lists}
        figures = {name: _rounded(values) for name, values in found.items()}
        towers = {name: figures[name] for name in TOWERS if figures[name]}
        if not towers:
            raise UserError(f"{self.run}/log has no click in its test split: there is nothing to judge {self.name} by.")
        bins = {}
        for name, values in towers.items():
            predicted, happened = lists[name].probabilities, lists[name].outcomes
            bins[name] = equal_counts(predicted, happened)
            values |= {"ece_equal_counts": round(expected_calibration_error(predicted, happened, 15, True), 5)}
            values |= {"num": len(happened), "positives": int(happened.sum()), "predicted": round(predicted.mean(), 5)}
        self.log_dict({f"test/{name}_{key}": v for name, values in towers.items() for key, v in values.items()})
        placed = {name: _rounded(_of(self.placed, name).compute()) for name in self.placed if name in towers}
        for part, name in [(self.lists, name) for name in self.lists] + [(self.placed, name) for name in self.placed]:
            _of(part, name).reset()
        if self.trainer.is_global_zero and not is_trial(self.trainer):
            told = {
                "towers": towers,
                "score": {"gauc": figures["score"].get("gauc")},
                "architecture": self._architecture,
            }
            told |= {"reward": read_manifest(self.run / self.name).fingerprint if self._is_artefact else None}
            told |= {"towers_told_the_place": placed}
            told |= {"reliability": {name: _plain(part) for name, part in bins.items()}, "split": "test"}
            write_json(self.run / f"{self.name}_test.json", told)
            draw({name: (part, towers[name]) for name, part in bins.items()}, self.run / f"{self.name}_test.png")

    def export(self, folder: Path) -> dict[str, Any]:
        """The model, and what it has learned from."""
        self.model.save(folder)
        facts: dict[str, Any] = dict(zip(_SEEN, self.seen.tolist(), strict=True))
        facts["towers"] = list(TOWERS if self.model.orders_known else TOWERS[:1])
        facts["negatives"] = "drawn" if facts["num_drawn_searches"] else "shown"
        facts["architecture"] = self._architecture
        facts["keep_negatives"] = round(float(self.model.kept), 6)
        facts["relevance"] = self.relevance_facts
        facts["validation"] = "learnt from: its figures are no test" if self._validated == "seen" else "held out"
        measured = {key: float(value) for key, value in self.trainer.callback_metrics.items()}
        metrics = {key: value for key, value in measured.items() if key.startswith(f"{self._validated}/")}
        return {**facts, "metrics": metrics, "num_steps": self.global_step}

    @property
    def _architecture(self) -> str:
        return self.model.size.architecture

    @property
    def _is_artefact(self) -> bool:
        return self.trainer.ckpt_path is None

    @property
    def _validated(self) -> str:
        """`val` where the validation split is held out, `seen` where it is learnt from too."""
        data = getattr(self.trainer, "datamodule", None)
        return "seen" if "validation" in getattr(data, "fit_splits", ()) else "val"

    def _told(self, default: HistorySizes) -> HistorySizes:
        """How long the histories are that the data gives."""
        data = getattr(self._trainer, "datamodule", None)
        return HistorySizes(*(int(getattr(data, name, value)) for name, value in asdict(default).items()))

    def _fit_relevance(self) -> dict[str, Any]:
        log = Log.open(self.run / "log")
        judgments = log.judgments
        grades = torch.tensor(judgments["grade"].to_pylist(), dtype=torch.int64)
        if not is_enough(grades):
            return {"from": "cosine", "num_judgments": len(judgments)}
        queries = [normalize_query(query) for query in judgments["query"].to_pylist()]
        items = load_file(self.run / "quantizer" / "embeddings.safetensors")["items"]
        rows = torch.tensor([log.row_of[item] for item in judgments["item_id"].to_pylist()])
        cosine = (query_embeddings(self.run, queries) * items[rows]).sum(-1)
        held_out = judge(queries, cosine, grades)
        fitted = fit_ordinal(cosine, grades)
        self.model.relevance.take(fitted)
        facts: dict[str, Any] = {"from": "judgments", "num_judgments": len(grades), **fitted._asdict()}
        return {**facts, "held_out": held_out._asdict() if held_out else None}

    def _losses(self, output: RewardOutput, labels: RewardLabels, mask: Tensor) -> dict[str, Tensor]:
        return reward_losses(output, labels, mask, self.model.size.ctcvr == "product")

    def _collect(self, batch: RewardBatch) -> RewardOutput:
        hidden = torch.zeros_like(batch.inputs.position)  # nobody who asks the model knows it
        output: RewardOutput = self.model(batch.inputs._replace(position=hidden))
        labels, mask = batch.labels, batch.inputs.mask
        for name, (label, at) in _targets(labels, mask).items():
            _of(self.lists, name).update(getattr(output, name).sigmoid(), label, at)
        _of(self.lists, "score").update(self.model.score(output), labels.clicked, mask)
        return output


_SEEN = ("num_searches", "num_exposures", "num_clicks", "num_orders", "num_drawn_searches")


def _count(batch: RewardBatch) -> Tensor:
    """The numbers that `_SEEN` names, of one batch."""
    labels = batch.labels
    num_searches = torch.full_like(batch.inputs.mask.sum(), len(labels.drawn))
    counts = [batch.inputs.mask.sum(), labels.clicked.sum(), labels.purchased.sum(), labels.drawn.sum()]
    return torch.stack([num_searches, *(count.long() for count in counts)])


def _targets(labels: RewardLabels, mask: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Label and population of each tower: [B, X] each."""
    known = mask & labels.orders_known[:, None]
    return {
        "ctr": (labels.clicked, mask),
        "cvr": (labels.purchased, known & (labels.clicked > 0)),
        "ctcvr": (labels.purchased, known),
    }


def _rounded(values: dict[str, Tensor]) -> dict[str, float]:
    return {key: round(float(value), 5) for key, value in values.items()}


def _plain(bins: Any) -> dict[str, list[float]]:
    return {name: [round(float(value), 6) for value in values] for name, values in bins._asdict().items()}


def _of(part: nn.ModuleDict, name: str) -> ListMetrics:
    metrics = part[name]
    assert isinstance(metrics, ListMetrics)
    return metrics
