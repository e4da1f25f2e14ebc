"""Implicit long behaviour: sequences of hundreds of items become N_M embeddings in the encoder's input.

Each item → its RQ codes → centroids, summed per level; three sequences (click, order, RSU) × three levels = 9 vectors;
a Q-Former with N_M learned queries reads them (OneSearch §3.2; the LayerNorm is ours: sums grow with length).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, embedding_bag

NUM_SEQUENCES = 3
"""Click, order, RSU (relevant search unit)."""


class HistoryAdapter(nn.Module):
    """Per-level centroid sums, LayerNorm, Q-Former.

    Args:
        centroids: the codebooks of the levels that are summed, one [K_l, D] a level; frozen.
        hidden: H, width of the generator.
        num_queries: N_M, embeddings handed to the encoder.
        num_heads: attention heads of the Q-Former.
    """

    def __init__(self, centroids: Sequence[Tensor], hidden: int, num_queries: int = 3, num_heads: int = 4) -> None:
        super().__init__()
        self.num_levels = len(centroids)
        self.num_queries = num_queries
        self.num_heads = num_heads
        for level, table in enumerate(centroids):
            # One zero row at the end, where padding (-1) points.
            self.register_buffer(f"centroids_{level}", torch.cat([table, torch.zeros(1, table.shape[1])]))
        dim = centroids[0].shape[1]
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, hidden)
        self.source = nn.Parameter(torch.zeros(NUM_SEQUENCES * self.num_levels, hidden))
        self.queries = nn.Parameter(torch.randn(num_queries, hidden) * 0.02)
        self.q_former = nn.TransformerDecoderLayer(
            hidden, num_heads, 2 * hidden, dropout=0.0, batch_first=True, norm_first=True
        )

    def level_sums(self, codes: Tensor) -> Tensor:
        """Sums of centroids [B, 3, levels, D] of padded SIDs [B, 3, L, C ≥ levels], -1 where there is no item."""
        return torch.stack([self._sum(codes[..., level], level) for level in range(self.num_levels)], -2)

    def _sum(self, codes: Tensor, level: int) -> Tensor:
        """Sums of centroids [B, 3, D] of one level's codes [B, 3, L]; a thousand items' vectors are never laid out."""
        table = getattr(self, f"centroids_{level}")
        padding = len(table) - 1
        rows = torch.where(codes < 0, padding, codes).flatten(0, 1)
        if torch.compiler.is_exporting():  # a bag would become a loop over rows
            return embedding(rows, table).sum(-2).view(*codes.shape[:2], -1)
        sums: Tensor = embedding_bag(rows, table, mode="sum", padding_idx=padding).view(*codes.shape[:2], -1)
        return sums

    def forward(self, codes: Tensor) -> Tensor:
        """Embeddings [B, N_M, H] of the three sequences of SIDs [B, 3, L, C]."""
        sums = self.norm(self.level_sums(codes)).flatten(1, 2)
        memory = self.project(sums) + self.source
        embeddings: Tensor = self.q_former(self.queries.expand(len(codes), -1, -1), memory)
        return embeddings


def fill_slots(embeddings: Tensor, slots: Tensor, memory: Tensor) -> Tensor:
    """Put a row's n-th vector in place of its n-th slot; all shapes are known beforehand, whatever the prompts hold.

    Args:
        embeddings: of the prompts, [B, L, H].
        slots: where they leave room, [B, L] bool.
        memory: what the adapter makes of their histories, [B, N_M, H].
    """
    place = (slots.cumsum(1) - 1).clamp(0, memory.shape[1] - 1)
    vectors = memory.gather(1, place.unsqueeze(-1).expand_as(embeddings))
    return torch.where(slots.unsqueeze(-1), vectors.to(embeddings.dtype), embeddings)
