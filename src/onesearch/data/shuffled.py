"""The order in which an epoch shows its examples."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import RandomSampler


class Shuffled(RandomSampler):
    """A random order that seed and epoch fix, also in a fit that goes on: torch's own begins again with the first.

    On several processes Lightning puts a sampler in its place that does the same: it knows this one for a random one.

    Args:
        examples: what is shown.
        seed: of the orders.
    """

    def __init__(self, examples: Sequence[Any], seed: int) -> None:
        super().__init__(examples)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Shuffle for that epoch next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        # A generator begins with its first number: Lightning asks for an iterator before it tells of the epoch.
        count = len(self)
        yield from random.Random(f"{self.seed}/{self.epoch}").sample(range(count), count)
