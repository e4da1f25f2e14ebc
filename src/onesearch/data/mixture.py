"""Which examples an epoch shows: a mixture of tasks as batches of one kind of answer each, in random order.

Texts and SIDs stay apart: a SID is five tokens over slices of the head, a text up to 24 over the whole vocabulary, so
that a mixed batch would decode twice, each time for a part of its rows. Tasks of one kind share their batches.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray

from onesearch.tasks.task import Corpus, Task

HELD_OUT = -1
"""In place of an epoch where nothing is learnt."""


class Example(NamedTuple):
    """Where an example comes from; it fixes the example."""

    epoch: int
    task: int  # number of the task
    draw: int  # of that task in that epoch
    number: int  # of the example inside the task


Drawn = NDArray[np.int64]
"""Examples of one epoch, [B, 3]: task, draw and number of each. Epochs are long: 24 bytes an example, no objects."""


class Mixture:
    """The examples of each epoch; an example comes as often as its task says.

    Every process draws the same global batches and takes its own part of each: processes have as many batches, and
    batches of the same kind at the same step.

    Args:
        tasks: what is asked.
        corpus: what they draw from.
        batch_size: examples a batch and process.
        seed: of the draws.
    """

    def __init__(self, tasks: Sequence[Task], corpus: Corpus, batch_size: int, seed: int) -> None:
        self.batch_size = batch_size
        self.seed = seed
        self.repeats = [task.repeats(corpus) for task in tasks]
        self.kinds = by_kind(tasks)
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.rank = dist.get_rank() if dist.is_initialized() else 0

    def __len__(self) -> int:
        size = self.batch_size * self.world
        counts = [sum(_total(self.repeats[number]) for number in numbers) for numbers in self.kinds.values()]
        return sum(-(-count // size) for count in counts)

    def batches(self, epoch: int) -> list[Drawn]:
        """This process's part of every batch of an epoch."""
        rng = random.Random(f"{self.seed}/{epoch}")
        size = self.batch_size * self.world
        batches: list[Drawn] = []
        for tasks in self.kinds.values():
            drawn = np.concatenate([_draw(task, self.repeats[task], rng) for task in tasks])
            drawn = drawn[_order(len(drawn), rng)]
            batches += [drawn[start : start + size] for start in range(0, len(drawn), size)]
        rng.shuffle(batches)
        parts = ((batch[self.rank :: self.world], batch[:1]) for batch in batches)
        return [part if len(part) else first for part, first in parts]  # a process without a share steps with another's


def held_out(tasks: Sequence[Task], corpus: Corpus, batch_size: int, largest: int, seed: int) -> list[list[Example]]:
    """At most `largest` examples of each task, whatever its weight: the same batches each time, task after task."""
    batches = []
    for numbers in by_kind(tasks).values():
        examples = []
        for number in numbers:
            count = tasks[number].num_examples(corpus)
            drawn = random.Random(f"{seed}/{number}").sample(range(count), min(largest, count))
            examples += [Example(HELD_OUT, number, draw, index) for draw, index in enumerate(drawn)]
        batches += [examples[start : start + batch_size] for start in range(0, len(examples), batch_size)]
    return batches


def by_kind(tasks: Sequence[Task]) -> dict[str, list[int]]:
    """Numbers of the tasks by the kind of their answers."""
    kinds: dict[str, list[int]] = {}
    for number, task in enumerate(tasks):
        kinds.setdefault(task.writes, []).append(number)
    return kinds


def _total(repeats: NDArray[np.float64]) -> int:
    return round(float(repeats.sum()))


def _draw(task: int, repeats: NDArray[np.float64], rng: random.Random) -> Drawn:
    """Each example ⌊r⌋ or ⌈r⌉ times, r on average: systematic sampling over a random order; Σr is made whole first."""
    order = _order(len(repeats), rng)
    ends = repeats[order].cumsum()
    count = _total(repeats)
    ticks = (rng.random() + np.arange(count)) * (repeats.sum() / max(1, count))
    # Rounding may put the last tick behind the last end.
    numbers = order[np.searchsorted(ends, ticks, side="right").clip(max=len(order) - 1)]
    return np.stack([np.full(count, task), np.arange(count), numbers], axis=1)


def _order(count: int, rng: random.Random) -> NDArray[np.int64]:
    return np.random.default_rng(rng.getrandbits(64)).permutation(count)
