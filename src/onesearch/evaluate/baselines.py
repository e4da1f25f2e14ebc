"""The rivals that need no training: popularity, lookup of past clicks, and the cascade of several.

They are fitted from the searches before the test boundary, the same that OneSearch learns from:

    popularity(i)  = clicks(i)
    lookup(i | q)  = clicks(i | q),  the more recently clicked item first on a tie
    cascade(q)     = lookup(q), then what BM25(q) adds, then what popularity adds

The cascade is what a shop without any model can run today, and on head queries it is hard to beat.
"""

from collections.abc import Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onesearch.evaluate.bm25 import Bm25
from onesearch.evaluate.ranker import Ranker
from onesearch.log.searches import items_by_query, items_of, pairs_of
from onesearch.types import SearchContext

if TYPE_CHECKING:
    from onesearch.log.prepared import Log


def baselines(log: "Log") -> list[Ranker]:
    """Popularity, lookup, BM25 and their cascade, fitted from everything before the test boundary of `log`."""
    history = log.contexts("train", "validation")
    clicked = items_of(pairs_of(history))
    titles = [title or "" for title in log.items.column("title").to_pylist()]
    popularity, lookup = Popularity(history), Lookup(history)
    bm25 = Bm25(titles, clicks=np.bincount(clicked, minlength=len(titles)))
    return [popularity, lookup, bm25, Cascade([lookup, bm25, popularity])]


class Popularity:
    """The items clicked most, the same for every search.

    Args:
        history: searches before the test boundary, oldest first.
    """

    name = "popularity"

    def __init__(self, history: Sequence[SearchContext]) -> None:
        self._ranking = _most_clicked(items_of(pairs_of(history)))

    def rank(self, contexts: Sequence[SearchContext], k: int) -> list[list[int]]:
        """The `k` most clicked items for each of [S] searches."""
        return [self._ranking[:k] for _ in contexts]


class Lookup:
    """The items clicked most for exactly this (normalised) query; nothing for a query never seen.

    Args:
        history: searches before the test boundary, oldest first.
    """

    name = "lookup"

    def __init__(self, history: Sequence[SearchContext]) -> None:
        clicked = items_by_query(pairs_of(history))
        self._rankings = {query: _most_clicked(items) for query, items in clicked.items()}

    def rank(self, contexts: Sequence[SearchContext], k: int) -> list[list[int]]:
        """At most `k` items clicked before for each of [S] queries."""
        return [self._rankings.get(search.query, [])[:k] for search in contexts]


class Cascade:
    """The answer of the first ranker, filled up from the next ones without repeating an item.

    Args:
        parts: rankers, the most trusted first.
    """

    name = "cascade"

    def __init__(self, parts: Sequence[Ranker]) -> None:
        self._parts = parts

    def rank(self, contexts: Sequence[SearchContext], k: int) -> list[list[int]]:
        """At most `k` distinct items for each of [S] searches."""
        answers = zip(*(part.rank(contexts, k) for part in self._parts), strict=True)
        return [list(islice(dict.fromkeys(chain(*lists)), k)) for lists in answers]


def _most_clicked(items: NDArray[np.integer]) -> list[int]:
    """Distinct items by falling number of clicks; on a tie the one clicked last comes first."""
    distinct, newest, clicks = np.unique(items[::-1], return_index=True, return_counts=True)
    ranked: list[int] = distinct[np.lexsort((newest, -clicks))].tolist()
    return ranked
