"""How well probabilities foretell what happens to lists of candidates: ranking, likelihood and calibration."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc

from onesearch.metrics.calibration import expected_calibration_error
from onesearch.metrics.grouped_auc import grouped_auc


class Lists(NamedTuple):
    """Padded lists of candidates."""

    scores: Tensor  # [S, X]
    labels: Tensor  # [S, X], 0 or 1
    mask: Tensor  # [S, X] bool, true on candidates that exist

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Of the candidates that exist, [n]."""
        return self.scores[self.mask].double().cpu().numpy()

    @property
    def outcomes(self) -> NDArray[np.float64]:
        """Labels of the candidates that exist, [n]."""
        return self.labels[self.mask].double().cpu().numpy()


class ListMetrics(Metric):
    """AUC, GAUC by search, log loss and expected calibration error of lists; absent where one class is missing."""

    full_state_update = False
    scores: list[Tensor]
    labels: list[Tensor]
    masks: list[Tensor]
    widths: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("scores", "labels", "masks", "widths"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor, mask: Tensor) -> None:
        """Add lists [B, X]; another batch may have another X."""
        # Flat, since what several processes hold is joined along the first dimension alone.
        self.scores.append(scores.float().flatten())
        self.labels.append(labels.float().flatten())
        self.masks.append(mask.flatten())
        self.widths.append(torch.full((len(mask),), mask.shape[1], device=mask.device))

    def lists(self) -> Lists:
        """All lists added, padded to the widest."""
        scores, labels, masks, widths = (
            torch.cat(list(part)) if isinstance(part, list) else part
            for part in (self.scores, self.labels, self.masks, self.widths)
        )
        inside = torch.arange(int(widths.max()), device=widths.device) < widths[:, None]
        return Lists(*(
            part.new_zeros(inside.shape).masked_scatter(inside, part) for part in (scores, labels, masks)
        ))  # fmt: skip

    def compute(self) -> dict[str, Tensor]:
        """The figures over all lists added."""
        lists = self.lists()
        score, label = lists.scores[lists.mask], lists.labels[lists.mask]
        if not 0 < label.sum() < len(label):
            return {}
        probability = score.clamp(0, 1)  # the score is no probability: its caller keeps the ranking figures alone
        values = {
            "auc": binary_auroc(probability, label.long()),
            "gauc": grouped_auc(lists.scores.cpu(), lists.labels.cpu(), lists.mask.cpu()),
            "log_loss": binary_cross_entropy(probability, label),
            "ece": expected_calibration_error(probability.cpu(), label.cpu()),
        }
        return {name: torch.as_tensor(value, dtype=torch.float32) for name, value in values.items() if value == value}
