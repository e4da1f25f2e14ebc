"""The mean loss of each task."""

from collections.abc import Callable

import torch
from torch import Tensor


class TaskLosses:
    """Losses summed by task where they arise: nothing waits for the device before the means are read."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget what was added."""
        self.names: tuple[str, ...] = ()
        self.totals = torch.zeros(2, 0)  # sums and counts

    def add(self, losses: Tensor, tasks: Tensor, names: tuple[str, ...]) -> None:
        """Add some examples.

        Args:
            losses: [B].
            tasks: [B] int64, numbers in `names`.
            names: of all tasks, the same each time.
        """
        if not self.names:
            self.names = names
            self.totals = torch.zeros(2, len(names), device=losses.device)
        values = losses.detach().float()
        self.totals = self.totals.index_add(1, tasks, torch.stack([values, torch.ones_like(values)]))

    def means(self, over_processes: Callable[[Tensor], Tensor] | None = None) -> dict[str, float]:
        """The mean of each task that came.

        Args:
            over_processes: adds up what several processes hold; None: there is one.
        """
        totals = over_processes(self.totals) if over_processes and self.names else self.totals
        sums, counts = totals.tolist()
        return {name: sums[n] / counts[n] for n, name in enumerate(self.names) if counts[n]}
