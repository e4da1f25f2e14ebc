"""Prompts of like length in one batch: padding = 1 − Σ_i |x_i| / Σ_b B_b·max_{i ∈ b} |x_i| is what the encoder wastes.

How long a prompt is shows once it is written. So an epoch's batches, drawn at random, are taken in *pools* of P: the
prompts of a pool are written, sorted by length, and cut into batches again, whose order is drawn. The number of
batches, their sizes and the kind of answer at each step stay what they were; only who meets whom in a pool changes.
What is equally long keeps its random order, so that tasks of like prompts still share batches.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from onesearch.data.examples import Written
from onesearch.data.mixture import Drawn, Example, Mixture
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


class BucketedBatches(IterableDataset[list[Written]]):
    """The batches of an epoch, pool by pool; of several workers each writes whole pools.

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
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        batches = self.mixture.batches(self.epoch)
        for start in range(first * self.pool, len(batches), step * self.pool):
            yield from self._written(batches[start : start + self.pool], start)

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


class EpochLoader:
    """A DataLoader over `BucketedBatches`, told of the epoch as Lightning tells a sampler.

    It is no DataLoader itself: Lightning would deal out once more, among processes, what the mixture has dealt out.

    Args:
        batches: of the mixture.
        collate: examples of one kind → a batch, where they are written.
        num_workers: processes that write prompts, started anew for each epoch; 0: this one.
        pin_memory: whether batches are copied to where a GPU fetches them faster.
    """

    def __init__(
        self,
        batches: BucketedBatches,
        collate: Callable[[Sequence[Written]], GeneratorBatch],
        num_workers: int,
        pin_memory: bool,
    ) -> None:
        self.sampler = batches  # where Lightning looks for `set_epoch`
        self.loader = DataLoader(
            batches, batch_size=None, collate_fn=collate, num_workers=num_workers, pin_memory=pin_memory
        )

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[GeneratorBatch]:
        return iter(self.loader)
