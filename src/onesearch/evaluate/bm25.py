"""BM25 over item titles (library: bm25s), the keyword search that every shop has.

    score(q, i) = Σ_{t ∈ q} ln(1 + (N − n_t + ½) / (n_t + ½)) · f_ti / (f_ti + k1·(1 − b + b·|i| / avg|i|))

with f_ti the count of term t in the title of item i and n_t the number of titles that hold t (Robertson and Zaragoza,
"The probabilistic relevance framework: BM25 and beyond", 2009; the variant is Lucene's), k1 = 1.5 and b = 0.75.

Two choices make it a fair rival on shop queries. Terms end where letters meet digits, so that "mw3" finds "MW 3" and
"xbox360" finds "Xbox 360". Titles are short, so ties are frequent: they go to the item with more clicks.
"""

from collections.abc import Sequence
from typing import Any

import bm25s
import numpy as np
from numpy.typing import NDArray

from onesearch.keywords.terms import terms
from onesearch.types import SearchContext


class Bm25:
    """Items whose title shares terms with the query; nothing when none does.

    Args:
        titles: [N] title of each item row.
        clicks: [N] clicks of each item before the test boundary; they break ties.
    """

    name = "bm25"

    def __init__(self, titles: Sequence[str], clicks: NDArray[np.int64]) -> None:
        self._clicks = clicks
        self._index: Any = bm25s.BM25(method="lucene", k1=1.5, b=0.75)  # the library declares no types
        self._index.index([terms(title) for title in titles], show_progress=False)

    def rank(self, contexts: Sequence[SearchContext], k: int) -> list[list[int]]:
        """At most `k` items for each of [S] queries; equal queries are scored once."""
        rankings = {query: self._search(query, k) for query in {search.query for search in contexts}}
        return [rankings[search.query] for search in contexts]

    def _search(self, query: str, k: int) -> list[int]:
        known = [term for term in terms(query) if term in self._index.vocab_dict]
        if not known:
            return []
        scores = self._index.get_scores(known)
        k = min(k, len(scores))
        worst_of_best = np.partition(scores, -k)[-k]
        candidates = np.flatnonzero((scores >= worst_of_best) & (scores > 0))
        order = np.lexsort((-self._clicks[candidates], -scores[candidates]))
        best: list[int] = candidates[order[:k]].tolist()
        return best
