"""How a list is re-sorted: the reward of each item, and how much the generator's own opinion counts beside it.

    s(i) = reward(i) + w · log π(i | x),       w = `generator_weight`

The reward model learned from exposures: of items that the shop's own engine chose to show. A beam holds others besides,
of which it has seen nothing alike, while the generator learned to tell what is clicked from the whole catalogue, shown
or not. So the reward shall move the list, but not far from it: among all distributions q over items,

    E_q[reward] − w·KL(q ‖ π)   is largest at   q ∝ π·exp(reward / w),   whose items s sorts.

At w = 0 the reward model alone decides, among as many items as the list has; at w → ∞ the generator. How much w is
needed says how far the reward model can be trusted outside of exposures. The defaults are what earned most orders on
validation searches of the demo that nothing had learned from, without a loss of clicks; a weaker reward model needed
w = .1 there (docs/experiments.md). `python -m benchmarks.reranking` shows the choice for another run.
"""

from dataclasses import dataclass

from onesearch.types import UserError


@dataclass(frozen=True)
class Reranking:
    """How lists are re-sorted.

    Args:
        list_size: items of a beam that the reward model re-sorts, before the list is cut.
        generator_weight: how much an item's log-probability counts beside its reward.
    """

    list_size: int = 50
    generator_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.list_size < 1:
            raise UserError(f"reranking.list_size is {self.list_size}: re-sort at least one item.")
        if self.generator_weight < 0:
            raise UserError(f"reranking.generator_weight is {self.generator_weight}: give 0 or more.")
