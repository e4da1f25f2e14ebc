"""Batches for the NER tagger: titles and queries with weak labels (the rule is in `keywords.weak_labels`).

What the tagger is judged by is hidden from it: a seeded share of the items, of which neither the titles are trained on
nor the attributes label any query, and the queries of the validation split that are not among those learnt from.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from onesearch.bpe_dropout import draw_segmentation
from onesearch.data.shuffled import ResumableData, Shuffled
from onesearch.data.tokenizer import ensure_tokenizer, open_tokenizer
from onesearch.keywords.weak_labels import Keys, label_query, label_title, value_keys
from onesearch.log.prepared import Log
from onesearch.log.searches import pairs_of
from onesearch.log.text import normalize_query
from onesearch.models.bio import NO_TEXT, tags_of
from onesearch.models.tagger import tokenize_with_offsets
from onesearch.types import SearchContext, Span, TaggingBatch, UserError


class TaggedText(NamedTuple):
    """An example."""

    text: str
    spans: list[Span]
    is_query: bool  # or a title


class TaggingData(ResumableData):
    """Weakly labelled titles and queries, each text once.

    Args:
        run: the run folder; reads `run/log`.
        batch_size: texts a step.
        tokenizer: a pretrained tokenizer by name; None trains one on the log.
        vocab_size: size of the trained tokenizer.
        fit_splits: the splits of the log whose clicked queries are learnt from.
        held_out: share of the items that are kept for validation, from 0 and below 1.
        unmarked: most training texts without any span, as a share of those with one, 0 to 1: they teach what is no
            value, but many only lack an attribute.
        lower_rate: share of training titles that are read in lower case, as queries are.
        bpe_dropout: probability to drop a BPE merge in training.
        max_length: where texts are cut, in tokens, in training and ever after.
        seed: of every random choice.
    """

    def __init__(
        self,
        run: Path,
        batch_size: int = 64,
        tokenizer: str | None = None,
        vocab_size: int = 8000,
        fit_splits: tuple[str, ...] = ("train",),
        held_out: float = 0.1,
        unmarked: float = 0.2,
        lower_rate: float = 0.3,
        bpe_dropout: float = 0.0,
        max_length: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= held_out < 1:
            raise UserError(f"held_out is {held_out}: give a share from 0 and below 1, of the items that validate.")
        self.run = Path(run)
        self.batch_size = batch_size
        self.tokenizer_name = tokenizer
        self.vocab_size = vocab_size
        self.fit_splits = fit_splits
        self.held_out = held_out
        self.unmarked = unmarked
        self.lower_rate = lower_rate
        self.bpe_dropout = bpe_dropout
        self.max_length = max_length
        self.seed = seed

    def prepare_data(self) -> None:
        """Train the tokenizer, once on one process, where there is something to learn."""
        if self.trainer is not None and self.trainer.state.fn != "fit":
            return  # a tagger that stands was fitted with the one that is there
        if self.tokenizer_name is None:
            ensure_tokenizer(self.run, self.vocab_size)

    def setup(self, stage: str) -> None:
        """Mine the labels."""
        log = Log.open(self.run / "log")
        titles: list[str] = log.items["title"].to_pylist()
        attributes, brands = log.items["attributes"].to_pylist(), log.items["brand"].to_pylist()
        items = [value_keys(dict(row or ()), brand) for row, brand in zip(attributes, brands, strict=True)]
        rng = random.Random(f"{self.seed}/tagging")
        held = _held_out(titles, self.held_out, rng)
        asked = _clicks(log.contexts(*self.fit_splits), held)
        validation = _clicks(log.contexts("validation"), set())
        new = {query: clicked for query, clicked in validation.items() if query not in asked}
        told = [TaggedText(title, label_title(title, keys), False) for title, keys in zip(titles, items, strict=True)]
        fit = [text for row, text in enumerate(told) if row not in held] + _queries(asked, items)
        self.fit_texts = _thinned(fit, self.unmarked, rng)
        self.validation_texts = [told[row] for row in sorted(held)] + _queries(new, items)

    def train_dataloader(self) -> DataLoader[TaggedText]:
        """Shuffled, noisy `TaggingBatch`es."""
        tokenizer = open_tokenizer(self.run, self.tokenizer_name, self.bpe_dropout)
        collate = _Collate(tokenizer, self.max_length, self.lower_rate, self.seed)
        order = self.going_on(Shuffled(self.fit_texts, self.seed))
        return DataLoader(self.fit_texts, self.batch_size, sampler=order, collate_fn=collate)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[TaggedText]:
        """Texts as they are, titles first."""
        collate = _Collate(open_tokenizer(self.run, self.tokenizer_name), self.max_length, 0.0, self.seed)
        return DataLoader(self.validation_texts, self.batch_size, collate_fn=collate)  # type: ignore[arg-type]


def _held_out(titles: Sequence[str], share: float, rng: random.Random) -> set[int]:
    """Rows of a share of the items, and of all that read like one of them: a title is held out, not a copy of it."""
    drawn = rng.sample(range(len(titles)), round(share * len(titles)))
    read = [normalize_query(title) for title in titles]
    hidden = {read[row] for row in drawn}
    return {row for row, title in enumerate(read) if title in hidden}


def _clicks(contexts: Sequence[SearchContext], hidden: set[int]) -> dict[str, Counter[int]]:
    """Query → clicks on each item; queries that led to hidden items alone are not there."""
    clicks: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for query, row in pairs_of(contexts):
        if row not in hidden:
            clicks[query][row] += 1
    return clicks


def _queries(clicks: dict[str, Counter[int]], items: Sequence[Keys]) -> list[TaggedText]:
    return [TaggedText(query, label_query(query, clicked, items), True) for query, clicked in sorted(clicks.items())]


def _thinned(texts: Sequence[TaggedText], unmarked: float, rng: random.Random) -> list[TaggedText]:
    marked = [text for text in texts if text.spans]
    bare = [text for text in texts if not text.spans]
    return marked + rng.sample(bare, min(len(bare), int(unmarked * len(marked))))


class _Collate:
    """Texts of a step, some in lower case, as tokens and tags."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int, lower_rate: float, seed: int) -> None:
        self.tokenizer, self.max_length, self.lower_rate, self.seed = tokenizer, max_length, lower_rate, seed

    def __call__(self, examples: list[TaggedText]) -> TaggingBatch:
        # Who meets in a step tells it from all others, of any epoch; a counter would restart in a fit that goes on.
        rng = random.Random(f"{self.seed}/{[example.text for example in examples]}")
        draw_segmentation(self.tokenizer, str(rng.getrandbits(64)))
        texts = [self._read(example, rng) for example in examples]
        tokens, offsets = tokenize_with_offsets(self.tokenizer, texts, self.max_length)
        tags = [torch.tensor(tags_of(e.spans, row)) for e, row in zip(examples, offsets, strict=True)]
        return TaggingBatch(
            tokens=tokens,
            tags=pad_sequence(tags, batch_first=True, padding_value=NO_TEXT),
            texts=texts,
            spans=[example.spans for example in examples],
            is_query=[example.is_query for example in examples],
        )

    def _read(self, example: TaggedText, rng: random.Random) -> str:
        lower = example.text.lower()
        # A letter that is longer in lower case would move the spans behind it.
        can = not example.is_query and len(lower) == len(example.text)
        return lower if can and rng.random() < self.lower_rate else example.text
