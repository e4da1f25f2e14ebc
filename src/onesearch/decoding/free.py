"""Beams that nothing forbids: a trie of every SID that the layers can spell, whether an item has it or not.

The node of a prefix is its number in lexicographic order, c_1·K_2·…·K_l + … + c_l: nothing is stored. Searched with
`beam_search` it shows how much of its probability the model itself gives to SIDs that exist. The codes still come from
their own layer's slice of the head: a token of another layer, or a word, cannot be written, so the share of valid SIDs
is not the one published over the whole vocabulary.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from onesearch.sid.trie import Children


class EverySid:
    """A `SidTree` of all K_1·…·K_C SIDs.

    Args:
        sizes: codes of each layer (`SidSpec.sizes`); less than 2⁶³ SIDs.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)

    @property
    def num_sids(self) -> int:
        """K_1·…·K_C."""
        return prod(self.sizes)

    def num_nodes(self, depth: int) -> int:
        """K_1·…·K_depth."""
        return prod(self.sizes[:depth])

    def children(self, depth: int, nodes: Tensor) -> Children:
        """Every code of the next layer."""
        size = self.sizes[depth]
        codes = torch.arange(size, device=nodes.device).expand(*nodes.shape, size)
        parents = torch.arange(nodes.shape[1], device=nodes.device)[:, None].expand_as(codes)
        children = parents, codes, nodes.unsqueeze(-1) * size + codes, torch.ones_like(codes, dtype=torch.bool)
        return Children(*(part.flatten(1) for part in children))

    def codes(self, leaves: Tensor) -> Tensor:
        """Codes [.., C] of leaves [..]."""
        codes = []
        for size in reversed(self.sizes):
            codes.append(leaves % size)
            leaves = leaves // size
        return torch.stack(codes[::-1], -1)
