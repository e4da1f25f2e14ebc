"""From pairs of the log to an `AlignmentBatch`: each text of a step once, with typing noise, and what relates them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from onesearch.bpe_dropout import draw_segmentation
from onesearch.data.hard_negatives import Judged, NearItems
from onesearch.data.relations import Relations
from onesearch.models.text_encoder import tokenize
from onesearch.tasks.noise import fragment, typo
from onesearch.types import AlignmentBatch

T = TypeVar("T")

NONE = -1
"""No item: a search in which nothing was ordered, say."""

Pair = tuple[int, str, int]
"""Number, query, row of the clicked item."""


@dataclass(frozen=True)
class Noise:
    """How queries are changed on their way into a step.

    Args:
        typo_rate: share of queries that get a typo.
        fragment_rate: share of queries that are replaced by a fragment of the clicked item's title.
        titles: words of each item's title, [N].
    """

    typo_rate: float
    fragment_rate: float
    titles: Sequence[Sequence[str]]


class AlignmentCollate:
    """Texts of a step, each once, with the relations between them.

    Args:
        relations: what to draw from.
        item_texts: text of each item row, [N].
        tokenizer: of the encoder.
        max_length: longest text, in tokens.
        relation_share: pairs of each relation but q2i, as a share of the step's query–item pairs.
        seed: of every draw.
        noise: None: texts are as they were written.
    """

    def __init__(
        self,
        relations: Relations,
        item_texts: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        relation_share: float,
        seed: int,
        noise: Noise | None = None,
    ) -> None:
        self.relations, self.item_texts, self.tokenizer = relations, item_texts, tokenizer
        self.max_length, self.relation_share, self.seed, self.noise = max_length, relation_share, seed, noise
        self.num_hard = 0
        self.near: NearItems | None = None
        self.judged: Judged = relations.judged

    def __call__(self, samples: list[Pair]) -> AlignmentBatch:
        """Draw the other relations, and write everything down as rows of queries, then items."""
        # Who meets in a step tells it from all others, of any epoch; a counter would restart in a fit that goes on.
        rng = random.Random(f"{self.seed}/{[number for number, *_ in samples]}")
        draw_segmentation(self.tokenizer, str(rng.getrandbits(64)))
        share = max(1, round(self.relation_share * len(samples)))
        texts = _Texts(self.noise, rng)
        q2i = [(texts.query(query, item), texts.item(item)) for _, query, item in samples]
        q2q = [(texts.query(a), texts.query(b)) for a, b in _draw(self.relations.q2q, share, rng)]
        i2i = [(texts.item(a), texts.item(b)) for a, b in _draw(self.relations.i2i, share, rng)]
        ranked = [
            (texts.query(query), *(NONE if item is None else texts.item(item) for item in items))
            for query, *items in _draw(self.relations.ranked, share, rng)
        ]
        judged = _draw(self.judged, share, rng)
        judged_rows = [(texts.query(query), texts.item(item)) for query, item, _ in judged]
        hard = self._hard([query for query, _ in q2i], texts, rng)
        return AlignmentBatch(
            queries=tokenize(self.tokenizer, list(texts.queries), self.max_length),
            items=tokenize(self.tokenizer, [self.item_texts[item] for item in texts.items], self.max_length),
            identity=texts.identity(),
            q2q=texts.rows(q2q, 2),
            i2i=texts.rows(i2i, 2),
            q2i=texts.rows(q2i, 2),
            ranked=texts.rows(ranked, 4),
            judged=texts.rows(judged_rows, 2),
            grades=torch.tensor([float(grade) for *_, grade in judged]),
            hard=texts.rows(hard, self.num_hard),
        )

    def _hard(self, queries: Sequence[int], texts: "_Texts", rng: random.Random) -> list[tuple[int, ...]]:
        """Hard negatives of what each query of q2i means: a fragment of a title is a query of its own."""
        if self.near is None:
            return [(NONE,) * self.num_hard for _ in queries]
        meanings = list(texts.queries.values())
        drawn = [self.near.draw(meanings[place], self.num_hard, rng) for place in queries]
        return [(*map(texts.item, items), *(NONE,) * (self.num_hard - len(items))) for items in drawn]


class _Texts:
    """The distinct texts of a step; typing noise is added on the way in.

    Until all texts are known, an item is written as −2 − its place among the items.
    """

    def __init__(self, noise: Noise | None, rng: random.Random) -> None:
        self.noise, self.rng = noise, rng
        self.queries: dict[str, str] = {}  # as written → as meant
        self.places: dict[str, int] = {}  # as written → place
        self.items: dict[int, int] = {}  # item row → place

    def query(self, query: str, clicked: int | None = None) -> int:
        written = query
        if self.noise and clicked is not None and self.rng.random() < self.noise.fragment_rate:
            query = written = fragment(self.noise.titles[clicked], self.rng) or query
        elif self.noise and self.rng.random() < self.noise.typo_rate:
            written = typo(query, self.rng)
        self.queries.setdefault(written, query)
        return self.places.setdefault(written, len(self.places))

    def item(self, item: int) -> int:
        return -2 - self.items.setdefault(item, len(self.items))

    def rows(self, relation: Sequence[tuple[int, ...]], width: int) -> Tensor:
        """Rows of queries, then items."""
        rows = torch.tensor(relation, dtype=torch.int64).reshape(len(relation), width)
        return torch.where(rows < NONE, len(self.queries) - 2 - rows, rows)

    def identity(self) -> Tensor:
        """A number for each meaning."""
        number = {meaning: place for place, meaning in enumerate(dict.fromkeys(self.queries.values()))}
        queries = [number[meaning] for meaning in self.queries.values()]
        return torch.tensor(queries + [len(number) + place for place in self.items.values()])


def _draw(population: Sequence[T], count: int, rng: random.Random) -> list[T]:
    return rng.sample(population, min(count, len(population)))
