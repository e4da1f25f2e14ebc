"""Batches for the three SFT stages: a mixture of tasks over the prepared log and the catalogue's SIDs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from onesearch.artifacts import verify
from onesearch.data.buckets import BucketedBatches, EpochLoader
from onesearch.data.corpus import build_corpus, with_searches
from onesearch.data.examples import Collator, Examples
from onesearch.data.mixture import Example, Mixture, held_out
from onesearch.data.searches import search_loader, shuffled
from onesearch.data.shuffled import ResumableData
from onesearch.data.tokenizer import ensure_tokenizer, open_tokenizer
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.tasks.prompt import Views
from onesearch.tasks.prompt_writer import PromptWriter
from onesearch.tasks.task import Task
from onesearch.tasks.template import Template
from onesearch.types import GeneratorBatch, UserError


class SftData(ResumableData):
    """Shared data of the SFT stages.

    Args:
        run: the run folder; reads `run/log`, `run/encoder` and `run/quantizer`.
        tasks: what is asked, with repetition weights.
        batch_size: examples a step and process; every batch holds one kind of answer, SIDs or texts.
        views: what a search prompt shows.
        template: the words of the prompts: `markers`, `en`, `zh` or a YAML file's path.
        tokenizer: a pretrained tokenizer by name, for a stage that starts from none; None trains one on the log.
        vocab_size: size of the trained tokenizer.
        fit_splits: the splits of the log to learn from.
        bpe_dropout: probability to drop a BPE merge in training.
        num_typos: misspelt wordings prepared for each query.
        num_fragments: fragments prepared for each title.
        num_validation: most searches of the validation split, and most examples of each task on it.
        num_workers: processes that write prompts; 0: this one.
        seed: of every random choice.
        init_from: the stage that training starts from, whose tokenizer the prompts are written with. Linked from the
            stage.
        pool: P, batches whose prompts are sorted by length together, so that a batch is hardly padded; 1 sorts none.
            `pool · batch_size` written prompts are held in memory, for each worker.
    """

    def __init__(
        self,
        run: Path,
        tasks: list[Task],
        batch_size: int = 512,
        views: Views = Views(),
        template: str = "markers",
        tokenizer: str | None = None,
        vocab_size: int = 8000,
        fit_splits: tuple[str, ...] = ("train",),
        bpe_dropout: float = 0.0,
        num_typos: int = 4,
        num_fragments: int = 16,
        num_validation: int = 1000,
        num_workers: int = 0,
        seed: int = 0,
        init_from: str | None = None,
        pool: int = 20,
    ) -> None:
        super().__init__()
        if pool < 1:
            raise UserError(
                f"SftData has pool {pool}: give the batches that are sorted by length together, 1 for none."
            )
        self.run = Path(run)
        self.tasks = tasks
        self.batch_size = batch_size
        self.views = views
        self.template_name = template
        self.tokenizer_name = tokenizer
        self.vocab_size = vocab_size
        self.fit_splits = fit_splits
        self.bpe_dropout = bpe_dropout
        self.num_typos = num_typos
        self.num_fragments = num_fragments
        self.num_validation = num_validation
        self.num_workers = num_workers
        self.seed = seed
        self.init_from = init_from
        self.pool = pool

    def prepare_data(self) -> None:
        """Train the tokenizer, once on one process, where a first stage names none."""
        if self.tokenizer_name is None and self.init_from is None:
            ensure_tokenizer(self.run, self.vocab_size)

    def setup(self, stage: str) -> None:
        """Gather what the tasks draw from; every text that a prompt may hold gets its SID now."""
        if self.init_from is not None:
            verify(self.run / self.init_from, "generator")
        self.tokenizer = self._open_tokenizer()
        self.template = Template.load(self.template_name)
        log = Log.open(self.run / "log")
        self.khqe = Khqe.open(self.run)
        searches = log.contexts(*self.fit_splits).answered
        self.corpus = build_corpus(log, self.khqe, searches, self.num_typos, self.num_fragments, self.seed)
        self.validation = shuffled(log.contexts("validation").answered, self.seed)[: self.num_validation]
        self.khqe.learn([*searches.queries_seen(), *self.validation.queries_seen()])

    def writer(self, bpe_dropout: float = 0.0) -> PromptWriter:
        """A prompt writer over this run's SIDs."""
        return self.khqe.writer(self._open_tokenizer(bpe_dropout), self.views, self.template)

    def train_dataloader(self) -> EpochLoader:
        """The mixture of tasks, shuffled, as `GeneratorBatch`es of one kind of answer."""
        if self.num_workers:  # built here once, and shared by the workers of every epoch
            _ = self.corpus.clicked, self.corpus.searches_of_day
        examples = Examples(self.tasks, self.corpus, self.writer(self.bpe_dropout), self.seed)
        mixture = Mixture(self.tasks, self.corpus, self.batch_size, self.seed)
        batches = BucketedBatches(mixture, examples.write, self.pool)
        overfits = self.trainer is not None and bool(self.trainer.overfit_batches)  # type: ignore[attr-defined]
        pin_memory = torch.cuda.is_available()
        loader = EpochLoader(batches, self._collator(), self.num_workers, pin_memory, repeats=overfits)
        return self.going_on(loader)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Searches of the validation split, to be answered with beams, and the tasks' own examples on them.

        Only searches are held out: tasks on items alone are asked of the catalogue that they learn.
        """
        searches = search_loader(self.validation)
        if not self.validation:
            return [searches]
        corpus = with_searches(self.corpus, self.validation)
        examples, collate = Examples(self.tasks, corpus, self.writer(), self.seed), self._collator()

        def written(batch: Sequence[Example]) -> GeneratorBatch:
            return collate([examples.write(example) for example in batch])

        batches = held_out(self.tasks, corpus, self.batch_size, self.num_validation, self.seed)
        return [searches, DataLoader(batches, batch_size=None, collate_fn=written)]  # type: ignore[arg-type]

    def _collator(self) -> Collator:
        return Collator(self.tasks, self.khqe.item_codes, self.tokenizer.pad_token_id)

    def _open_tokenizer(self, bpe_dropout: float = 0.0) -> PreTrainedTokenizerBase:
        """The tokenizer of the generator that is trained."""
        if self.init_from is None:
            return open_tokenizer(self.run, self.tokenizer_name, bpe_dropout)
        known = open_tokenizer(self.run, str(self.run / self.init_from), bpe_dropout)
        if self.tokenizer_name and open_tokenizer(self.run, self.tokenizer_name).get_vocab() != known.get_vocab():
            raise UserError(
                f"The tokenizer '{self.tokenizer_name}' has other tokens than the one that '{self.init_from}' was "
                "trained with: leave 'data.init_args.tokenizer' out, since a later stage goes on with that one."
            )
        return known
