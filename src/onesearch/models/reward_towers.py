"""From inputs to the logits of CTR, CVR and CTCVR: SIM and the architectures that stand beside it.

    sim          the search unit picks from the whole history (`reward_search`); matches counted over all of it;
                 features crossed by cross layers beside the deep ones (arXiv 2008.13535)
    din          target attention over the latest clicks, matches counted over those (arXiv 1706.06978)
    dnn          the mean of the latest clicks, and the same matches
    dcnv2        as dnn, with the cross layers that sim has
    popularity   smoothed rates of the item, nothing learnt: (n_clk + m·c)/(n_pos + m), (n_ord + m·o)/(n_clk + m),
                 m = 20, c and o the rates of all

Position bias: CTR and CTCVR add a learned number for the place where an item was shown (a shallow tower, Zhao et al.,
RecSys 2019). In training half of the searches hide it, so that there is a number for a place not yet known, which is
all that serving and re-ranking ever give.

All read the same searches, candidates and counts through the same layers, so that what differs is how the history is
read. The user, the query and the history are encoded once a search, whatever the number of candidates.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from onesearch.models.reward_features import LATEST, NUM_POSITIONS, NUM_STATISTICS, RewardInput
from onesearch.models.reward_history import NUM_MATCHES
from onesearch.models.reward_layers import CrossNet, ItemSide, SearchSide, Standardize, mean_of
from onesearch.models.reward_search import NOTHING, ExactSearch, gathered, latest, latest_of_category, nearest
from onesearch.models.reward_sharing import Shared, Sharing, product_logit

TOWERS = ("ctr", "cvr", "ctcvr")
_CROSSED = ("ctr", "ctcvr")  # CVR learns from clicks alone: too few to tell crosses apart
_NUM_COSINES = 4
_RARE = -3.0  # bias of the towers at the start, about 5%: clicks are rare, and no step need be spent on learning that
_PRIOR = 20.0  # m
_SHOWN_PLACES = 0.5  # share of the searches that tell where items were shown, in training

Architecture = Literal["sim", "din", "dnn", "dcnv2", "popularity"]


@dataclass(frozen=True)
class RewardSize:
    """Size and shape of the reward model.

    Args:
        hidden: H, width of every inner vector.
        heads: attention heads of the exact search unit.
        architecture: `sim`, or one to compare it with.
        search: how SIM's general search unit picks: by category (hard) or by cosine (soft).
        picks: most behaviours that it picks for a candidate.
        sharing: what the towers share: one stack of layers (`bottom`), experts with gates (`mmoe`), nothing (`none`).
        experts: of `mmoe`.
        cross: cross layers beside the deep ones, which CTR and CTCVR read, in `sim` and `dcnv2`; 0: none.
        ctcvr: a tower of its own, or the product CTR·CVR, by which CVR learns from all exposures (ESMM).
        dropout: in the layers below the towers, while training.
    """

    hidden: int = 64
    heads: int = 4
    architecture: Architecture = "sim"
    search: Literal["hard", "soft"] = "soft"
    picks: int = 20
    sharing: Sharing = "bottom"
    experts: int = 4
    cross: int = 2
    ctcvr: Literal["tower", "product"] = "tower"
    dropout: float = 0.1


class Logits(NamedTuple):
    """Of the three towers; meaningless on padding."""

    ctr: Tensor  # [B, X]
    cvr: Tensor  # [B, X]
    ctcvr: Tensor  # [B, X]


class Towers(nn.Module):
    """Everything that learns.

    Args:
        dim: D, width of the frozen embeddings.
        code_sizes: number of codes of each of the C layers of a SID.
        size: see there.
    """

    def __init__(self, dim: int, code_sizes: tuple[int, ...], size: RewardSize) -> None:
        super().__init__()
        self.size = size
        self.search_side = SearchSide(dim, code_sizes, size.hidden)
        self.item_side = ItemSide(dim, code_sizes, size.hidden)
        attends = size.architecture in ("sim", "din")
        self.interest = ExactSearch(dim, size.hidden, size.heads) if attends else nn.Linear(dim, size.hidden)
        num_measured = NUM_STATISTICS + NUM_MATCHES + _NUM_COSINES
        self.standardize = Standardize(num_measured)
        self.norm = nn.LayerNorm(4 * size.hidden)
        width = 4 * size.hidden + num_measured
        crosses = size.cross > 0 and size.architecture in ("sim", "dcnv2")
        self.cross = CrossNet(width, size.cross) if crosses else None
        self.places = nn.Embedding(NUM_POSITIONS, 2)
        nn.init.zeros_(self.places.weight)
        heads = len(TOWERS) if size.ctcvr == "tower" else len(TOWERS) - 1
        self.shared = Shared(size.sharing, width, size.hidden, size.dropout, heads, size.experts)
        reads = {name: size.hidden + (width if crosses and name in _CROSSED else 0) for name in TOWERS[:heads]}
        self.towers = nn.ModuleDict({name: _tower(reads[name], size.hidden) for name in TOWERS[:heads]})

    def forward(self, inputs: RewardInput) -> Logits:
        """Logits of all candidates, of the data as it was trained on."""
        interest, nearest_cosine = self._interest(inputs)
        search = self.search_side(inputs)[:, None].expand(-1, inputs.item.shape[1], -1)
        item = self.item_side(inputs)
        learned = self.norm(torch.cat([search, item, search * item, interest], dim=-1))
        matches = inputs.matches[:, :, 0 if self.size.architecture == "sim" else 1]
        measured = torch.cat([inputs.statistics, matches, _cosines(inputs, nearest_cosine)], dim=-1)
        x = torch.cat([learned, self.standardize(measured, inputs.mask)], dim=-1)
        parts = self.shared(x)
        if self.cross is not None:
            crossed, named = self.cross(x), zip(self.towers, parts, strict=True)
            parts = [torch.cat([part, crossed], dim=-1) if name in _CROSSED else part for name, part in named]
        logits = [tower(part).squeeze(-1) for tower, part in zip(self.towers.values(), parts, strict=True)]
        seen = self._places(inputs.position)
        logits[0] = logits[0] + seen[..., 0]
        if len(logits) < len(TOWERS):
            return Logits(logits[0], logits[1], product_logit(*logits))
        return Logits(logits[0], logits[1], logits[2] + seen[..., 1])

    def _places(self, position: Tensor) -> Tensor:
        """What the place on the page adds to CTR and CTCVR, [B, X, 2]."""
        if self.training:
            position = position * (torch.rand(len(position), 1, device=position.device) < _SHOWN_PLACES)
        places: Tensor = self.places(position.clamp(max=NUM_POSITIONS - 1))
        return places

    def _interest(self, inputs: RewardInput) -> tuple[Tensor, Tensor]:
        """What the history says of the candidate, [B, X, H], and its cosine with the nearest behaviour read, [B, X]."""
        if self.size.architecture == "sim":
            with torch.no_grad():  # the search reads frozen vectors alone
                soft = self.size.search == "soft"
                scores, positions = (nearest if soft else latest_of_category)(inputs, self.size.picks)
                cosine = scores if soft else _cosine_at(inputs, positions, scores)
            return self.interest(inputs, positions, scores > NOTHING), _largest(cosine)
        scores, positions = latest(inputs.long_mask, LATEST)
        exists = scores > NOTHING
        read = gathered(inputs, positions)[:, 0, :, : inputs.item.shape[-1]]  # [B, k, D]
        padding = torch.where(exists, 0.0, 2 * NOTHING)
        cosine = _largest(torch.baddbmm(padding, inputs.item, read.transpose(1, 2)))
        if isinstance(self.interest, ExactSearch):
            return self.interest(inputs, positions, exists), cosine
        return self.interest(mean_of(read, exists[:, 0]))[:, None].expand(-1, inputs.item.shape[1], -1), cosine


class Popularity(nn.Module):
    """Smoothed rates of each item: what can be said of a click without looking at query or shopper."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(3, dtype=torch.float64))  # exposures, clicks, orders

    def observe(self, counts: Tensor) -> None:
        """Count exposures, clicks and orders, [3]: their rates are what an item's own are drawn towards."""
        self.seen += counts.to(self.seen)

    def forward(self, inputs: RewardInput) -> Logits:
        """Logits of all candidates."""
        exposures, clicks, orders = (self.seen + self.seen.new_tensor([2.0, 1.0, 0.5])).to(inputs.statistics).unbind()
        n_pos, n_clk, n_ord = inputs.statistics[..., :3].expm1().unbind(-1)
        ctr = (n_clk + _PRIOR * clicks / exposures) / (n_pos.maximum(n_clk) + _PRIOR)
        cvr = (n_ord + _PRIOR * orders / clicks) / (n_clk.maximum(n_ord) + _PRIOR)
        return Logits(*(rate.clamp(1e-6, 1 - 1e-6).logit() for rate in (ctr, cvr, ctr * cvr)))


def _cosines(inputs: RewardInput, nearest_cosine: Tensor) -> Tensor:
    """Cosine of candidate and query, nearest long, mean short behaviour; the first less that of query and a click.

    The click is the nearest of the latest ones: is one of those looked for again, and another one? [B, X, 4]
    """
    to_query = cosine_similarity(inputs.item, inputs.query[:, None], dim=-1)
    to_short = cosine_similarity(inputs.item, mean_of(inputs.short, inputs.short_mask)[:, None], dim=-1)
    scores, positions = latest(inputs.long_mask, LATEST)
    read = gathered(inputs, positions)[:, 0, :, : inputs.item.shape[-1]]
    known = cosine_similarity(read, inputs.query[:, None], dim=-1).masked_fill(scores[:, 0] <= NOTHING, -1).amax(-1)
    return torch.stack([to_query, nearest_cosine, to_short, to_query - known[:, None]], dim=-1)


def _cosine_at(inputs: RewardInput, positions: Tensor, scores: Tensor) -> Tensor:
    picked = gathered(inputs, positions)[..., : inputs.item.shape[-1]]
    return (picked @ inputs.item[..., None]).squeeze(-1).masked_fill(scores <= NOTHING, -1)


def _largest(cosine: Tensor) -> Tensor:
    return cosine.amax(-1).clamp(min=-1)


def _tower(width: int, hidden: int) -> nn.Sequential:
    last = nn.Linear(hidden // 2, 1)
    nn.init.constant_(last.bias, _RARE)
    return nn.Sequential(nn.Linear(width, hidden // 2), nn.GELU(), last)
