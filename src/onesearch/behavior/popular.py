"""Popular items for a query that nobody has clicked for yet: those of its nearest known queries.

    score(item | q, day) = Σ_j w_j · n_clk(q_j, item)/n_clk(q_j),   w_j = exp((cos(q, q_j) − 1)/τ)

over the nearest known queries q_j, with counts as of the end of the day before. The paper takes the query's own most
clicked items as default sequences of cold users; a query without clicks has none, and its neighbours' are ours.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

NOTHING_HIDDEN = 2.0
"""A cosine that no query reaches."""


class QueryCounts(Protocol):
    """Exposures, clicks and orders of (query, item); `log.counts.PairCounts` is one."""

    def lookup(self, queries: Sequence[str], items: NDArray[np.int64], days: NDArray[np.int64]) -> NDArray[np.int64]:
        """Counts [n, 3] of queries [n] and item rows [n] before days [n]."""


class NearestQueries:
    """The log's memory, searched by meaning.

    Args:
        queries: Q known queries.
        embeddings: their unit vectors, [Q, D].
        items: item rows ever clicked for each, Q sequences.
        counts: as-of counts of (query, item).
        num_neighbors: how many known queries answer.
        min_cosine: a query farther away is no neighbour.
        temperature: τ, how fast a neighbour's say falls with distance.
    """

    def __init__(
        self,
        queries: Sequence[str],
        embeddings: Tensor,
        items: Sequence[Sequence[int]],
        counts: QueryCounts,
        num_neighbors: int = 10,
        min_cosine: float = 0.5,
        temperature: float = 0.05,
    ) -> None:
        self.queries = queries
        self._row_of = {query: row for row, query in enumerate(queries)}
        self.embeddings = embeddings
        self.items = items
        self.counts = counts
        self.num_neighbors = num_neighbors
        self.min_cosine = min_cosine
        self.temperature = temperature

    def popular(
        self, embedding: Tensor, day: int, k: int, hidden_from: float = NOTHING_HIDDEN, query: str | None = None
    ) -> tuple[int, ...]:
        """At most `k` item rows for a query, best first.

        Args:
            embedding: unit vector of the query, [D].
            day: of the search; counts are those before it.
            k: length of the answer.
            hidden_from: known queries of this cosine or more are taken as unknown, so that a model which trains on
                known queries also meets what a truly new one finds: no wording close to it.
            query: its text; where it is known and nothing is hidden, its own items stand first.
        """
        cosine = self.embeddings @ embedding
        cosine = cosine.masked_fill(cosine >= hidden_from, float("-inf"))
        nearest = cosine.topk(min(self.num_neighbors, len(self.queries)))
        neighbors = [
            (row, weight)
            for row, weight in zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True)
            if weight >= self.min_cosine
        ]
        known = query in self._row_of and hidden_from >= NOTHING_HIDDEN
        own = self._ranked([(self._row_of[query], 1.0)], day) if query is not None and known else ()
        return tuple(dict.fromkeys([*own, *self._ranked(neighbors, day)]))[:k]

    def _ranked(self, neighbors: Sequence[tuple[int, float]], day: int) -> tuple[int, ...]:
        pairs = [(row, item) for row, _ in neighbors for item in self.items[row]]
        if not pairs:
            return ()
        items = np.array([item for _, item in pairs])
        days = np.full(len(pairs), day)
        clicks = self.counts.lookup([self.queries[row] for row, _ in pairs], items, days)[:, 1]
        total: dict[int, int] = {}
        for (row, _), count in zip(pairs, clicks.tolist(), strict=True):
            total[row] = total.get(row, 0) + count
        weight = {row: float(np.exp((cosine - 1) / self.temperature)) for row, cosine in neighbors}
        score: dict[int, float] = {}
        for (row, item), count in zip(pairs, clicks.tolist(), strict=True):
            if count:
                score[item] = score.get(item, 0.0) + weight[row] * count / total[row]
        return tuple(sorted(score, key=lambda item: (-score[item], item)))
