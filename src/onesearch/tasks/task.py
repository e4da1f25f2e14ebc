"""What a task is: a count of examples and how each is written as prompt and target."""

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onesearch.log.searches import days_of, items_by_query
from onesearch.tasks.prompt import Prompt
from onesearch.tasks.prompt_writer import PromptWriter
from onesearch.types import SearchContext, UserError


@dataclass(frozen=True)
class Corpus:
    """What the tasks draw from; items by row, queries normalised."""

    queries: Sequence[str]  # distinct, of the fit splits
    item_texts: Sequence[str]  # title, brand, category, attributes and price of each
    categories: Sequence[str]  # of the items, "Video Games > Xbox 360", "" where unknown
    item_codes: NDArray[np.integer]  # [N, C]
    pairs: Sequence[tuple[str, int]]  # clicked (query, item), repeated as often as clicked
    searches: Sequence[SearchContext]  # with at least one click
    typos: dict[str, tuple[str, ...]] = field(default_factory=dict)  # misspelt wordings of a query
    babble: Sequence[str] = ()  # queries that mean nothing
    fragments: Sequence[tuple[str, ...]] = ()  # of each item's title, as a shopper would type them

    @property
    def days(self) -> NDArray[np.int64]:
        """The day of each search."""
        return days_of(self.searches)

    @cached_property
    def searches_of_day(self) -> dict[int, range | NDArray[np.int64]]:
        """Places of the searches of each day."""
        of_each = self.days
        order = np.argsort(of_each, kind="stable")
        days, starts = np.unique(of_each[order], return_index=True)
        in_order = (of_each[1:] >= of_each[:-1]).all()  # as a log is: then a range tells a day's searches
        places = range(len(order)) if in_order else order
        bounds = [*starts.tolist(), len(order)]
        return {day: places[start:end] for day, start, end in zip(days.tolist(), bounds, bounds[1:], strict=False)}

    @cached_property
    def clicked(self) -> Mapping[str, NDArray[np.integer]]:
        """Items clicked for each query, repeated as often as clicked."""
        return items_by_query(self.pairs)

    def wording(self, query: str, rate: float, rng: random.Random) -> str:
        """The query, or with probability `rate` one of its misspelt wordings."""
        typos = self.typos.get(query, ())
        return rng.choice(typos) if typos and rng.random() < rate else query


class Sample(NamedTuple):
    """A prompt and its answer."""

    prompt: Prompt
    answer: list[int]  # codes of a SID, or token ids of a text


@dataclass(frozen=True)
class Task(ABC):
    """One thing asked of the generator.

    Args:
        weight: how often an epoch shows the examples, on average over all: 2 is twice, 0.5 every other one.
    """

    weight: float = 1.0
    writes: ClassVar[Literal["sid", "text"]]
    """What the answer is: codes over the layer's own slice of the head, or text over the whole vocabulary."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise UserError(f"{type(self).__name__} has weight {self.weight}: give it 0 for never, or a number above.")

    @abstractmethod
    def num_examples(self, corpus: Corpus) -> int:
        """How many examples the corpus holds."""

    def repeats(self, corpus: Corpus) -> NDArray[np.float64]:
        """How often an epoch shows each example, on average: [num_examples]."""
        return np.full(self.num_examples(corpus), self.weight)

    @abstractmethod
    def sample(self, corpus: Corpus, writer: PromptWriter, index: int, rng: random.Random) -> Sample:
        """Write one example."""


def task_names(tasks: Sequence[Task]) -> tuple[str, ...]:
    """Each task by its class; where one comes twice, the second as `NAME-2`."""
    names = [type(task).__name__ for task in tasks]
    earlier = [names[:place].count(name) for place, name in enumerate(names)]
    return tuple(f"{name}-{count + 1}" if count else name for name, count in zip(names, earlier, strict=True))
