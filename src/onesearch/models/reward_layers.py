"""The parts of the reward model: the two sides, SIM's exact search unit, code embeddings, standardised features.

Shapes: B searches, X candidates, T long history, M short history, D embedding width, H hidden width, C codes of a SID.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, scaled_dot_product_attention

from onesearch.models.reward_features import NUM_PROFILE_BUCKETS, NUM_TIME_GAPS, RewardInput


class SearchSide(nn.Module):
    """User ID, profile, query and short behaviour → [B, H], once a search."""

    def __init__(self, dim: int, code_sizes: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        self.user = CodeEmbedding(tuple(size + 1 for size in code_sizes * 2), hidden)  # one more: no history
        self.profile = nn.EmbeddingBag(NUM_PROFILE_BUCKETS, hidden, mode="mean", padding_idx=0)
        self.query = nn.Linear(dim, hidden)
        self.short = nn.Linear(dim, hidden)
        self.mix = mlp(4 * hidden, 2 * hidden, hidden)

    def forward(self, inputs: RewardInput) -> Tensor:
        """Encode the search."""
        parts = [
            self.user(inputs.user_codes + 1),
            self.profile(inputs.profile),
            self.query(inputs.query),
            self.short(mean_of(inputs.short, inputs.short_mask)),
        ]
        encoded: Tensor = self.mix(torch.cat(parts, dim=-1))
        return encoded


class ItemSide(nn.Module):
    """Frozen embedding and SID → [B, X, H]."""

    def __init__(self, dim: int, code_sizes: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        self.text = nn.Linear(dim, hidden)
        self.codes = CodeEmbedding(code_sizes, hidden)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, inputs: RewardInput) -> Tensor:
        """Encode the candidates."""
        encoded: Tensor = self.norm(self.text(inputs.item) + self.codes(inputs.item_codes))
        return encoded


class ExactSearch(nn.Module):
    """Target attention: what the picked behaviours say about the candidate → [B, X, H].

    Keys and values are computed once a search; the picks only mask them. Candidates for which nothing was picked get a
    learned vector instead.
    """

    def __init__(self, dim: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.candidate = nn.Linear(dim, hidden)
        self.behavior = nn.Linear(dim, 2 * hidden)
        self.gap = nn.Embedding(NUM_TIME_GAPS, 2 * hidden)
        self.nothing = nn.Parameter(torch.zeros(hidden))

    def forward(self, inputs: RewardInput, picked: Tensor) -> Tensor:
        """Attend; `picked` [B, X, T] bool comes from the general search unit."""
        behaviors = self.behavior(inputs.long) + self.gap(inputs.long_gap)
        key, value = (self._split(part) for part in behaviors.chunk(2, dim=-1))
        found = picked.any(-1, keepdim=True)
        mask = (picked | ~found)[:, None]  # attention to nothing at all would be NaN
        attended = scaled_dot_product_attention(self._split(self.candidate(inputs.item)), key, value, attn_mask=mask)
        return torch.where(found, attended.transpose(1, 2).flatten(2), self.nothing)

    def _split(self, x: Tensor) -> Tensor:
        """[B, L, H] → [B, heads, L, H/heads]."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Standardize(nn.Module):
    """Measured features to mean 0 and deviation 1 over all candidates seen in training, cut at ±8.

    Left as they are, log counts of 0 to 10 drown cosines that differ by hundredths. Unlike batch normalisation a
    batch may hold a single candidate.
    """

    moments: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("moments", torch.zeros(3, num_features, dtype=torch.float64))  # number, Σx, Σx²

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Standardise [B, X, F]; `mask` [B, X] is true on candidates that exist."""
        if self.training:
            seen = x.detach()[mask].double()
            self.moments += torch.stack([torch.ones_like(seen).sum(0), seen.sum(0), seen.square().sum(0)])
        number, total, squares = self.moments
        mean = total / number.clamp(min=1)
        deviation = (squares / number.clamp(min=1) - mean.square()).clamp(min=1e-4).sqrt()
        standardized: Tensor = (x - mean.to(x.dtype)) / deviation.to(x.dtype)
        return standardized.clamp(-8, 8)


class CodeEmbedding(nn.Module):
    """Sum of one learned vector a code; all layers share one table, each in its own rows: [..., C] → [..., H]."""

    offsets: Tensor

    def __init__(self, code_sizes: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        self.table = nn.Embedding(sum(code_sizes), hidden)
        nn.init.normal_(self.table.weight, std=0.1)
        starts = torch.tensor((0, *code_sizes[:-1])).cumsum(0)
        self.register_buffer("offsets", starts, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Embed and sum."""
        return embedding(codes + self.offsets, self.table.weight).sum(-2)


def mean_of(vectors: Tensor, mask: Tensor) -> Tensor:
    """Mean of the vectors [B, M, D] that exist, 0 where none does: [B, D]."""
    return (vectors * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def mlp(width: int, hidden: int, out: int) -> nn.Sequential:
    """Two linear layers with a GELU between."""
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out))
