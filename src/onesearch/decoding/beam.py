"""Constrained beam search over the codes of a SID.

    score(c_1..c_l) = score(c_1..c_{l-1}) + log p(c_l | c_1..c_{l-1}, x),   c_1..c_l a prefix of a valid SID

Each layer's probabilities are normalised over the layer's whole slice of codes, as in training; the trie only forbids.
Knows no model class and no text: a scorer hands over log-probabilities, whatever computes them. The shapes depend on
the trie and the beam width alone, not on the scores, so that nothing waits for the device and a whole search can be
one graph.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from onesearch.sid.trie import SidTree
from onesearch.types import UserError

FLOOR = -1e6
"""The log-probability that replaces -inf and NaN on valid codes: last among the valid, before all that is invalid."""


class Scorer(Protocol):
    """What beam search asks of a model."""

    def start(self) -> Tensor:
        """[B, K_1] log-probabilities of the first code."""
        ...

    def advance(self, parents: Tensor, codes: Tensor, level: int) -> Tensor:
        """Continue beams by one code.

        Args:
            parents: [B, K] int64, the earlier beam that each beam continues; all 0 at level 1, the shared root.
            codes: [B, K] int64, the code just chosen.
            level: how many codes the beams have now, 1 to C - 1.

        Returns:
            [B, K, K_(level+1)] log-probabilities of the next code.
        """
        ...


class Beams(NamedTuple):
    """Ranked SIDs, best first. K is the number of beams, or of valid SIDs where these are fewer.

    Each prefix in the trie has a leaf below it, so a beam never runs dry and no list is shorter than K.
    """

    codes: Tensor  # [B, K, C] int64
    scores: Tensor  # [B, K] sums of log-probabilities
    valid: Tensor  # [B, K] bool, what a reader of the list masks by: True for every SID found
    leaves: Tensor  # [B, K] int64, the row of each SID in `trie.sids`


def beam_search(scorer: Scorer, trie: SidTree, num_beams: int) -> Beams:
    """Find the most probable valid SIDs; equal scores are ranked by the lexicographic order of the SIDs.

    Args:
        scorer: hands over log-probabilities layer by layer.
        trie: the valid SIDs, on the scorer's device.
        num_beams: how many prefixes are kept at each layer.

    Raises:
        UserError: less than one beam.
    """
    if num_beams < 1:
        raise UserError(f"num_beams is {num_beams}: at least 1 beam is needed.")
    log_probs = scorer.start().unsqueeze(1)  # one root beam: [B, 1, K_1]
    nodes = torch.zeros(log_probs.shape[:2], dtype=torch.int64, device=log_probs.device)
    scores = torch.zeros_like(log_probs[..., 0], dtype=_score_type(log_probs))
    for depth in range(len(trie.sizes)):
        num_kept = min(num_beams, trie.num_nodes(depth + 1))
        parents, codes, nodes, scores = _extend(trie, depth, nodes, scores, log_probs, num_kept)
        if depth + 1 < len(trie.sizes):
            log_probs = scorer.advance(parents, codes, depth + 1)
    scores, order = scores.sort(dim=-1, descending=True, stable=True)
    leaves = nodes.gather(1, order)
    return Beams(trie.codes(leaves), scores, scores > -torch.inf, leaves)


def _extend(
    trie: SidTree, depth: int, nodes: Tensor, scores: Tensor, log_probs: Tensor, num_kept: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Grow every beam by every valid code and keep the best: (parents, codes, nodes, scores), each [B, num_kept]."""
    children = trie.children(depth, nodes)
    gains = log_probs.flatten(1).gather(1, children.parents * log_probs.shape[-1] + children.codes)
    gains = gains.to(scores.dtype).nan_to_num(nan=FLOOR, neginf=FLOOR)
    totals = torch.where(children.valid, gains.add_(scores.gather(1, children.parents)), -torch.inf)
    kept = keep_best(totals, num_kept)
    return (
        children.parents.gather(1, kept),
        children.codes.gather(1, kept),
        children.nodes.gather(1, kept),
        totals.gather(1, kept),
    )


def keep_best(scores: Tensor, num_kept: int) -> Tensor:
    """Indices of the `num_kept` largest of each row, in ascending order of *index*; among equals the lower is kept.

    Beams stay in the order of the trie, so the lower index is the lexicographically smaller SID: ties do not depend on
    the device's top-k. (A stable sort would do the same, many times slower on wide rows.)

    Args:
        scores: [B, X] with X ≥ num_kept; -inf is allowed, NaN is not.
        num_kept: how many of each row.
    """
    # Where looking at values costs nothing: a tie is rare, and without one the top-k is the answer.
    if scores.device.type == "cpu" and not torch.compiler.is_compiling() and num_kept < scores.shape[-1]:
        best = scores.topk(num_kept + 1, dim=-1)
        if not (best.values[:, -1] == best.values[:, -2]).any():
            return best.indices[:, :-1].sort(dim=-1).values
    threshold = scores.topk(num_kept, dim=-1).values[:, -1:]
    above, tied = scores > threshold, scores == threshold
    num_free = num_kept - above.sum(dim=-1, keepdim=True)
    kept = above | (tied & (tied.cumsum(dim=-1) <= num_free))
    slots = torch.where(kept, kept.cumsum(dim=-1) - 1, num_kept)  # what is dropped falls into an extra slot
    indices = torch.arange(scores.shape[-1], device=scores.device).expand_as(scores)
    return slots.new_zeros(len(scores), num_kept + 1).scatter_(1, slots, indices)[:, :-1]


def _score_type(log_probs: Tensor) -> torch.dtype:
    """Sums of half-precision scores are kept in float32."""
    return torch.promote_types(log_probs.dtype, torch.float32)
