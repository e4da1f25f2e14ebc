"""The reward model: three towers over SIM, calibrated, and the score that ranks.

    general search   picks ≤ k behaviours of the long history that matter for the candidate: the latest of its category
                     (hard), or the nearest by cosine (soft)
    exact search     multi-head attention with the candidate as query over the picked behaviours and their time gaps
    towers           P(click | shown), P(order | click), P(click and order | shown), binary cross-entropy each;
                     CTR and CTCVR learn from all exposures, CVR from clicks
    product          or CTCVR = CTR·CVR, and CVR learns through it from all exposures (ESMM, arXiv 1804.07931)
    score            w1·CTR + w2·CVR + w3·CTCVR + 10·w4·relevance (`relevance`)

Where only a share w of the unclicked exposures was learnt from (all clicked ones are), the trained probabilities p' are
those of that sample, and predictions put them right:

    CTR     p = p'/(p' + (1 − p')/w), that is logit p = logit p' + log w      (He et al., ADKDD 2014)
    CVR     as it is: whatever was clicked was kept
    CTCVR   o = o'·(c + w·(1 − c)), c the CTR put right: all clicked were kept, ordered or not; or the product

Sources: OneSearch (arXiv 2509.03236), SIM (arXiv 2006.05639). The towers' sizes and the weights are ours: neither is
published.

Shapes: B searches, X candidates, T long history, D embedding width, H hidden width, C codes of a SID.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity, logsigmoid

from onesearch.models.relevance import Relevance
from onesearch.models.reward_features import RewardInput
from onesearch.models.reward_sharing import logit_of, product_logit
from onesearch.models.reward_towers import Logits, Popularity, RewardSize, Towers


@dataclass(frozen=True)
class HistorySizes:
    """How much history the model was trained with: whoever builds inputs for it gives as much.

    Args:
        short_size: latest clicks of the short history.
        long_size: latest clicks of the long history.
    """

    short_size: int = 5
    long_size: int = 200


@dataclass(frozen=True)
class ScoreWeights:
    """Weights w1 to w4 of the score; relevance is multiplied by 10 besides.

    Unpublished, so ours: CVR and relevance are larger numbers than CTR, and at 1 and .1 they order lists by themselves
    (GAUC of the score on simulated test clicks .725, with these weights .748, of CTR alone .758).
    """

    ctr: float = 1.0
    cvr: float = 0.3
    ctcvr: float = 1.0
    relevance: float = 0.02


class RewardOutput(NamedTuple):
    """Logits of the three towers and the relevance of each candidate; meaningless on padding."""

    ctr: Tensor  # [B, X]
    cvr: Tensor  # [B, X]
    ctcvr: Tensor  # [B, X]
    relevance: Tensor  # [B, X], 0 to 1


class RewardLabels(NamedTuple):
    """What the shopper did with each candidate."""

    clicked: Tensor  # [B, X] float32, 1 where clicked
    purchased: Tensor  # [B, X] float32, 1 where clicked and ordered
    orders_known: Tensor  # [B] bool, false where the log does not record orders
    drawn: Tensor  # [B] bool, true where negatives were drawn since the log does not record exposures
    kept: Tensor  # [B] float32, w: the share of unclicked exposures that is here


class RewardBatch(NamedTuple):
    """One training step."""

    inputs: RewardInput
    labels: RewardLabels


class RewardModel(nn.Module):
    """Score items for searches.

    Args:
        dim: D, width of the frozen embeddings.
        code_sizes: number of codes of each of the C layers of a SID.
        size: widths, architecture and options.
        weights: of the score.
        history: how much of it the inputs hold.
    """

    orders_known: Tensor
    kept: Tensor

    def __init__(
        self,
        dim: int,
        code_sizes: tuple[int, ...],
        size: RewardSize = RewardSize(),  # noqa: B008
        weights: ScoreWeights = ScoreWeights(),
        history: HistorySizes = HistorySizes(),
    ) -> None:
        super().__init__()
        self.dim, self.code_sizes, self.size, self.weights = dim, tuple(code_sizes), size, weights
        self.history = history
        learns = size.architecture != "popularity"
        self.body = Towers(dim, self.code_sizes, size) if learns else Popularity()
        self.relevance = Relevance()
        self.register_buffer("orders_known", torch.tensor(False))  # without orders two towers have learned nothing
        self.register_buffer("kept", torch.tensor(1.0))  # w

    def forward(self, inputs: RewardInput) -> RewardOutput:
        """Logits and relevance of all candidates: in training those of the sample, otherwise put right."""
        logits = self.body(inputs)
        if not self.training and isinstance(self.body, Towers):
            logits = self.calibrated(logits)
        cosine = cosine_similarity(inputs.item, inputs.query[:, None], dim=-1)
        return RewardOutput(logits.ctr, logits.cvr, logits.ctcvr, self.relevance(cosine))

    def calibrated(self, logits: Logits) -> Logits:
        """What was learnt where a share w of the unclicked was kept, as logits for all exposures."""
        log_w = self.kept.log()  # 0 where all were kept; to ask would make a GPU wait
        ctr = logits.ctr + log_w
        if self.size.ctcvr == "product":
            return Logits(ctr, logits.cvr, product_logit(ctr, logits.cvr))
        share = torch.logaddexp(logsigmoid(ctr), log_w + logsigmoid(-ctr))  # log(c + w·(1 − c))
        ctcvr = torch.where(self.kept == 1, logits.ctcvr, logit_of(logsigmoid(logits.ctcvr) + share))
        return Logits(ctr, logits.cvr, ctcvr)

    def observe(self, labels: RewardLabels, mask: Tensor) -> None:
        """Note what the labels of a training step tell of the data: recorded orders, down-sampling, overall rates."""
        self.orders_known |= labels.orders_known.any()
        self.kept.copy_(labels.kept[0])
        if isinstance(self.body, Popularity):
            clicks = (labels.clicked * mask).sum()
            exposures = clicks + (mask.sum() - clicks) / self.kept
            self.body.observe(torch.stack([exposures, clicks, (labels.purchased * mask).sum()]))

    def score(self, output: RewardOutput) -> Tensor:
        """The one number that ranks candidates, [B, X]; CTR and relevance alone where the log knew no orders."""
        score = self.weights.ctr * output.ctr.sigmoid() + 10 * self.weights.relevance * output.relevance
        orders = self.weights.cvr * output.cvr.sigmoid() + self.weights.ctcvr * output.ctcvr.sigmoid()
        return score + orders * self.orders_known

    def save(self, folder: Path) -> None:
        """Write weights and configuration."""
        save_file(
            {name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / "reward.safetensors"
        )
        config = {
            "dim": self.dim,
            "code_sizes": self.code_sizes,
            "size": asdict(self.size),
            "weights": asdict(self.weights),
            "history": asdict(self.history),
        }
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")


def load_reward(folder: Path, weights: ScoreWeights | None = None) -> RewardModel:
    """Read what `RewardModel.save` wrote, ready for inference.

    Args:
        folder: the reward artefact; verify it first.
        weights: of the score; None keeps those it was trained beside.
    """
    config = json.loads((Path(folder) / "config.json").read_text("utf-8"))
    model = RewardModel(
        config["dim"],
        tuple(config["code_sizes"]),
        RewardSize(**config["size"]),
        weights or ScoreWeights(**config["weights"]),
        HistorySizes(**config["history"]),
    )
    model.load_state_dict(load_file(Path(folder) / "reward.safetensors"))
    return model.eval()


def reward_losses(output: RewardOutput, labels: RewardLabels, mask: Tensor, product: bool = False) -> dict[str, Tensor]:
    """Binary cross-entropy of each tower over the exposures it may learn from; 0 where there are none.

    Args:
        output: logits, [B, X].
        labels: what happened, [B, X].
        mask: candidates that exist, [B, X] bool.
        product: CTCVR is CTR·CVR, and all that CVR learns from.
    """
    known = mask & labels.orders_known[:, None]
    losses = {
        "ctr": _cross_entropy(output.ctr, labels.clicked, mask),
        "ctcvr": _cross_entropy(output.ctcvr, labels.purchased, known),
    }
    if not product:
        losses["cvr"] = _cross_entropy(output.cvr, labels.purchased, known & (labels.clicked > 0))
    return losses


def _cross_entropy(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    losses = binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return torch.where(mask, losses, 0.0).sum() / mask.sum().clamp(min=1)
