"""SFT stage 2, co-occurrence synchronisation: query ↔ item over clicked pairs, as text and as SIDs (OneSearch §4.1).

No user features: what queries and items mean to each other is learnt before who asks.
"""

import random
from dataclasses import dataclass
from typing import ClassVar, Literal

from onesearch.tasks.align import MAX_TARGET
from onesearch.tasks.prompt_writer import PromptWriter
from onesearch.tasks.task import Corpus, Sample, Task


@dataclass(frozen=True)
class ClickedPairs(Task):
    """A task over the clicked (query, item) pairs."""

    def num_examples(self, corpus: Corpus) -> int:
        """One a click."""
        return len(corpus.pairs)


@dataclass(frozen=True)
class QueryTextToItemText(ClickedPairs):
    """Query text → text of an item clicked for it."""

    writes: ClassVar[Literal["sid", "text"]] = "text"

    def sample(self, corpus: Corpus, writer: PromptWriter, index: int, rng: random.Random) -> Sample:
        """Write one example."""
        query, item = corpus.pairs[index]
        prompt = writer.about("QueryTextToItemText", writer.text(query))
        return Sample(prompt, writer.target(corpus.item_texts[item], MAX_TARGET))


@dataclass(frozen=True)
class ItemTextToQueryText(ClickedPairs):
    """Item text → a query that led to it."""

    writes: ClassVar[Literal["sid", "text"]] = "text"

    def sample(self, corpus: Corpus, writer: PromptWriter, index: int, rng: random.Random) -> Sample:
        """Write one example."""
        query, item = corpus.pairs[index]
        prompt = writer.about("ItemTextToQueryText", writer.text(corpus.item_texts[item]))
        return Sample(prompt, writer.target(query, MAX_TARGET))


@dataclass(frozen=True)
class QuerySidToItemSid(ClickedPairs):
    """SID_q → SID of an item clicked for the query.

    Args:
        typo_rate: share of queries in a misspelt wording.
    """

    typo_rate: float = 0.1
    writes: ClassVar[Literal["sid", "text"]] = "sid"

    def sample(self, corpus: Corpus, writer: PromptWriter, index: int, rng: random.Random) -> Sample:
        """Write one example."""
        query, item = corpus.pairs[index]
        shown = writer.sid(writer.sid_of(corpus.wording(query, self.typo_rate, rng)))
        return Sample(writer.about("QuerySidToItemSid", shown), corpus.item_codes[item].tolist())


@dataclass(frozen=True)
class ItemSidToQuerySid(ClickedPairs):
    """Item SID → SID of a query that led to it."""

    writes: ClassVar[Literal["sid", "text"]] = "sid"

    def sample(self, corpus: Corpus, writer: PromptWriter, index: int, rng: random.Random) -> Sample:
        """Write one example."""
        query, item = corpus.pairs[index]
        prompt = writer.about("ItemSidToQuerySid", writer.item_tokens[item])
        return Sample(prompt, list(writer.sid_of(query)))
