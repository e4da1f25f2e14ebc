"""The mean loss of each task."""

import torch
from torch import Tensor


class TaskLosses:
    """Losses summed by task where they arise: nothing waits for the device before the means are read."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget what was added."""
        self.names: tuple[str, ...] = ()
        self.sums = self.counts = torch.zeros(0)

    def add(self, losses: Tensor, tasks: Tensor, names: tuple[str, ...]) -> None:
        """Add some examples.

        Args:
            losses: [B].
            tasks: [B] int64, numbers in `names`.
            names: of all tasks, the same each time.
        """
        if not self.names:
            self.names = names
            self.sums, self.counts = losses.new_zeros(2, len(names), dtype=torch.float32)
        values = losses.detach().float()
        self.sums = self.sums.index_add(0, tasks, values)
        self.counts = self.counts.index_add(0, tasks, torch.ones_like(values))

    def means(self) -> dict[str, float]:
        """The mean of each task that came."""
        sums, counts = self.sums.tolist(), self.counts.tolist()
        return {name: sums[n] / counts[n] for n, name in enumerate(self.names) if counts[n]}
