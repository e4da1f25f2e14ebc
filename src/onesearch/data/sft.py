"""Batches for the three SFT stages: a mixture of tasks over the prepared log and the catalogue's SIDs."""

import random
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import lightning
import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from onesearch.data.searches import search_loader
from onesearch.data.tokenizer import ensure_tokenizer, open_tokenizer
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.log.text import item_texts, normalize_query
from onesearch.models.bpe_dropout import draw_segmentation
from onesearch.tasks.collation import collate_prompts
from onesearch.tasks.noise import Babbler, fragment, typo
from onesearch.tasks.prompt import Views
from onesearch.tasks.prompt_writer import PromptWriter
from onesearch.tasks.task import Corpus, Sample, Task
from onesearch.types import GeneratorBatch, SearchContext

NUM_BABBLE = 1000
"""Unreadable queries written once, as each needs a SID; those that hold a known word after all are dropped."""


class SftData(lightning.LightningDataModule):
    """Shared data of the SFT stages.

    Args:
        run: the run folder; reads `run/log`, `run/encoder` and `run/quantizer`.
        tasks: what is asked, with repetition weights.
        batch_size: examples a step and process; every batch holds one kind of answer, SIDs or texts.
        views: what a search prompt shows.
        tokenizer: a pretrained tokenizer by name; None trains one on the log.
        vocab_size: size of the trained tokenizer.
        fit_splits: the splits of the log to learn from.
        bpe_dropout: probability to drop a BPE merge in training.
        num_typos: misspelt wordings prepared for each query.
        num_fragments: fragments prepared for each title.
        num_validation: most searches of the validation split.
        num_workers: processes that write prompts; 0: this one.
        seed: of every random choice.
    """

    def __init__(
        self,
        run: Path,
        tasks: list[Task],
        batch_size: int = 512,
        views: Views = Views(),
        tokenizer: str | None = None,
        vocab_size: int = 8000,
        fit_splits: tuple[str, ...] = ("train",),
        bpe_dropout: float = 0.0,
        num_typos: int = 4,
        num_fragments: int = 16,
        num_validation: int = 1000,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.run = Path(run)
        self.tasks = tasks
        self.batch_size = batch_size
        self.views = views
        self.tokenizer_name = tokenizer
        self.vocab_size = vocab_size
        self.fit_splits = fit_splits
        self.bpe_dropout = bpe_dropout
        self.num_typos = num_typos
        self.num_fragments = num_fragments
        self.num_validation = num_validation
        self.num_workers = num_workers
        self.seed = seed

    def prepare_data(self) -> None:
        """Train the tokenizer, once on one process."""
        if self.tokenizer_name is None:
            ensure_tokenizer(self.run, self.vocab_size)

    def setup(self, stage: str) -> None:
        """Gather what the tasks draw from; every text that a prompt may hold gets its SID now."""
        log = Log.open(self.run / "log")
        self.khqe = Khqe.open(self.run)
        searches = [context for context in log.contexts(*self.fit_splits) if context.clicked]
        self.corpus = build_corpus(log, self.khqe, searches, self.num_typos, self.num_fragments, self.seed)
        validation = [context for context in log.contexts("validation") if context.clicked]
        random.Random(self.seed).shuffle(validation)
        self.validation = validation[: self.num_validation]
        self.khqe.learn(query for c in [*searches, *self.validation] for query in (c.query, *c.recent_queries))

    def writer(self, bpe_dropout: float = 0.0) -> PromptWriter:
        """A prompt writer over this run's SIDs."""
        tokenizer = open_tokenizer(self.run, self.tokenizer_name, bpe_dropout)
        return self.khqe.writer(tokenizer, self.views)

    def train_dataloader(self) -> DataLoader[tuple[Task, Sample]]:
        """The mixture of tasks, shuffled, as `GeneratorBatch`es of one kind of answer."""
        examples = _Examples(self.tasks, self.corpus, self.writer(self.bpe_dropout), self.seed)
        batches = MixtureBatches(self.tasks, self.corpus, self.batch_size, self.seed)
        return DataLoader(
            examples,
            batch_sampler=batches,
            collate_fn=_Collate(self.khqe, examples.writer),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def val_dataloader(self) -> DataLoader[list[SearchContext]]:
        """Searches of the validation split, to be answered with beams."""
        return search_loader(self.validation)


def build_corpus(
    log: Log, khqe: Khqe, searches: Sequence[SearchContext], num_typos: int, num_fragments: int, seed: int
) -> Corpus:
    """What the tasks draw from, with misspelt wordings and title fragments drawn and encoded once."""
    rng = random.Random(seed)
    queries = sorted({context.query for context in searches})
    titles = [normalize_query(title).split() for title in log.items["title"].to_pylist()]
    typos = {query: tuple(typo(query, rng) for _ in range(num_typos)) for query in queries}
    babbler = Babbler(queries)
    known = {word for text in (*queries, *map(" ".join, titles)) for word in text.split()}
    written = {babbler.write(rng) for _ in range(NUM_BABBLE if queries else 0)}
    babble = sorted(text for text in written if text and known.isdisjoint(text.split()))
    fragments = [tuple(fragment(title, rng) for _ in range(num_fragments)) for title in titles]
    khqe.learn(chain(queries, babble, *typos.values(), *fragments))
    return Corpus(
        queries=queries,
        item_texts=item_texts(log.items),
        categories=[" > ".join(names or ()) for names in log.items["category"].to_pylist()],
        item_codes=khqe.item_codes,
        pairs=[(context.query, item) for context in searches for item in context.clicked],
        searches=searches,
        typos=typos,
        babble=babble,
        fragments=fragments,
    )


Example = tuple[int, int, int, int]
"""Epoch, task, number of the draw in that epoch, number of the example inside the task."""


class _Examples(Dataset[tuple[Task, Sample]]):
    """Examples written when they are asked for; what is drawn twice in an epoch is written anew, by its own chance."""

    def __init__(self, tasks: Sequence[Task], corpus: Corpus, writer: PromptWriter, seed: int) -> None:
        self.tasks, self.corpus, self.writer, self.seed = tasks, corpus, writer, seed

    def __getitem__(self, example: Example) -> tuple[Task, Sample]:
        epoch, number, draw, index = example
        task = self.tasks[number]
        chance = f"{self.seed}/{epoch}/{number}/{draw}"
        draw_segmentation(self.writer.tokenizer, chance)
        return task, task.sample(self.corpus, self.writer, index, random.Random(chance))


class MixtureBatches(Sampler[list[Example]]):
    """Batches of one kind of answer each, in random order; an example comes as often as its task says.

    Every process draws the same global batches and takes its own part of each, so that the kinds agree over processes.
    """

    def __init__(self, tasks: Sequence[Task], corpus: Corpus, batch_size: int, seed: int) -> None:
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.sampler = self  # where Lightning looks for `set_epoch`
        self.repeats = [task.repeats(corpus) for task in tasks]
        self.kinds: dict[str, list[int]] = {}  # numbers of the tasks by the kind of their answers
        for number, task in enumerate(tasks):
            self.kinds.setdefault(task.writes, []).append(number)
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.rank = dist.get_rank() if dist.is_initialized() else 0

    def set_epoch(self, epoch: int) -> None:
        """Draw that epoch's examples next, also in a fit that goes on."""
        self.epoch = epoch

    def __len__(self) -> int:
        size = self.batch_size * self.world
        counts = [sum(_total(self.repeats[number]) for number in numbers) for numbers in self.kinds.values()]
        return sum(-(-count // size) for count in counts)

    def __iter__(self) -> Iterator[list[Example]]:
        rng = random.Random(f"{self.seed}/{self.epoch}")
        size = self.batch_size * self.world
        batches = []
        for numbers in self.kinds.values():
            examples = [
                (self.epoch, number, draw, index)
                for number in numbers
                for draw, index in enumerate(_draw(self.repeats[number], rng))
            ]
            rng.shuffle(examples)
            batches += [examples[start : start + size] for start in range(0, len(examples), size)]
        rng.shuffle(batches)
        for batch in batches:
            yield batch[self.rank :: self.world] or batch[:1]


def _total(repeats: NDArray[np.float64]) -> int:
    return round(float(repeats.sum()))


def _draw(repeats: NDArray[np.float64], rng: random.Random) -> list[int]:
    """Each index ⌊r⌋ or ⌈r⌉ times, r on average, by systematic sampling over a random order; Σr is made whole first."""
    order = np.array(rng.sample(range(len(repeats)), len(repeats)), dtype=np.int64)
    ends = repeats[order].cumsum()
    count = _total(repeats)
    ticks = (rng.random() + np.arange(count)) * (repeats.sum() / max(1, count))
    # Rounding may put the last tick behind the last end.
    drawn: list[int] = order[np.searchsorted(ends, ticks, side="right").clip(max=len(order) - 1)].tolist()
    return drawn


class _Collate:
    """Samples of one kind → a batch."""

    def __init__(self, khqe: Khqe, writer: PromptWriter) -> None:
        self.item_codes = khqe.item_codes
        self.pad = writer.tokenizer.pad_token_id

    def __call__(self, samples: list[tuple[Task, Sample]]) -> GeneratorBatch:
        prompt = collate_prompts([sample.prompt for _, sample in samples], self.item_codes, self.pad)
        answers = [sample.answer for _, sample in samples]
        if samples[0][0].writes == "sid":
            return GeneratorBatch(prompt, torch.tensor(answers), None)
        width = max(map(len, answers))
        labels = torch.tensor([answer + [-100] * (width - len(answer)) for answer in answers])
        return GeneratorBatch(prompt, None, labels)
