"""What a prompt shows of a search, as item rows and codes: chosen here, written by the prompt writer.

Everything is as of the search's own time: the shopper's sequences end before it, and what others clicked is counted
until the day before.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onesearch.behavior.categories import UNKNOWN, Categories
from onesearch.behavior.cold import with_default
from onesearch.behavior.memory import NOTHING_HIDDEN, ClickMemory
from onesearch.behavior.user_id import NONE, user_id
from onesearch.behavior.window import latest, window
from onesearch.tasks.prompt import Views
from onesearch.types import SearchContext

Relevant = Callable[[str, Sequence[int], int], Sequence[int]]
"""Picks the RSU: query, item rows of a long history, how many → item rows."""


class Asked(NamedTuple):
    """A search, and how much is known of its query."""

    context: SearchContext
    query: str  # as worded in the prompt
    hidden_from: float  # known queries of this cosine or more to the query are taken as never seen

    @property
    def is_known(self) -> bool:
        """Whether the query stands as it was typed, with its own record."""
        return self.query == self.context.query and self.hidden_from >= NOTHING_HIDDEN


class Shown(NamedTuple):
    """What a prompt shows, item rows unless said otherwise."""

    popular: Sequence[int]  # best first
    similar: Sequence[int]  # best first
    trending: Sequence[int]  # best first
    queries: Sequence[str]  # oldest first, as all that follow
    clicks: Sequence[int]
    relevant: Sequence[int]
    user: Sequence[Sequence[int]]  # SID_short and SID_long; a half without behaviour is left out
    history: tuple[Sequence[int], ...]  # click, order and RSU sequence


class Evidence:
    """Chooses what prompts show.

    Args:
        views: what there is to show.
        item_codes: [N, C] SIDs of the catalogue.
        relevant: picks the RSU by embedding; None: there is none.
        memory: what the log remembers of clicks; None: there is no log.
        categories: picks the RSU by category.
        blend: item rows, oldest first → the codes nearest to the mean of their embeddings.
    """

    def __init__(
        self,
        views: Views,
        item_codes: NDArray[np.integer],
        relevant: Relevant | None = None,
        memory: ClickMemory | None = None,
        categories: Categories | None = None,
        blend: Callable[[Sequence[int]], Sequence[int]] | None = None,
    ) -> None:
        self.views = views
        self.item_codes = item_codes
        self.relevant = relevant
        self.memory = memory
        self.categories = categories
        self.blend = blend

    def of(self, asked: Asked) -> Shown:
        """Everything that the prompt of a search shows."""
        views, shopper = self.views, asked.context
        is_new = not shopper.long_clicks and not shopper.long_orders
        popular = self.popular(asked) if is_new or views.popular_for_all else ()
        similar = self.similar(asked, popular)
        default = (popular or similar) if is_new else ()
        with_id = _having_clicked(default, shopper)
        if is_new and views.cold_start == "sequences":
            shopper, popular = with_id, popular if views.popular_for_all else ()
        category = self.category(asked) if views.relevant_by == "category" else UNKNOWN
        clicks = latest(shopper.long_clicks, views.max_history)
        has_id = views.user_id and (not is_new or (views.cold_user_id and bool(default)))
        return Shown(
            popular=popular,
            similar=similar,
            trending=self.trending(shopper.day),
            queries=latest(shopper.recent_queries, views.num_recent_queries),
            clicks=latest(shopper.recent_clicks, views.num_recent_clicks),
            relevant=self.rsu(asked.query, category, clicks, views.num_relevant_sids),
            user=self.user(with_id) if has_id else (),
            history=self.history(asked.query, category, shopper, default),
        )

    def popular(self, asked: Asked) -> Sequence[int]:
        """Items most clicked for this very query until the day before."""
        return asked.context.cold_start[: self.views.num_popular] if asked.is_known else ()

    def similar(self, asked: Asked, beside: Sequence[int]) -> Sequence[int]:
        """Items most clicked for the nearest known queries until the day before, without those `beside` them."""
        k = self.views.num_similar
        found = self._of_neighbors(asked, k + len(beside)) if k else ()
        return tuple(item for item in found if item not in beside)[:k]

    def trending(self, day: int) -> Sequence[int]:
        """Items most clicked of late, whatever the query."""
        k = self.views.num_trending
        return self.memory.trending(day, k) if self.memory is not None and k else ()

    def as_remembered(self, context: SearchContext, day: int) -> SearchContext:
        """The same search where clicks are remembered until the day before `day` only."""
        own = self.memory.own(context.query, day, len(context.cold_start)) if self.memory is not None else ()
        return context._replace(day=day, cold_start=own)

    def _of_neighbors(self, asked: Asked, k: int) -> Sequence[int]:
        if self.memory is None:
            return ()
        context, query, hidden_from = asked
        # What is hidden is measured from the query itself: its typo may lie farther from it than that.
        return self.memory.similar(
            query if hidden_from >= NOTHING_HIDDEN else context.query, context.day, k, hidden_from
        )

    def category(self, asked: Asked) -> int:
        """The category that the query asks for, as far as clicks until the day before say."""
        if self.categories is None:
            return UNKNOWN
        own = asked.context.cold_start if asked.is_known else ()
        return self.categories.wanted(asked.query, own or self._of_neighbors(asked, self.categories.num_votes))

    def rsu(self, query: str, category: int, history: Sequence[int], k: int) -> Sequence[int]:
        """The relevant search unit: at most `k` items of a long history, each once, by time."""
        if not history or not k:
            return ()
        items = tuple(dict.fromkeys(reversed(history)))[::-1]
        if self.views.relevant_by == "category":
            return self.categories.relevant(category, items, k) if self.categories else ()
        return self.relevant(query, items, k) if self.relevant else ()

    def user(self, shopper: SearchContext) -> Sequence[Sequence[int]]:
        """The halves of the user ID, C codes each, from the short and the long click sequence."""
        sequences = (
            latest(shopper.recent_clicks, self.views.num_recent_clicks),
            latest(shopper.long_clicks, self.views.max_history),
        )
        if self.views.user_id_by == "centroids" and self.blend is not None:
            return [self.blend(rows) for rows in sequences if rows]
        sizes = self.views.num_recent_clicks, self.views.max_history
        short, long = (window([rows], size) for rows, size in zip(sequences, sizes, strict=True))
        codes = user_id(self.item_codes[short.values], short.lengths, self.item_codes[long.values], long.lengths)[0]
        return [half.tolist() for half in codes.reshape(2, -1) if half[0] != NONE]

    def history(
        self, query: str, category: int, shopper: SearchContext, default: Sequence[int]
    ) -> tuple[Sequence[int], ...]:
        """Click, order and RSU sequences; without clicks and orders, `default` for the first."""
        if not self.views.max_history or not self.views.num_slots:
            return ((), (), ())
        clicks = latest(shopper.long_clicks, self.views.max_history) or default
        orders = latest(shopper.long_orders, self.views.max_history)
        return clicks, orders, self.rsu(query, category, clicks, self.views.num_relevant)


def _having_clicked(default: Sequence[int], shopper: SearchContext) -> SearchContext:
    """A new shopper as if they had clicked what the query is most clicked for, the best last; others as they are."""
    if not default:
        return shopper
    sequence = tuple(with_default((), default, len(default)))
    return shopper._replace(recent_clicks=sequence, long_clicks=sequence)
