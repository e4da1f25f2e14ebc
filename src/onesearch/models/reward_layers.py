"""The parts of the reward model: the two sides, code embeddings, standardised features, cross layers.

Shapes: B searches, X candidates, T long history, M short history, D embedding width, H hidden width, C codes of a SID.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from onesearch.models.reward_features import NUM_PROFILE_BUCKETS, RewardInput
from onesearch.models.reward_items import NUM_VALUE_BUCKETS


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
    """Frozen embedding, SID and attribute values → [B, X, H]."""

    def __init__(self, dim: int, code_sizes: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        self.text = nn.Linear(dim, hidden)
        self.codes = CodeEmbedding(code_sizes, hidden)
        self.values = nn.Embedding(NUM_VALUE_BUCKETS, hidden, padding_idx=0)
        nn.init.normal_(self.values.weight[1:], std=0.02)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, inputs: RewardInput) -> Tensor:
        """Encode the candidates."""
        encoded: Tensor = self.norm(
            self.text(inputs.item) + self.codes(inputs.item_codes) + self.values(inputs.item_values).sum(-2)
        )
        return encoded


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
            seen = torch.where(mask[..., None], x.detach().double(), 0.0)  # of one shape: no GPU has to wait for it
            number = mask.sum().expand(x.shape[-1])
            self.moments += torch.stack([number, seen.sum((0, 1)), seen.square().sum((0, 1))])
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


class CrossNet(nn.Module):
    """Explicit crosses of features: x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l.

    Source: DCN V2 (arXiv 2008.13535), full-rank.
    """

    def __init__(self, width: int, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(num_layers))

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] → [..., width], of degree `num_layers` + 1 in x."""
        crossed = x
        for layer in self.layers:
            crossed = x * layer(crossed) + crossed
        return crossed


def mean_of(vectors: Tensor, mask: Tensor) -> Tensor:
    """Mean of the vectors [B, M, D] that exist, 0 where none does: [B, D]."""
    return (vectors * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def mlp(width: int, hidden: int, out: int) -> nn.Sequential:
    """Two linear layers with a GELU between."""
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out))
