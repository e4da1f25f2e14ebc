"""Does a list sell? NDCG with orders as gains, `oNDCG@10`.

    gain      g(i) = P(click and order | seen) of item i for this shopper and search     (simulated log: the truth)
              g(i) = 1 where i was bought after this search, else 0                       (logged orders)
    oNDCG@10  = Σ_{k ≤ 10} g(i_k) / log2(k + 1)  /  Σ_{k ≤ 10} g*_k / log2(k + 1),    g* the largest gains, falling

The truth counts every item that was on sale on the day of the search, shown or not, and needs no luck to be seen: it
judges all searches. Its ideal list knows the shopper's intent, which nobody is told, so that 1 is out of reach. Logged
orders judge the searches that led to one, and only what the shop chose to show could be bought.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from rich.console import Console

from onesearch.log.searches import ids_of, outcomes_of
from onesearch.metrics.ranking import PADDING, Items, Values, gain_ndcg, hits, ndcg
from onesearch.types import SearchContext, UserError

if TYPE_CHECKING:
    from onesearch.log.prepared import Log
    from onesearch.simulate.truth import Truth

ORDERS_METRIC = "oNDCG@10"
DEPTH = 10


class Orders(Protocol):
    """Judges lists by what they sell."""

    @property
    def note(self) -> str:
        """A sentence on what the gains are."""

    def judge(self, ranked: Items, searches: Sequence[SearchContext]) -> Values:
        """`oNDCG@10` of each of [S, K] rankings, `PADDING` behind short ones; NaN where a search cannot be judged."""


class LoggedOrders:
    """Gain 1 for every item that was bought; searches without an order are not judged."""

    note = f"{ORDERS_METRIC}: NDCG with logged orders as gains, over the searches that led to one."

    def judge(self, ranked: Items, searches: Sequence[SearchContext]) -> Values:
        """See `Orders`."""
        bought = [set(found.purchased) for found in outcomes_of(searches)]
        count = np.array([len(items) for items in bought])
        figures = ndcg(hits(ranked, bought), np.maximum(count, 1), DEPTH)
        return np.where(count > 0, figures, np.nan)


class TrueOrders:
    """Gain by the probabilities that a simulated log was drawn from.

    Args:
        truth: of the log that the searches come from.
    """

    note = f"{ORDERS_METRIC}: NDCG with the true P(click and order | seen) of every item on sale as its gain."

    def __init__(self, truth: "Truth") -> None:
        self._truth = truth
        self._items = np.arange(truth.marketplace.num_items)
        self._best: dict[str, Values] = {}  # [10] a search: the ideal is the same for every system

    def judge(self, ranked: Items, searches: Sequence[SearchContext]) -> Values:
        """See `Orders`; every search is judged."""
        names = ids_of(searches)
        best = np.array([self._ideal(name) for name in names])
        gains = [self._truth.orders(name, row) for name, row in zip(names, ranked.clip(min=0), strict=True)]
        return gain_ndcg(np.where(ranked != PADDING, np.array(gains), 0.0), best, DEPTH)

    def _ideal(self, search_id: str) -> Values:
        if search_id not in self._best:
            self._best[search_id] = np.sort(self._truth.orders(search_id, self._items))[::-1][:DEPTH].copy()
        return self._best[search_id]


def orders_of(log: "Log") -> Orders | None:
    """What judges lists by orders: the truth behind a simulated log, else its logged orders, where there are any."""
    if log.manifest.config.get("settings") and log.manifest.config["source"] == "Simulator":
        from onesearch.simulate.truth import Truth  # plays the marketplace

        try:
            return TrueOrders(Truth.open(log))
        except UserError as error:  # a log that this version would not draw again can still be compared
            Console(stderr=True, soft_wrap=True).print(
                f"{error} Lists are judged by the log's own orders.", style="yellow"
            )
    return LoggedOrders() if log.contexts("test").num_purchases.any() else None
