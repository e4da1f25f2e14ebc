"""The rivals that need no training: popularity, lookup of past clicks, and the cascade of several.

They are fitted from the searches before the test boundary, the same that OneSearch learns from:

    popularity(i)  = clicks(i)
    lookup(i | q)  = clicks(i | q),  the more recently clicked item first on a tie
    cascade(q)     = lookup(q), then what BM25(q) adds, then what popularity adds

The cascade is what a shop without any model can run today, and on head queries it is hard to beat.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from onesearch.evaluate.bm25 import Bm25
from onesearch.evaluate.ranker import Ranker
from onesearch.types import SearchContext

if TYPE_CHECKING:
    from onesearch.log.prepared import Log


def baselines(log: "Log") -> list[Ranker]:
    """Popularity, lookup, BM25 and their cascade, fitted from everything before the test boundary of `log`."""
    history = log.contexts("train", "validation")
    clicked = np.array([item for search in history for item in search.clicked], dtype=np.int64)
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

    def __init__(self, history: Iterable[SearchContext]) -> None:
        self._ranking = _most_clicked(item for search in history for item in search.clicked)

    def rank(self, contexts: Sequence[SearchContext], k: int) -> list[list[int]]:
        """The `k` most clicked items for each of [S] searches."""
        return [self._ranking[:k] for _ in contexts]


class Lookup:
    """The items clicked most for exactly this (normalised) query; nothing for a query never seen.

    Args:
        history: searches before the test boundary, oldest first.
    """

    name = "lookup"

    def __init__(self, history: Iterable[SearchContext]) -> None:
        clicked: dict[str, list[int]] = defaultdict(list)
        for search in history:
            clicked[search.query].extend(search.clicked)
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


def _most_clicked(items: Iterable[int]) -> list[int]:
    """Distinct items by falling number of clicks; on a tie the one clicked last comes first."""
    newest_first = list(items)[::-1]
    return [item for item, _ in Counter(newest_first).most_common()]
