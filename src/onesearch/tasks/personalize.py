"""SFT stage 3, user personalisation: the whole prompt of a search → SID of the item (OneSearch §4.1)."""

import math
import random
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from onesearch.behavior.memory import NOTHING_HIDDEN
from onesearch.tasks.prompt_writer import PromptWriter, draw_shift
from onesearch.tasks.task import Corpus, Sample, Task
from onesearch.types import SearchContext, UserError

HIDING = (0.6, 0.7, 0.8, 0.9, 0.999)
"""Cosines from which on known queries are hidden; .999 hides the query itself and what is spelt the same."""

OF_THE_USER = (
    "recent_queries",
    "recent_query_times",
    "recent_clicks",
    "recent_click_times",
    "long_clicks",
    "long_click_days",
    "long_click_times",
    "long_orders",
    "long_order_times",
)
"""What a search knows of its shopper's behaviour."""


@dataclass(frozen=True)
class SearchToItem(Task):
    """A search as of its own time → the item that was bought, or else clicked.

    Args:
        typo_rate: share of queries in a misspelt wording.
        slide_rate: share of searches whose behaviour ends some clicks ago: queries, clicks and orders after the click
            that ends the window are hidden. The query and its answer are those of the present.
        largest_slide: by how many clicks at most; clicks of one search are hidden together or not at all.
        anonymous_rate: share of searches shown without their user, as a new user's would be.
        unknown_rate: share of searches whose query is shown as one that was never seen before: what is known of it, and
            of queries nearer to it than a random cosine of `HIDING`, is hidden.
        unreadable_rate: share of searches whose query is replaced by one that means nothing. After words that no title
            and no known query holds, shoppers click what is clicked these days.
        half_life: a search so many days before the last one is shown half as often, one of twice the age a quarter.
            What shoppers want of one query changes, and the next days resemble the last ones.
        pseudo_clicks: κ of a Dirichlet prior: in κ/(n + κ) of its examples, a query clicked n times is answered by what
            any search of that day led to. One click says little of a query; what everybody clicks fills the list.
        largest_age: clicks are remembered until a random day, at most so many before yesterday; a served model's
            memory ends where its log ends, too.
    """

    typo_rate: float = 0.1
    slide_rate: float = 0.2
    largest_slide: int = 3
    anonymous_rate: float = 0.1
    unknown_rate: float = 0.2
    unreadable_rate: float = 0.0
    half_life: float = math.inf
    pseudo_clicks: float = 0.0
    largest_age: int = 0
    writes: ClassVar[Literal["sid", "text"]] = "sid"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.half_life > 0 or not self.pseudo_clicks >= 0:
            raise UserError(
                f"SearchToItem has half_life {self.half_life} and pseudo_clicks {self.pseudo_clicks}: the one has to "
                "be above zero, the other not below it."
            )

    def num_examples(self, corpus: Corpus) -> int:
        """One a search that led to something."""
        return len(corpus.searches)

    def repeats(self, corpus: Corpus) -> NDArray[np.float64]:
        """As often as `weight` says over all searches, the more often the later."""
        days = corpus.days
        shares = 0.5 ** ((days.max(initial=0) - days) / self.half_life)  # 1 on the last day
        repeats: NDArray[np.float64] = shares * (self.weight * len(shares) / max(1.0, shares.sum()))
        return repeats

    def sample(self, corpus: Corpus, writer: PromptWriter, index: int, rng: random.Random) -> Sample:
        """Write one example."""
        context = corpus.searches[index]
        answered = context
        if self.pseudo_clicks:
            num_clicks = len(corpus.clicked[context.query])
            if rng.random() < self.pseudo_clicks / (num_clicks + self.pseudo_clicks):
                answered = corpus.searches[rng.choice(corpus.searches_of_day[context.day])]
        item = rng.choice(answered.purchased or answered.clicked)
        if rng.random() < self.anonymous_rate:
            context = anonymous(context)
        query = corpus.wording(context.query, self.typo_rate, rng)
        shift = draw_shift(context, self.slide_rate, self.largest_slide, rng) if writer.views.sliding else 0
        hidden_from = rng.choice(HIDING) if rng.random() < self.unknown_rate else NOTHING_HIDDEN
        if corpus.babble and rng.random() < self.unreadable_rate:
            query, hidden_from = rng.choice(corpus.babble), NOTHING_HIDDEN
        if age := rng.randint(0, self.largest_age):
            context = writer.evidence.as_remembered(context, context.day - age)
        return Sample(writer.search(context, query, shift, hidden_from), corpus.item_codes[item].tolist())


@dataclass(frozen=True)
class TitleToItem(Task):
    """A fragment of an item's title, typed by nobody in particular → the item: how new items and queries are met."""

    writes: ClassVar[Literal["sid", "text"]] = "sid"

    def num_examples(self, corpus: Corpus) -> int:
        """One an item."""
        return len(corpus.item_texts)

    def sample(self, corpus: Corpus, writer: PromptWriter, index: int, rng: random.Random) -> Sample:
        """Write one example."""
        query = rng.choice(corpus.fragments[index] or ("",))
        # The popular items beside it are those of some day of the log; where nothing was clicked there are none.
        day = rng.choice(corpus.searches).day if corpus.searches else 0
        return Sample(writer.search(unknown_search(query, day)), corpus.item_codes[index].tolist())


def anonymous(context: SearchContext) -> SearchContext:
    """The same search by a user of whom nothing is known."""
    nothing: dict[str, Any] = dict.fromkeys(OF_THE_USER, ())
    return context._replace(**nothing, profile="")


def unknown_search(query: str, day: int) -> SearchContext:
    """A search for `query` of which nothing else is known."""
    return SearchContext("", "", query, day, (), (), (), (), (), (), "", (), (), None)
