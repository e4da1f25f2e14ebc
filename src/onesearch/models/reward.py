"""The reward model: SIM under three towers.

    general search   picks ≤ k behaviours of the long history that matter for the candidate: the latest of its category
                     (hard), or the nearest by cosine (soft)
    exact search     multi-head attention with the candidate as query over the picked behaviours and their time gaps
    towers           P(click | shown), P(order | click), P(click and order | shown), binary cross-entropy each;
                     CTR and CTCVR learn from all exposures, CVR from clicks
    score            w1·CTR + w2·CVR + w3·CTCVR + 10·w4·relevance,  relevance = (1 + cos(query, item))/2

Sources: OneSearch (arXiv 2509.03236), SIM (arXiv 2006.05639). The towers' sizes and the weights are ours: neither is
published. The user, the query and the history are encoded once a search, whatever the number of candidates.

Shapes: B searches, X candidates, T long history, D embedding width, H hidden width, C codes of a SID.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cosine_similarity,
)

from onesearch.behavior.relevant import most_similar, same_category
from onesearch.models.reward_features import NUM_STATISTICS, RewardInput
from onesearch.models.reward_layers import ExactSearch, ItemSide, SearchSide, Standardize, mean_of

TOWERS = ("ctr", "cvr", "ctcvr")
_NUM_MATCHES = 3
_RARE = -3.0  # bias of the towers at the start, about 5%: clicks are rare, and no step need be spent on learning that


@dataclass(frozen=True)
class ScoreWeights:
    """Weights w1 to w4 of the score; relevance is multiplied by 10 besides.

    Unpublished, so ours: CVR and relevance are larger numbers than CTR, and at 1 and .1 they order lists by themselves
    (GAUC of the score on simulated validation clicks .69, against .72 with these weights).
    """

    ctr: float = 1.0
    cvr: float = 0.3
    ctcvr: float = 1.0
    relevance: float = 0.02


@dataclass(frozen=True)
class RewardSize:
    """Size of the reward model.

    Args:
        hidden: H, width of every inner vector.
        heads: attention heads of the exact search unit.
        search: how the general search unit picks: by category (hard) or by cosine (soft).
        picks: most behaviours that it picks for a candidate.
        dropout: in the shared layer, while training.
    """

    hidden: int = 64
    heads: int = 4
    search: Literal["hard", "soft"] = "soft"
    picks: int = 20
    dropout: float = 0.1


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


class RewardBatch(NamedTuple):
    """One training step."""

    inputs: RewardInput
    labels: RewardLabels


class RewardModel(nn.Module):
    """Score items for searches.

    Args:
        dim: D, width of the frozen embeddings.
        code_sizes: number of codes of each of the C layers of a SID.
        size: widths and the general search unit.
        weights: of the score.
    """

    orders_known: Tensor

    def __init__(
        self,
        dim: int,
        code_sizes: tuple[int, ...],
        size: RewardSize = RewardSize(),
        weights: ScoreWeights = ScoreWeights(),
    ) -> None:
        super().__init__()
        self.dim, self.code_sizes, self.size, self.weights = dim, tuple(code_sizes), size, weights
        self.search_side = SearchSide(dim, self.code_sizes, size.hidden)
        self.item_side = ItemSide(dim, self.code_sizes, size.hidden)
        self.exact_search = ExactSearch(dim, size.hidden, size.heads)
        self.standardize = Standardize(NUM_STATISTICS + _NUM_MATCHES)
        self.norm = nn.LayerNorm(4 * size.hidden)
        self.shared = nn.Sequential(
            nn.Linear(4 * size.hidden + NUM_STATISTICS + _NUM_MATCHES, 2 * size.hidden),
            nn.GELU(),
            nn.Dropout(size.dropout),
            nn.Linear(2 * size.hidden, size.hidden),
            nn.GELU(),
        )
        self.towers = nn.ModuleDict({name: _tower(size.hidden) for name in TOWERS})
        self.register_buffer("orders_known", torch.tensor(False))  # without orders two towers have learned nothing

    def forward(self, inputs: RewardInput) -> RewardOutput:
        """Logits and relevance of all candidates."""
        similarity = inputs.item @ inputs.long.transpose(1, 2)  # [B, X, T], cosine: the embeddings are unit vectors
        picked = self.general_search(inputs, similarity)
        search = self.search_side(inputs)[:, None].expand(-1, inputs.item.shape[1], -1)
        item = self.item_side(inputs)
        interest = self.exact_search(inputs, picked)
        matches = _matches(inputs, similarity)
        learned = self.norm(torch.cat([search, item, search * item, interest], dim=-1))
        measured = self.standardize(torch.cat([inputs.statistics, matches], dim=-1), inputs.mask)
        shared = self.shared(torch.cat([learned, measured], dim=-1))
        logits = {name: tower(shared).squeeze(-1) for name, tower in self.towers.items()}
        return RewardOutput(**logits, relevance=(1 + matches[..., 0]) / 2)

    def general_search(self, inputs: RewardInput, similarity: Tensor) -> Tensor:
        """Which behaviours are relevant to which candidate: [B, X, T] bool."""
        if self.size.search == "hard":
            history = inputs.long_category[:, None].expand_as(similarity)
            positions = same_category(inputs.item_category, history, self.size.picks)
        else:
            positions = most_similar(similarity, inputs.long_mask[:, None].expand_as(similarity), self.size.picks)
        length = similarity.shape[-1]
        picked = torch.zeros(*similarity.shape[:-1], length + 1, dtype=torch.bool, device=similarity.device)
        return picked.scatter(-1, positions.masked_fill(positions < 0, length), True)[..., :length]

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
    )
    model.load_state_dict(load_file(Path(folder) / "reward.safetensors"))
    return model.eval()


def reward_losses(output: RewardOutput, labels: RewardLabels, mask: Tensor) -> dict[str, Tensor]:
    """Binary cross-entropy of each tower over the exposures it may learn from; 0 where there are none.

    Args:
        output: logits, [B, X].
        labels: what happened, [B, X].
        mask: candidates that exist, [B, X] bool.
    """
    known = mask & labels.orders_known[:, None]
    return {
        "ctr": _cross_entropy(output.ctr, labels.clicked, mask),
        "cvr": _cross_entropy(output.cvr, labels.purchased, known & (labels.clicked > 0)),
        "ctcvr": _cross_entropy(output.ctcvr, labels.purchased, known),
    }


def _cross_entropy(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    losses = binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return torch.where(mask, losses, 0.0).sum() / mask.sum().clamp(min=1)


def _matches(inputs: RewardInput, similarity: Tensor) -> Tensor:
    """Cosine of candidate and query, and of candidate and nearest long and mean short behaviour: [B, X, 3]."""
    to_query = cosine_similarity(inputs.item, inputs.query[:, None], dim=-1)
    to_short = cosine_similarity(inputs.item, mean_of(inputs.short, inputs.short_mask)[:, None], dim=-1)
    to_long = similarity.masked_fill(~inputs.long_mask[:, None], -1).amax(-1)
    return torch.stack([to_query, to_long, to_short], dim=-1)


def _tower(hidden: int) -> nn.Sequential:
    last = nn.Linear(hidden // 2, 1)
    nn.init.constant_(last.bias, _RARE)
    return nn.Sequential(nn.Linear(hidden, hidden // 2), nn.GELU(), last)
