"""Batches for the aligned encoder: pairs mined from the log, ranked triples and judgments (KHQE, method §1.1)."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import lightning
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerBase

from onesearch.data.tokenizer import ensure_tokenizer, open_tokenizer
from onesearch.log.pairs import mine
from onesearch.log.prepared import Log
from onesearch.log.text import item_texts, normalize_query
from onesearch.models.text_encoder import tokenize
from onesearch.tasks.noise import fragment, typo
from onesearch.types import AlignmentBatch, SearchContext

T = TypeVar("T")

NONE = -1
"""No item: a search in which nothing was ordered, say."""

Pair = tuple[int, str, int]
"""Number, query, row of the clicked item."""


@dataclass(frozen=True)
class Relations:
    """What the log says belongs together; items by row, queries as texts."""

    q2i: list[tuple[str, int]]
    q2q: list[tuple[str, str]]
    i2i: list[tuple[int, int]]
    ranked: list[tuple[str, int | None, int | None, int | None]]  # query, ordered, clicked, shown
    judged: list[tuple[str, int, int]]  # query, item, grade


def mine_relations(log: Log, contexts: Sequence[SearchContext], min_similarity: float, top_k: int) -> Relations:
    """All relations of the training searches."""
    fitted = {context.query for context in contexts}
    q2i = [(c.query, item) for c in contexts for item in c.clicked + c.purchased]
    distinct = sorted({(query, log.item_ids[item]) for query, item in q2i})
    clicks = pa.table({"query": [q for q, _ in distinct], "item_id": [i for _, i in distinct]})
    q2q = mine(clicks, "query", "item_id", min_similarity, top_k)
    i2i = mine(clicks, "item_id", "query", min_similarity, top_k)
    pairs = zip(i2i["left"].to_pylist(), i2i["right"].to_pylist(), strict=True)
    return Relations(
        q2i=q2i,
        q2q=list(zip(q2q["left"].to_pylist(), q2q["right"].to_pylist(), strict=True)),
        i2i=[(log.row_of[left], log.row_of[right]) for left, right in pairs],
        ranked=[triple for context in contexts for triple in _ranked(context)],
        judged=[
            (normalize_query(row["query"]), log.row_of[row["item_id"]], row["grade"])
            for row in log.judgments.to_pylist()
            # Judgments bear no date: one on a query that only the test knows would tell of the future.
            if row["item_id"] in log.row_of and normalize_query(row["query"]) in fitted
        ],
    )


def _ranked(context: SearchContext) -> Iterator[tuple[str, int | None, int | None, int | None]]:
    """One ordered, one clicked and one skipped item of a search that has at least two of the three kinds."""
    clicked = [item for item in context.clicked if item not in context.purchased]
    skipped = [item for item in context.impressed or () if item not in context.clicked]
    first = [items[0] if items else None for items in (list(context.purchased), clicked, skipped)]
    if sum(item is not None for item in first) >= 2:
        yield context.query, first[0], first[1], first[2]


class AlignmentData(lightning.LightningDataModule):
    """Shared data of the encoder stage.

    Args:
        run: the run folder; reads `run/log`.
        batch_size: query–item pairs a step.
        relation_share: pairs of each other relation a step, as a share of `batch_size`.
        tokenizer: a pretrained tokenizer by name; None trains one on the log.
        vocab_size: size of the trained tokenizer.
        fit_splits: the splits of the log to learn from.
        max_length: longest text, in tokens.
        typo_rate: share of queries that get a typo.
        fragment_rate: share of queries that are replaced by a fragment of the clicked item's title.
        bpe_dropout: probability to drop a BPE merge in training.
        min_similarity: least ItemCF similarity of a mined q2q or i2i pair.
        top_k: most mined pairs that begin with one text.
        seed: of every random choice.
    """

    def __init__(
        self,
        run: Path,
        batch_size: int = 128,
        relation_share: float = 0.25,
        tokenizer: str | None = None,
        vocab_size: int = 8000,
        fit_splits: tuple[str, ...] = ("train",),
        max_length: int = 64,
        typo_rate: float = 0.1,
        fragment_rate: float = 0.2,
        bpe_dropout: float = 0.0,
        min_similarity: float = 0.1,
        top_k: int = 20,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.run = Path(run)
        self.batch_size = batch_size
        self.relation_share = relation_share
        self.tokenizer_name = tokenizer
        self.vocab_size = vocab_size
        self.fit_splits = fit_splits
        self.max_length = max_length
        self.typo_rate = typo_rate
        self.fragment_rate = fragment_rate
        self.bpe_dropout = bpe_dropout
        self.min_similarity = min_similarity
        self.top_k = top_k
        self.seed = seed

    def prepare_data(self) -> None:
        """Train the tokenizer, once on one process."""
        if self.tokenizer_name is None:
            ensure_tokenizer(self.run, self.vocab_size)

    def setup(self, stage: str) -> None:
        """Mine the relations."""
        log = Log.open(self.run / "log")
        self.titles = [normalize_query(title).split() for title in log.items["title"].to_pylist()]
        self.item_texts = item_texts(log.items)
        self.fit_relations = mine_relations(log, log.contexts(*self.fit_splits), self.min_similarity, self.top_k)
        self.validation_relations = mine_relations(log, log.contexts("validation"), self.min_similarity, self.top_k)

    def train_dataloader(self) -> DataLoader[Pair]:
        """Shuffled, noisy `AlignmentBatch`es."""
        tokenizer = open_tokenizer(self.run, self.tokenizer_name, self.bpe_dropout)
        collate = _Collate(self, self.fit_relations, tokenizer, noisy=True)
        pairs = _Pairs(self.fit_relations.q2i)
        return DataLoader(
            pairs, self.batch_size, shuffle=True, collate_fn=collate, drop_last=len(pairs) > self.batch_size
        )

    def val_dataloader(self) -> DataLoader[Pair]:
        """Clean `AlignmentBatch`es of the validation split."""
        tokenizer = open_tokenizer(self.run, self.tokenizer_name)
        collate = _Collate(self, self.validation_relations, tokenizer, noisy=False)
        return DataLoader(_Pairs(self.validation_relations.q2i), self.batch_size, collate_fn=collate)


class _Pairs(Dataset[Pair]):
    """Query–item pairs, numbered."""

    def __init__(self, pairs: list[tuple[str, int]]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        return index, *self.pairs[index]


class _Collate:
    """Texts of a step, each once, with the relations between them."""

    def __init__(
        self, data: AlignmentData, relations: Relations, tokenizer: PreTrainedTokenizerBase, noisy: bool
    ) -> None:
        self.data, self.relations, self.tokenizer, self.noisy = data, relations, tokenizer, noisy
        self.num_steps = 0

    def __call__(self, samples: list[Pair]) -> AlignmentBatch:
        self.num_steps += 1
        rng = random.Random(f"{self.data.seed}/{self.num_steps}/{samples[0][0]}")
        share = max(1, round(self.data.relation_share * len(samples)))
        texts = _Texts(self.data, rng if self.noisy else None)
        q2i = [(texts.query(query, item), texts.item(item)) for _, query, item in samples]
        q2q = [(texts.query(a), texts.query(b)) for a, b in _draw(self.relations.q2q, share, rng)]
        i2i = [(texts.item(a), texts.item(b)) for a, b in _draw(self.relations.i2i, share, rng)]
        ranked = [
            (texts.query(query), *(NONE if item is None else texts.item(item) for item in items))
            for query, *items in _draw(self.relations.ranked, share, rng)
        ]
        judged = _draw(self.relations.judged, share, rng)
        judged_rows = [(texts.query(query), texts.item(item)) for query, item, _ in judged]
        return AlignmentBatch(
            queries=tokenize(self.tokenizer, list(texts.queries), self.data.max_length),
            items=tokenize(self.tokenizer, [self.data.item_texts[item] for item in texts.items], self.data.max_length),
            identity=texts.identity(),
            q2q=texts.rows(q2q, 2),
            i2i=texts.rows(i2i, 2),
            q2i=texts.rows(q2i, 2),
            ranked=texts.rows(ranked, 4),
            judged=texts.rows(judged_rows, 2),
            grades=torch.tensor([float(grade) for *_, grade in judged]),
        )


class _Texts:
    """The distinct texts of a step; typing noise is added on the way in when there is a source of chance.

    Until all texts are known, an item is written as −2 − its place among the items.
    """

    def __init__(self, data: AlignmentData, rng: random.Random | None) -> None:
        self.data, self.rng = data, rng
        self.queries: dict[str, str] = {}  # as written → as meant
        self.places: dict[str, int] = {}  # as written → place
        self.items: dict[int, int] = {}  # item row → place

    def query(self, query: str, clicked: int | None = None) -> int:
        written = query
        if self.rng and clicked is not None and self.rng.random() < self.data.fragment_rate:
            query = written = fragment(self.data.titles[clicked], self.rng) or query
        elif self.rng and self.rng.random() < self.data.typo_rate:
            written = typo(query, self.rng)
        self.queries.setdefault(written, query)
        return self.places.setdefault(written, len(self.places))

    def item(self, item: int) -> int:
        return -2 - self.items.setdefault(item, len(self.items))

    def rows(self, relation: Sequence[tuple[int, ...]], width: int) -> Tensor:
        """Rows of queries, then items."""
        rows = torch.tensor(relation, dtype=torch.int64).reshape(-1, width)
        return torch.where(rows < NONE, len(self.queries) - 2 - rows, rows)

    def identity(self) -> Tensor:
        """A number for each meaning."""
        number = {meaning: place for place, meaning in enumerate(dict.fromkeys(self.queries.values()))}
        queries = [number[meaning] for meaning in self.queries.values()]
        return torch.tensor(queries + [len(number) + place for place in self.items.values()])


def _draw(population: Sequence[T], count: int, rng: random.Random) -> list[T]:
    return rng.sample(population, min(count, len(population)))
