"""The trie of valid SIDs as arrays: which codes may follow a prefix.

A node of depth l is a distinct prefix of l codes; nodes of a depth are numbered in lexicographic order, so the children
of a node are neighbours and the whole trie is one offset array and one code array per depth (CSR). The leaves are the
distinct SIDs in lexicographic order: leaf n is row n of `SidTable.sids` for the same items.

The arrays are as narrow as their values (codes of 16 bits, offsets of 32), some 30 bytes an item of a million with five
codes: `benchmarks.decode` counts them.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Children(NamedTuple):
    """What may follow K distinct nodes: the children of the first, then of the second.., padded to X together.

    X is how many children the K widest nodes of the depth have: the shape does not hang on which nodes they are.
    Padding repeats some child.
    """

    parents: Tensor  # [B, X] int64, the place among the K of the node that each continues
    codes: Tensor  # [B, X] int64, ascending below each parent
    nodes: Tensor  # [B, X] int64, numbers in the next depth
    valid: Tensor  # [B, X] bool


class SidTree(Protocol):
    """What beam search asks of SIDs, whether they are stored (`Trie`) or not (`decoding.free.EverySid`)."""

    sizes: tuple[int, ...]

    def num_nodes(self, depth: int) -> int:
        """The number of distinct prefixes of `depth` codes."""
        ...

    def children(self, depth: int, nodes: Tensor) -> Children:
        """The continuations of nodes [B, K], none twice in a row."""
        ...

    def codes(self, leaves: Tensor) -> Tensor:
        """Codes [.., C] of leaves [..]."""
        ...


class Trie:
    """The valid SIDs of a set of items. `within` makes that of a part of them.

    Args:
        codes: [N, C] SIDs, repeated or not.
        sizes: codes of each layer (`SidSpec.sizes`), of 63 bits together.

    Raises:
        ValueError: no codes, a code outside its layer, or layers too large.
    """

    def __init__(self, codes: NDArray[np.integer], sizes: Sequence[int]) -> None:
        if codes.ndim != 2 or len(codes) == 0 or codes.shape[1] != len(sizes):
            raise ValueError(f"codes of a trie must be [N, {len(sizes)}] with N > 0, but are {codes.shape}.")
        if (codes.min(0) < 0).any() or (codes.max(0) >= np.array(sizes)).any():
            raise ValueError(f"codes of a trie must lie inside the layers' sizes {tuple(sizes)}.")
        bits = [(size - 1).bit_length() for size in sizes]
        if sum(bits) > 63:
            raise ValueError(f"layers of sizes {tuple(sizes)} are too large for codes of a trie: 63 bits at most.")
        self.sizes = tuple(sizes)
        shifts = [sum(bits) - used for used in accumulate(bits)]
        keys = np.zeros(len(codes), dtype=np.int64)  # a SID as one number, its codes side by side
        for level, shift in enumerate(shifts):
            keys |= codes[:, level].astype(np.int64) << shift
        keys = np.sort(keys)
        keys = keys[_begins(keys)]
        columns = [(keys >> shift) & ((1 << width) - 1) for shift, width in zip(shifts, bits, strict=True)]
        narrow = np.int16 if max(sizes) <= 2**15 else np.int32
        self.sids = torch.from_numpy(np.stack(columns, 1).astype(narrow))  # [S, C]
        self._codes: list[Tensor] = []  # per depth l: [n_(l+1)] the last code of each child
        self._bounds: list[Tensor] = []  # per depth l: [n_l + 1] where the children of each node begin
        starts = np.zeros(1, dtype=np.int64)  # the first SID under each node of this depth
        for depth, shift in enumerate(shifts):
            is_start = _begins(keys >> shift)
            child_starts = np.flatnonzero(is_start)
            bounds = np.append(np.cumsum(is_start, dtype=np.int32)[starts] - 1, len(child_starts)).astype(np.int32)
            self._codes.append(self.sids[:, depth][torch.from_numpy(child_starts)])
            self._bounds.append(torch.from_numpy(bounds))
            starts = child_starts
        self._widths = _widths(self._bounds)

    @property
    def num_sids(self) -> int:
        """The number of distinct SIDs, which is the number of leaves."""
        return len(self.sids)

    @property
    def num_bytes(self) -> int:
        """What its arrays take."""
        return sum(part.nbytes for part in (self.sids, *self._codes, *self._bounds))

    def num_nodes(self, depth: int) -> int:
        """The number of distinct prefixes of `depth` codes; 1, the root, at depth 0."""
        return 1 if depth == 0 else len(self._codes[depth - 1])

    def children(self, depth: int, nodes: Tensor) -> Children:
        """The continuations of `nodes`.

        Args:
            depth: how many codes the nodes' prefixes have; 0 for the root.
            nodes: [B, K] int64 numbers of nodes of this depth, none twice in a row.
        """
        bounds, most = self._bounds[depth], self.most_children(depth, nodes.shape[1])
        first, end = bounds.unfold(0, 2, 1)[nodes].long().unbind(-1)
        last = (end - first).cumsum(1)  # [B, K] where in X the children of each node have ended
        # A parent's number is how many others have ended by then; each has a child, so that no two end together.
        ended = torch.zeros(len(nodes), most + 1, dtype=torch.int64, device=nodes.device).scatter_(1, last, 1)
        parents = ended.cumsum(1)[:, :most].clamp_(max=nodes.shape[1] - 1)
        places = torch.arange(most, device=nodes.device)
        children = (end - last).gather(1, parents).add_(places).clamp_(max=len(self._codes[depth]) - 1)
        return Children(parents, self._codes[depth][children].long(), children, places < last[:, -1:])

    def most_children(self, depth: int, num_nodes: int) -> int:
        """How many children `num_nodes` nodes of a depth have together at most."""
        most, num_left = 0, num_nodes
        for width, num_so_wide in self._widths[depth]:
            most += width * min(num_so_wide, num_left)
            num_left -= min(num_so_wide, num_left)
        return most

    def codes(self, leaves: Tensor) -> Tensor:
        """Codes [.., C] of leaves [..]."""
        return self.sids[leaves].long()

    def within(self, leaves: Tensor) -> "Trie":
        """The trie of some of the SIDs, whose leaves are numbered anew.

        Args:
            leaves: [S] bool, which of them stay; at least one.

        Raises:
            ValueError: none stays.
        """
        if not leaves.any():
            raise ValueError("a trie within another needs a leaf: this choice has none.")
        parts: list[tuple[Tensor, Tensor]] = []  # codes and bounds of each depth, the deepest first
        kept = leaves.to(self.sids.device)  # [n_(l+1)] which nodes still have a leaf below them
        for codes, bounds in zip(self._codes[::-1], self._bounds[::-1], strict=True):
            before = torch.cat([kept.new_zeros(1, dtype=torch.int32), kept.cumsum(0, dtype=torch.int32)])[bounds]
            has_children = before[1:] > before[:-1]
            parts.append((codes[kept], torch.cat([before[:-1][has_children], before[-1:]])))
            kept = has_children
        codes_of, bounds_of = zip(*reversed(parts), strict=True)
        return self._like(self.sids[leaves.to(self.sids.device)], codes_of, bounds_of, _widths(bounds_of))

    def to(self, device: torch.device | str) -> "Trie":
        """The same trie with its arrays on `device`."""
        codes, bounds = ([part.to(device) for part in parts] for parts in (self._codes, self._bounds))
        return self._like(self.sids.to(device), codes, bounds, self._widths)

    def _like(
        self, sids: Tensor, codes: Sequence[Tensor], bounds: Sequence[Tensor], widths: list[list[tuple[int, int]]]
    ) -> "Trie":
        """A trie over the same layers."""
        made = object.__new__(Trie)
        made.sizes, made.sids, made._codes, made._bounds = self.sizes, sids, list(codes), list(bounds)
        made._widths = widths
        return made


def _begins(sorted_values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where another value begins than the one before."""
    return np.append(True, sorted_values[1:] != sorted_values[:-1])


def _widths(bounds: Sequence[Tensor]) -> list[list[tuple[int, int]]]:
    """How many children nodes have, and how many nodes so many, the most first, depth by depth.

    Plain numbers, taken once: a search then looks at no value of any array, and a graph of it at none either.
    """
    found = []
    for part in bounds:
        widths, counts = torch.unique(part[1:] - part[:-1], return_counts=True)
        found.append(list(zip(widths.tolist()[::-1], counts.tolist()[::-1], strict=True)))
    return found
