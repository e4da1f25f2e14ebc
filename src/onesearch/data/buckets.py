"""Prompts of like length in one batch: padding = 1 − Σ_i |x_i| / Σ_b B_b·max_{i ∈ b} |x_i| is what the encoder wastes.

How long a prompt is shows once it is written. So an epoch's batches, drawn at random, are taken in *pools* of P: the
prompts of a pool are written, sorted by length, and cut into batches again, whose order is drawn. The number of
batches, their sizes and the kind of answer at each step stay what they were; only who meets whom in a pool changes.
What is equally long keeps its random order, so that tasks of like prompts still share batches.
"""

import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import torch
from torch.utils.data import DataLoader, IterableDataset

from onesearch.data.examples import Written
from onesearch.data.mixture import Drawn, Example, Mixture
from onesearch.resilience.signals import STOPS
from onesearch.types import GeneratorBatch


def rearranged(batches: Sequence[Sequence[Written]], rng: random.Random) -> list[list[Written]]:
    """The same examples in as many batches of the same sizes, like lengths together, in random order."""
    in_order = iter(sorted(chain.from_iterable(batches), key=_length))
    sorted_batches = [list(islice(in_order, len(batch))) for batch in batches]
    rng.shuffle(sorted_batches)
    return sorted_batches


def _length(written: Written) -> int:
    """Of the prompt alone."""
    # By answers too, prompts of one length (a SID) would be parted into titles and categories: batches of a single
    # task, from which stage 1 of the demo learnt far less in as many steps.
    return len(written.sample.prompt.tokens)


class BucketedBatches:
    """The batches of an epoch, pool by pool.

    Args:
        mixture: which examples an epoch shows.
        write: an example → prompt and answer.
        pool: P, batches whose prompts are sorted together; 1 leaves them as they are drawn.
    """

    def __init__(self, mixture: Mixture, write: Callable[[Example], Written], pool: int) -> None:
        self.mixture = mixture
        self.write = write
        self.pool = pool
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw that epoch's examples next, also in a fit that goes on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.mixture)

    def __iter__(self) -> Iterator[list[Written]]:
        return self.since(0)

    def since(self, number: int, turn: int = 0, turns: int = 1) -> Iterator[list[Written]]:
        """Batches from a number on, of every `turns`-th pool; pools that end before it are not written."""
        batches = self.mixture.batches(self.epoch)
        for start in range(turn * self.pool, len(batches), turns * self.pool):
            if start + self.pool > number:
                yield from self._written(batches[start : start + self.pool], start)[max(0, number - start) :]

    def _written(self, batches: Sequence[Drawn], start: int) -> list[list[Written]]:
        """A pool's batches, each at a step that had one of its kind."""
        written = [[self.write(Example(self.epoch, *row)) for row in batch.tolist()] for batch in batches]
        if self.pool == 1:
            return written
        # The same numbers on every process: what is long on one is long on all, and none waits for another.
        rng = random.Random(f"{self.mixture.seed}/{self.epoch}/{start}")
        for tasks in self.mixture.kinds.values():
            steps = [step for step, batch in enumerate(written) if batch[0].task in tasks]
            for step, batch in zip(steps, rearranged([written[step] for step in steps], rng), strict=True):
                written[step] = batch
        return written


@dataclass(eq=False)
class _Turn(IterableDataset[list[Written]]):
    """What one worker writes."""

    batches: BucketedBatches
    number: int
    turn: int
    turns: int

    def __iter__(self) -> Iterator[list[Written]]:
        return self.batches.since(self.number, self.turn, self.turns)


class EpochLoader:
    """Collated `BucketedBatches` of the epoch that Lightning tells it of, as it tells a sampler; goes on inside one.

    Each worker writes whole pools, and these come in their own order: a batch is a function of epoch and number alone,
    however many workers there are. It is no DataLoader itself: Lightning would deal out once more, among processes,
    what the mixture has dealt out.

    Args:
        batches: of the mixture.
        collate: examples of one kind → a batch, where they are written.
        num_workers: processes that write prompts, started anew for each epoch; 0: this one.
        pin_memory: whether batches are copied to where a GPU fetches them faster.
        repeats: whether every epoch is the first again (`overfit_batches`).
    """

    def __init__(
        self,
        batches: BucketedBatches,
        collate: Callable[[Sequence[Written]], GeneratorBatch],
        num_workers: int,
        pin_memory: bool,
        repeats: bool = False,
    ) -> None:
        self.batches = batches
        self.sampler = None if repeats else batches  # where Lightning looks for `set_epoch`
        self.collate, self.num_workers, self.pin_memory = collate, num_workers, pin_memory
        self.state = {"epoch": 0, "batches": 0}  # how many of its batches were shown
        self.goes_on = False

    def __len__(self) -> int:
        return len(self.batches)

    def state_dict(self) -> dict[str, int]:
        """How far the epoch is, for a checkpoint."""
        return self.state

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the batches that were shown, if that epoch comes next."""
        self.state, self.goes_on = state, True

    def __iter__(self) -> Iterator[GeneratorBatch]:
        # A generator begins with its first batch: Lightning asks for an iterator before it tells of the epoch.
        epoch, pool, turns = self.batches.epoch, self.batches.pool, max(1, self.num_workers)
        first = self.state["batches"] if self.goes_on and self.state["epoch"] == epoch else 0
        self.goes_on = False
        workers = [iter(self._loader(_Turn(self.batches, first, turn, turns))) for turn in range(turns)]
        for number in range(first, len(self)):
            batch = next(workers[number // pool % turns])
            self.state = {"epoch": epoch, "batches": number + 1}
            yield batch

    def _loader(self, turn: _Turn) -> DataLoader[GeneratorBatch]:
        # A loader draws a seed for its worker: not from the source that training draws from.
        return DataLoader(
            turn,  # type: ignore[arg-type]  # what it yields is collated
            batch_size=None,
            collate_fn=self.collate,
            num_workers=min(1, self.num_workers),
            pin_memory=self.pin_memory,
            generator=torch.Generator(),
            worker_init_fn=_leave_signals_to_the_trainer,
        )


def _leave_signals_to_the_trainer(_: int) -> None:
    """A scheduler asks every process to stop; a worker that did would take the training down before it has saved."""
    for signum in STOPS:
        signal.signal(signum, signal.SIG_IGN)
