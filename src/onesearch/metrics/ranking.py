"""How good a list of items is for one search: hit rate, recall, mean reciprocal rank, NDCG with binary or any gain.

For a search with clicked items R (a set), a ranking i_1 … i_K of distinct items and hit_k = [i_k ∈ R]:

    HR@K   = max_{k ≤ K} hit_k                                  any clicked item is found
    R@K    = Σ_{k ≤ K} hit_k / |R|                              share of the clicked items that is found
    MRR@K  = 1 / min{k ≤ K : hit_k = 1}, 0 without a hit        how high the first one stands
    NDCG@K = Σ_{k ≤ K} hit_k / log2(k + 1)  /  Σ_{k ≤ min(K, |R|)} 1 / log2(k + 1)

With a gain g(i) ≥ 0 of each item, and g*_1 ≥ g*_2 ≥ … those of all items that could be shown:

    NDCG@K = Σ_{k ≤ K} g(i_k) / log2(k + 1)  /  Σ_{k ≤ K} g*_k / log2(k + 1)

Every function answers per search, so that a caller can average over any slice and resample searches for intervals.
Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002.

Shapes: S searches, K the length of the ranked lists.
"""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

PADDING = -1
"""Stands where a ranking is shorter than K; it is never a hit."""

Items = NDArray[np.int64]
Hits = NDArray[np.bool_]
Values = NDArray[np.float64]


def pad(rankings: Sequence[Sequence[int]], k: int) -> Items:
    """Item rows of every ranking, cut to `k` and filled up with `PADDING`.

    Args:
        rankings: [S] lists of distinct item rows, best first.
        k: length of the rows returned.

    Returns:
        [S, k] int64.

    Raises:
        ValueError: a ranking names an item twice or names a negative row.
    """
    rows = np.full((len(rankings), k), PADDING, dtype=np.int64)
    for row, ranking in zip(rows, rankings, strict=True):
        row[: len(ranking[:k])] = ranking[:k]
    _require_distinct_items(rows, [min(len(ranking), k) for ranking in rankings])
    return rows


def hits(ranked: Items, relevant: Sequence[Collection[int]]) -> Hits:
    """Which places of each ranking hold a relevant item.

    Args:
        ranked: [S, K] item rows, `PADDING` behind short rankings.
        relevant: [S] collections of item rows.

    Returns:
        [S, K] bool.

    Raises:
        ValueError: the two differ in length.
    """
    if len(ranked) != len(relevant):
        raise ValueError(f"{len(ranked)} rankings were given for {len(relevant)} searches: pass one for each search.")
    counts = [len(items) for items in relevant]
    wanted = np.fromiter((item for items in relevant for item in items), np.int64, sum(counts))
    # One number for each (search, item) pair makes S set look-ups a single sorted search.
    num_items = int(max(ranked.max(initial=PADDING), wanted.max(initial=PADDING))) + 1
    searches = np.arange(len(ranked))
    found = np.isin(searches[:, None] * num_items + ranked, np.repeat(searches, counts) * num_items + wanted)
    return np.asarray(found & (ranked != PADDING))


def hit_rate(hits: Hits, k: int) -> Values:
    """HR@k of each search: 1 when any of the first `k` places is a hit, else 0. Args: hits [S, K]; returns [S]."""
    return np.asarray(hits[:, :k].any(axis=1), dtype=np.float64)


def recall(hits: Hits, num_relevant: NDArray[np.int64], k: int) -> Values:
    """R@k of each search: the share of its relevant items among the first `k` places.

    Args:
        hits: [S, K] bool.
        num_relevant: [S] number of distinct relevant items of each search, at least 1.
        k: cut-off.

    Returns:
        [S] between 0 and 1.
    """
    return np.asarray(hits[:, :k].sum(axis=1) / num_relevant)


def reciprocal_rank(hits: Hits, k: int) -> Values:
    """MRR@k of each search: one over the place of the first hit, 0 without one. Args: hits [S, K]; returns [S]."""
    top = hits[:, :k]
    return np.asarray(top.any(axis=1) / (top.argmax(axis=1) + 1.0))


def ndcg(hits: Hits, num_relevant: NDArray[np.int64], k: int) -> Values:
    """NDCG@k of each search with binary gain.

    Args:
        hits: [S, K] bool.
        num_relevant: [S] number of distinct relevant items of each search, at least 1.
        k: cut-off; K may be shorter, the ideal list still counts `k` places.

    Returns:
        [S] between 0 and 1.
    """
    discounts = 1.0 / np.log2(np.arange(k) + 2.0)
    top = hits[:, :k]
    ideal = np.cumsum(discounts)[np.minimum(num_relevant, k) - 1]
    return np.asarray(top @ discounts[: top.shape[1]] / ideal)


def gain_ndcg(gains: Values, best: Values, k: int) -> Values:
    """NDCG@k of each search with gains of any size, taken as they are (not 2^g − 1).

    Args:
        gains: [S, K] of the items in each place, 0 behind short rankings; K may be shorter than `k`.
        best: [S, I] the largest gains of each search, falling, the first above 0; I may be shorter than `k` only where
            no more items could be shown.
        k: cut-off.

    Returns:
        [S] between 0 and 1.
    """
    discounts = 1.0 / np.log2(np.arange(k) + 2.0)
    found, ideal = (part[:, :k] @ discounts[: part[:, :k].shape[1]] for part in (gains, best))
    return np.asarray(found / ideal)


def _require_distinct_items(rows: Items, lengths: Sequence[int]) -> None:
    """An item shown twice would be counted twice and lift NDCG above 1; a negative row could pass for padding."""
    filled = np.arange(rows.shape[1]) < np.asarray(lengths, dtype=np.int64)[:, None]
    ordered = np.sort(rows, axis=1)
    repeated = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PADDING)).any(axis=1)
    wrong = np.flatnonzero(repeated | (filled & (rows < 0)).any(axis=1))
    if wrong.size:
        raise ValueError(f"Ranking {wrong[0]} repeats an item or names a negative row: {rows[wrong[0]].tolist()}.")
