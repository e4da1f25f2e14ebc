"""The order in which an epoch shows its examples, and how a fit goes on inside it."""

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, TypeVar

import lightning
import torch.distributed as dist
from torch.utils.data import DistributedSampler


class Shuffled(DistributedSampler[Any]):
    """A random order that seed and epoch fix; each process takes its part, as many examples as every other.

    It knows how many were shown, and goes on behind them. Lightning would put a sampler of its own in its place on
    several processes, which goes on nowhere, if it were not one for several itself.

    Args:
        examples: what is shown.
        seed: of the orders.
    """

    def __init__(self, examples: Sequence[Any], seed: int) -> None:
        several = dist.is_available() and dist.is_initialized()
        world, rank = (dist.get_world_size(), dist.get_rank()) if several else (1, 0)
        super().__init__(examples, world, rank, seed=seed)  # type: ignore[arg-type]  # it asks for its length alone
        self.state = {"epoch": 0, "shown": 0}  # of this process' part
        self.goes_on = False

    def __iter__(self) -> Iterator[int]:
        # A generator begins with its first number: Lightning asks for an iterator before it tells of the epoch.
        epoch = self.epoch
        first = self.state["shown"] if self.goes_on and self.state["epoch"] == epoch else 0
        self.goes_on = False
        count = len(self.dataset)  # type: ignore[arg-type]
        order = random.Random(f"{self.seed}/{epoch}").sample(range(count), count)
        order += order[: self.total_size - count]  # an odd one is shown again, so that nobody waits for it
        part = islice(order, self.rank, None, self.num_replicas)
        for shown, number in enumerate(islice(part, first, None), start=first + 1):
            self.state = {"epoch": epoch, "shown": shown}
            yield number

    def state_dict(self) -> dict[str, int]:
        """How far the epoch is, for a checkpoint."""
        return self.state

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind what was shown, if that epoch comes next."""
        self.state, self.goes_on = state, True


class KnowsItsPlace(Protocol):
    """What counts what an epoch has shown."""

    def state_dict(self) -> dict[str, int]:
        """How far the epoch is."""

    def load_state_dict(self, state: dict[str, int], /) -> None:
        """Go on there."""


Order = TypeVar("Order", bound=KnowsItsPlace)


class ResumableData(lightning.LightningDataModule):
    """A DataModule whose training goes on inside an epoch: checkpoints hold how far it is.

    Lightning's own copy of a loader's state comes too late for one whose length fixed the schedule.
    """

    def __init__(self) -> None:
        super().__init__()
        self.order: KnowsItsPlace | None = None
        self.goes_on_from: dict[str, Any] = {}

    def going_on(self, order: Order) -> Order:
        """What shows the epochs from now on; it begins where the checkpoint, if there is one, was written."""
        self.order = order
        if self.goes_on_from:
            order.load_state_dict(self.goes_on_from)
            self.goes_on_from = {}
        return order

    def state_dict(self) -> dict[str, Any]:
        """How far the epoch is, for a checkpoint."""
        return {**self.order.state_dict()} if self.order is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next loader go on inside its epoch."""
        self.goes_on_from = state_dict
