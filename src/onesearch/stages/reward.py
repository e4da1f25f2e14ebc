"""Stage `reward`: three towers over SIM learn what a shopper does with a shown item (PARS; see `models.reward`)."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc

from onesearch.metrics.calibration import expected_calibration_error
from onesearch.metrics.grouped_auc import grouped_auc
from onesearch.models.reward import (
    TOWERS,
    RewardBatch,
    RewardLabels,
    RewardModel,
    RewardSize,
    ScoreWeights,
    reward_losses,
)
from onesearch.sid.spec import SidSpec
from onesearch.stages.stage import Optimization, Stage


class RewardStage(Stage):
    """Trains the reward model.

    Args:
        run: the run folder; reads `run/quantizer`.
        size: widths and the general search unit.
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
        size: RewardSize = RewardSize(),
        weights: ScoreWeights = ScoreWeights(),
        optimization: Optimization = Optimization(lr=3e-3),
    ) -> None:
        super().__init__(run, "reward", optimization)
        self.size = size
        self.weights = weights
        self.register_buffer("seen", torch.zeros(len(_SEEN), dtype=torch.int64))
        self.val_metrics = nn.ModuleDict({name: ListMetrics() for name in (*TOWERS, "score")})

    def build(self) -> None:
        """Build the model for the quantizer's embeddings and codes."""
        spec = json.loads((self.run / "quantizer" / "spec.json").read_text("utf-8"))
        sizes = SidSpec(spec["rq_sizes"], spec["opq_sizes"]).sizes
        with safe_open(self.run / "quantizer" / "embeddings.safetensors", framework="pt") as tensors:
            dim = tensors.get_slice("items").get_shape()[1]
        self.model = RewardModel(dim, sizes, self.size, self.weights)

    def training_step(self, batch: RewardBatch, _: int) -> Tensor:
        """One step over whole lists."""
        self.model.orders_known |= batch.labels.orders_known.any()
        if self.current_epoch == 0:
            self.seen += _count(batch)
        losses = reward_losses(self.model(batch.inputs), batch.labels, batch.inputs.mask)
        total = torch.stack(list(losses.values())).sum()
        size = len(batch.labels.drawn)
        self.log_dict({f"train/{name}": loss for name, loss in losses.items()}, batch_size=size)
        self.log("train/loss", total, prog_bar=True, batch_size=size)
        return total

    def validation_step(self, batch: RewardBatch, _: int) -> None:
        """Collect predictions of the towers and of the score."""
        output = self.model(batch.inputs)
        labels, mask = batch.labels, batch.inputs.mask
        losses = reward_losses(output, labels, mask)
        self.log("val/loss", torch.stack(list(losses.values())).sum(), batch_size=len(mask), sync_dist=True)
        for name, (label, at) in _targets(labels, mask).items():
            self._metrics(name).update(getattr(output, name).sigmoid(), label, at)
        self._metrics("score").update(self.model.score(output), labels.clicked, mask)

    def on_validation_epoch_end(self) -> None:
        """AUC, GAUC, log loss and calibration error of each tower; GAUC of the score, which is no probability."""
        for name in self.val_metrics:
            metrics = self._metrics(name)
            values = metrics.compute()
            kept = {key: value for key, value in values.items() if name != "score" or key == "gauc"}
            self.log_dict({f"val/{name}_{key}": value for key, value in kept.items()}, sync_dist=False)
            metrics.reset()

    def _metrics(self, name: str) -> "ListMetrics":
        metrics = self.val_metrics[name]
        assert isinstance(metrics, ListMetrics)
        return metrics

    def export(self, folder: Path) -> dict[str, Any]:
        """The model, and what it has learned from."""
        self.model.save(folder)
        facts: dict[str, Any] = dict(zip(_SEEN, self.seen.tolist(), strict=True))
        facts["towers"] = list(TOWERS if self.model.orders_known else TOWERS[:1])
        facts["negatives"] = "drawn" if facts["num_drawn_searches"] else "shown"
        metrics = {key: float(value) for key, value in self.trainer.callback_metrics.items() if key.startswith("val/")}
        return {**facts, "metrics": metrics, "num_steps": self.global_step}


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


class ListMetrics(Metric):
    """AUC, GAUC by search, log loss and expected calibration error of lists; absent where one class is missing."""

    full_state_update = False
    scores: list[Tensor]
    labels: list[Tensor]
    masks: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("scores", "labels", "masks"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor, mask: Tensor) -> None:
        """Add lists [B, X]."""
        self.scores.append(scores.float())
        self.labels.append(labels)
        self.masks.append(mask)

    def compute(self) -> dict[str, Tensor]:
        """The figures over all lists added."""
        scores, labels, mask = (torch.cat(list(parts)) for parts in (self.scores, self.labels, self.masks))
        score, label = scores[mask], labels[mask]
        if not 0 < label.sum() < len(label):
            return {}
        probability = score.clamp(0, 1)  # the score is no probability: its caller keeps the ranking figures alone
        values = {
            "auc": binary_auroc(probability, label.long()),
            "gauc": grouped_auc(scores.cpu(), labels.cpu(), mask.cpu()),
            "log_loss": binary_cross_entropy(probability, label),
            "ece": expected_calibration_error(probability.cpu(), label.cpu()),
        }
        return {name: torch.as_tensor(value, dtype=torch.float32) for name, value in values.items() if value == value}
