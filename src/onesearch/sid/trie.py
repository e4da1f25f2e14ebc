"""The trie of valid SIDs as arrays: which codes may follow a prefix.

A node of depth l is a distinct prefix of l codes; nodes of a depth are numbered in lexicographic order, so the children
of a node are neighbours and the whole trie is one offset array and one code array per depth (CSR). The leaves are the
distinct SIDs in lexicographic order: leaf n is row n of `SidTable.sids` for the same items.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Children(NamedTuple):
    """What may follow some nodes, padded to the widest branching X of the depth."""

    codes: Tensor  # [.., X] int64, 0 where invalid
    nodes: Tensor  # [.., X] int64, numbers in the next depth, 0 where invalid
    valid: Tensor  # [.., X] bool


class Trie:
    """The valid SIDs of a set of items. For a part of the catalogue, build another from the codes of that part.

    Args:
        codes: [N, C] SIDs, repeated or not.
        sizes: codes of each layer (`SidSpec.sizes`).

    Raises:
        ValueError: no codes, or a code outside its layer.
    """

    def __init__(self, codes: NDArray[np.integer], sizes: Sequence[int]) -> None:
        if codes.ndim != 2 or len(codes) == 0 or codes.shape[1] != len(sizes):
            raise ValueError(f"codes of a trie must be [N, {len(sizes)}] with N > 0, but are {codes.shape}.")
        if (codes < 0).any() or (codes >= np.array(sizes)).any():
            raise ValueError(f"codes of a trie must lie inside the layers' sizes {tuple(sizes)}.")
        self.sizes = tuple(sizes)
        unique = np.unique(np.asarray(codes, dtype=np.int64), axis=0)
        self.sids = torch.from_numpy(unique)  # [S, C]
        self._codes: list[Tensor] = []  # per depth l: [n_(l+1)] the last code of each child
        self._bounds: list[Tensor] = []  # per depth l: [n_l + 1] where the children of each node begin
        starts = np.zeros(1, dtype=np.int64)  # the first SID under each node of this depth
        for depth in range(len(self.sizes)):
            child_starts = _first_rows(unique[:, : depth + 1])
            bounds = np.append(np.searchsorted(child_starts, starts), len(child_starts))
            self._codes.append(torch.from_numpy(unique[child_starts, depth]))
            self._bounds.append(torch.from_numpy(bounds))
            starts = child_starts
        self._branching = [int((bounds[1:] - bounds[:-1]).max()) for bounds in self._bounds]

    @property
    def num_sids(self) -> int:
        """The number of distinct SIDs, which is the number of leaves."""
        return len(self.sids)

    def num_nodes(self, depth: int) -> int:
        """The number of distinct prefixes of `depth` codes; 1, the root, at depth 0."""
        return 1 if depth == 0 else len(self._codes[depth - 1])

    def children(self, depth: int, nodes: Tensor) -> Children:
        """The continuations of `nodes`.

        Args:
            depth: how many codes the nodes' prefixes have; 0 for the root.
            nodes: [..] int64 numbers of nodes of this depth.

        Returns:
            [.., X] children in ascending order of code.
        """
        bounds = self._bounds[depth]
        first = bounds[nodes].unsqueeze(-1)
        candidates = first + torch.arange(self._branching[depth], device=nodes.device)
        valid = candidates < bounds[nodes + 1].unsqueeze(-1)
        children = torch.where(valid, candidates, 0)
        return Children(torch.where(valid, self._codes[depth][children], 0), children, valid)

    def allowed(self, depth: int, nodes: Tensor) -> Tensor:
        """[.., K_(depth+1)] bool: which codes of the next layer continue each of `nodes` [..]."""
        children = self.children(depth, nodes)
        mask = torch.zeros(*nodes.shape, self.sizes[depth] + 1, dtype=torch.bool, device=nodes.device)
        slots = torch.where(children.valid, children.codes, self.sizes[depth])  # padding falls into the extra slot
        return mask.scatter_(-1, slots, True)[..., :-1]

    def codes(self, leaves: Tensor) -> Tensor:
        """Codes [.., C] of leaves [..]."""
        return self.sids[leaves]

    def to(self, device: torch.device | str) -> "Trie":
        """The same trie with its arrays on `device`."""
        moved = object.__new__(Trie)
        moved.sizes, moved._branching, moved.sids = self.sizes, self._branching, self.sids.to(device)
        moved._codes = [codes.to(device) for codes in self._codes]
        moved._bounds = [bounds.to(device) for bounds in self._bounds]
        return moved


def _first_rows(prefixes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of a sorted array at which a new prefix begins."""
    changed = (prefixes[1:] != prefixes[:-1]).any(axis=1)
    return np.append(0, np.flatnonzero(changed) + 1)
