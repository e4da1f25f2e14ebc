"""SFT stage 1, semantic content alignment: text ↔ SID, text → category, SID → category (OneSearch §4.1)."""

import random
from dataclasses import dataclass
from typing import ClassVar, Literal

from onesearch.tasks.prompt import Prompt
from onesearch.tasks.prompt_writer import PromptWriter
from onesearch.tasks.task import Corpus, Sample, Task

MAX_TARGET = 24
"""Longest text target, in tokens."""


@dataclass(frozen=True)
class QueryToSid(Task):
    """Query text → SID_q.

    Args:
        typo_rate: share of queries in a misspelt wording, with that wording's own SID as the answer.
    """

    typo_rate: float = 0.2
    writes: ClassVar[Literal["sid", "text"]] = "sid"

    def num_examples(self, corpus: Corpus) -> int:
        """One a query."""
        return len(corpus.queries)

    def sample(self, corpus: Corpus, writer: PromptWriter, index: int, rng: random.Random) -> Sample:
        """Write one example."""
        query = corpus.wording(corpus.queries[index], self.typo_rate, rng)
        return Sample(writer.about("QueryToSid", writer.text(query)), list(writer.sid_of(query)))


@dataclass(frozen=True)
class ItemToSid(Task):
    """Item text → its SID.

    Args:
        fragment_rate: share of items of which only a fragment of the title is shown.
    """

    fragment_rate: float = 0.5
    writes: ClassVar[Literal["sid", "text"]] = "sid"

    def num_examples(self, corpus: Corpus) -> int:
        """One an item."""
        return len(corpus.item_texts)

    def sample(self, corpus: Corpus, writer: PromptWriter, index: int, rng: random.Random) -> Sample:
        """Write one example."""
        shown = corpus.item_texts[index]
        if corpus.fragments and corpus.fragments[index] and rng.random() < self.fragment_rate:
            shown = rng.choice(corpus.fragments[index])
        return Sample(writer.about("ItemToSid", writer.text(shown)), corpus.item_codes[index].tolist())


@dataclass(frozen=True)
class SidToQuery(Task):
    """SID_q → query text."""

    writes: ClassVar[Literal["sid", "text"]] = "text"

    def num_examples(self, corpus: Corpus) -> int:
        """One a query."""
        return len(corpus.queries)

    def sample(self, corpus: Corpus, writer: PromptWriter, index: int, rng: random.Random) -> Sample:
        """Write one example."""
        query = corpus.queries[index]
        shown = writer.sid(writer.sid_of(query))
        return Sample(writer.about("SidToQuery", shown), writer.target(query, MAX_TARGET))


@dataclass(frozen=True)
class SidToItem(Task):
    """Item SID → item text."""

    writes: ClassVar[Literal["sid", "text"]] = "text"

    def num_examples(self, corpus: Corpus) -> int:
        """One an item."""
        return len(corpus.item_texts)

    def sample(self, corpus: Corpus, writer: PromptWriter, index: int, rng: random.Random) -> Sample:
        """Write one example."""
        shown = writer.item_tokens[index]
        return Sample(writer.about("SidToItem", shown), writer.target(corpus.item_texts[index], MAX_TARGET))


@dataclass(frozen=True)
class ItemToCategory(Task):
    """Item text → category path."""

    writes: ClassVar[Literal["sid", "text"]] = "text"

    def num_examples(self, corpus: Corpus) -> int:
        """One an item."""
        return len(corpus.item_texts)

    def sample(self, corpus: Corpus, writer: PromptWriter, index: int, rng: random.Random) -> Sample:
        """Write one example."""
        shown = writer.text(corpus.item_texts[index])
        prompt = writer.about("ItemToCategory", shown)
        return Sample(prompt, writer.target(corpus.categories[index], MAX_TARGET))


@dataclass(frozen=True)
class QueryToCategory(Task):
    """Query text → category path of an item clicked for it."""

    writes: ClassVar[Literal["sid", "text"]] = "text"

    def num_examples(self, corpus: Corpus) -> int:
        """One a query."""
        return len(corpus.queries)

    def sample(self, corpus: Corpus, writer: PromptWriter, index: int, rng: random.Random) -> Sample:
        """Write one example."""
        query = corpus.queries[index]
        category = corpus.categories[rng.choice(corpus.clicked[query])]
        return Sample(self.prompt(query, writer), writer.target(category, MAX_TARGET))

    def prompt(self, query: str, writer: PromptWriter) -> Prompt:
        """What is shown of the query."""
        return writer.about("QueryToCategory", writer.text(query))


@dataclass(frozen=True)
class SidToCategory(Task):
    """Item SID → category path."""

    writes: ClassVar[Literal["sid", "text"]] = "text"

    def num_examples(self, corpus: Corpus) -> int:
        """One an item."""
        return len(corpus.item_texts)

    def sample(self, corpus: Corpus, writer: PromptWriter, index: int, rng: random.Random) -> Sample:
        """Write one example."""
        prompt = writer.about("SidToCategory", writer.item_tokens[index])
        return Sample(prompt, writer.target(corpus.categories[index], MAX_TARGET))


@dataclass(frozen=True)
class QuerySidToCategory(QueryToCategory):
    """SID_q → category path of an item clicked for the query."""

    def prompt(self, query: str, writer: PromptWriter) -> Prompt:
        """What is shown of the query."""
        return writer.about("QuerySidToCategory", writer.sid(writer.sid_of(query)))
