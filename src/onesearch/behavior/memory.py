"""What the log remembers of clicks, asked as of a day: those for a query, for queries like it, and overall.

    own(i | q, day)      = n_clk(q, i)
    similar(i | q, day)  = Σ_j w_j · n_clk(q_j, i)/n_clk(q_j),   w_j = exp((cos(q, q_j) − 1)/τ)
    trending(i | day)    = n_clk(i) of the last two weeks, whatever the query

over the known queries q_j ≠ q nearest to q. All counts end with the day before; a served model's end where its log
ends. The paper shows cold users the query's own most clicked items. A query without clicks has none: its neighbours',
and what everybody looks at these days, are ours.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NOTHING_HIDDEN = 2.0
"""A cosine that no query reaches."""

TRENDING_DAYS = 14

LONGEST_TREND = 100
"""Trending items kept for a day."""

MOST_REMEMBERED = 200_000
"""Answers kept for queries like one: some tens of megabytes."""


class QueryCounts(Protocol):
    """Exposures, clicks and orders of (query, item); `log.counts.PairCounts` is one."""

    def lookup(self, queries: Sequence[str], items: NDArray[np.int64], days: NDArray[np.int64]) -> NDArray[np.int64]:
        """Counts [n, 3] of queries [n] and item rows [n] before days [n]."""

    def first_day(self, query: str) -> int:
        """The day on which the query was first shown an answer."""


class CountsOfItems(Protocol):
    """Exposures, clicks and orders of items; `log.counts.ItemCounts` is one."""

    end: int
    """The day after the last one that is counted."""

    def lookup(self, items: NDArray[np.int64], days: NDArray[np.int64]) -> NDArray[np.int64]:
        """Counts [n, 3] of item rows [n] before days [n]."""


class ClickMemory:
    """Clicked items by query, by meaning of the query, and overall.

    Args:
        items: known query → item rows ever clicked for it.
        embed: query → unit vector [D].
        pair_counts: as-of counts of (query, item).
        item_counts: as-of counts of items.
        num_items: N.
        num_neighbors: how many known queries answer for a query like them.
        min_cosine: a query farther away is no neighbour.
        temperature: τ, how fast a neighbour's say falls with distance.
    """

    def __init__(
        self,
        items: Mapping[str, Sequence[int]],
        embed: Callable[[str], Tensor],
        pair_counts: QueryCounts,
        item_counts: CountsOfItems,
        num_items: int,
        num_neighbors: int = 10,
        min_cosine: float = 0.5,
        temperature: float = 0.05,
    ) -> None:
        self.items = items
        self.embed = embed
        self.pair_counts = pair_counts
        self.item_counts = item_counts
        self.num_items = num_items
        self.num_neighbors = num_neighbors
        self.min_cosine = min_cosine
        self.temperature = temperature
        self._queries = list(items)
        self._row_of = {query: row for row, query in enumerate(self._queries)}
        self._embeddings = torch.stack([embed(query) for query in items]) if items else torch.empty(0, 1)
        self._first_days = torch.tensor([pair_counts.first_day(query) for query in items])
        self._similar: dict[tuple[str, int, float], tuple[int, ...]] = {}
        self._trending: dict[int, tuple[int, ...]] = {}

    def own(self, query: str, day: int, k: int) -> tuple[int, ...]:
        """At most `k` item rows most clicked for this very query before `day`, best first."""
        return self._ranked({query: 1.0}, day)[:k] if query in self._row_of else ()

    def similar(self, query: str, day: int, k: int, hidden_from: float = NOTHING_HIDDEN) -> tuple[int, ...]:
        """At most `k` item rows most clicked for the nearest known queries before `day`, best first.

        Args:
            query: the query; its own record does not count.
            day: of the search.
            k: length of the answer.
            hidden_from: known queries of this cosine or more are taken as unknown, so that a model which trains on
                known queries also meets what a truly new one finds: no wording close to it.
        """
        asked = (query, min(day, self.item_counts.end), hidden_from)
        if asked not in self._similar:
            if len(self._similar) >= MOST_REMEMBERED:
                self._similar.clear()
            self._similar[asked] = self._rank_similar(*asked)
        return self._similar[asked][:k]

    def trending(self, day: int, k: int) -> tuple[int, ...]:
        """At most `k` item rows most clicked in the last `TRENDING_DAYS` that are known on `day`, best first."""
        day = min(day, self.item_counts.end)
        if day not in self._trending:
            self._trending[day] = self._rank_trending(day)
        return self._trending[day][:k]

    def _rank_similar(self, query: str, day: int, hidden_from: float) -> tuple[int, ...]:
        if not self._queries:
            return ()
        cosine = self._embeddings @ self.embed(query)
        # A query that nobody had asked yet must not take the place of one that was known.
        hidden = (cosine >= hidden_from) | (self._first_days >= day)
        if query in self._row_of:
            hidden[self._row_of[query]] = True
        nearest = cosine.masked_fill(hidden, -torch.inf).topk(min(self.num_neighbors, len(self._queries)))
        weights = {
            self._queries[row]: float(np.exp((near - 1) / self.temperature))
            for row, near in zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True)
            if near >= self.min_cosine
        }
        return self._ranked(weights, day)

    def _rank_trending(self, day: int) -> tuple[int, ...]:
        items = np.arange(self.num_items)
        now, then = (self.item_counts.lookup(items, np.full(self.num_items, d)) for d in (day, day - TRENDING_DAYS))
        clicks = now[:, 1] - then[:, 1]
        best = np.argsort(-clicks, kind="stable")[:LONGEST_TREND]
        return tuple(best[clicks[best] > 0].tolist())

    def _ranked(self, weights: Mapping[str, float], day: int) -> tuple[int, ...]:
        """Items clicked for weighted queries, by the weighted share of each query's clicks."""
        pairs = [(query, item) for query in weights for item in self.items[query]]
        if not pairs:
            return ()
        queries, items = zip(*pairs, strict=True)
        clicks = self.pair_counts.lookup(queries, np.array(items), np.full(len(pairs), day))[:, 1].tolist()
        total: dict[str, int] = {}
        for query, count in zip(queries, clicks, strict=True):
            total[query] = total.get(query, 0) + count
        score: dict[int, float] = {}
        for query, item, count in zip(queries, items, clicks, strict=True):
            if count:
                score[item] = score.get(item, 0.0) + weights[query] * count / total[query]
        return tuple(sorted(score, key=lambda item: (-score[item], item)))
