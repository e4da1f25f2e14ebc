"""How two groupings of the same items agree: codes with categories, codes of one fit with those of another.

    purity          = Σ_g max_k |g ∩ k| / N                       g the codes' groups, k the known classes
    pairs kept      = pairs together in both / pairs together in the first
    adjusted Rand   = (RI − E[RI]) / (1 − E[RI])                  Hubert and Arabie, 1985: 1 equal, 0 as by chance

Groups and classes are arrays of integers [N]; only which items share a number matters, never the number itself.
"""

from collections.abc import Sequence
from math import comb

import numpy as np
from numpy.typing import NDArray

Groups = NDArray[np.integer]


def groups(rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """[N] a number for each distinct row of [N, C] codes."""
    inverse = np.unique(rows, axis=0, return_inverse=True)[1]
    return np.asarray(inverse, np.int64).reshape(-1)


def numbers(names: Sequence[str]) -> NDArray[np.int64]:
    """[N] a number for each distinct name."""
    return np.unique(np.array(names, dtype=str), return_inverse=True)[1].astype(np.int64)


def purity(grouped: Groups, classes: Groups) -> float:
    """The share of items that are of the most frequent class of their group."""
    return float(_majorities(grouped, classes).sum() / len(grouped))


def purity_by_class(grouped: Groups, classes: Groups) -> NDArray[np.float64]:
    """[number of classes] the share of each class's items that lie in a group where it is the most frequent."""
    majority = np.zeros(int(grouped.max()) + 1, dtype=np.int64)
    cells, counts = np.unique(np.stack([grouped, classes]), axis=1, return_counts=True)
    order = np.argsort(counts, kind="stable")
    majority[cells[0, order]] = cells[1, order]  # the last written is the most frequent
    at_home = majority[grouped] == classes
    return np.bincount(classes, weights=at_home) / np.bincount(classes)


def pairs_kept(before: Groups, after: Groups) -> float:
    """Of the pairs of items that share a group before, the share that still does; 1 where no pair does."""
    together = _pairs(np.unique(before, return_counts=True)[1])
    return _pairs_in_both(before, after) / together if together else 1.0


def adjusted_rand(left: Groups, right: Groups) -> float:
    """Agreement of two groupings, corrected for chance; 1 where both are trivial."""
    alone = [_pairs(np.unique(side, return_counts=True)[1]) for side in (left, right)]
    expected = alone[0] * alone[1] / max(1, comb(len(left), 2))
    largest = sum(alone) / 2
    return 1.0 if largest == expected else (_pairs_in_both(left, right) - expected) / (largest - expected)


def _majorities(grouped: Groups, classes: Groups) -> NDArray[np.int64]:
    cells, counts = np.unique(np.stack([grouped, classes]), axis=1, return_counts=True)
    largest = np.zeros(int(grouped.max()) + 1, dtype=np.int64)
    np.maximum.at(largest, cells[0], counts)
    return largest


def _pairs_in_both(left: Groups, right: Groups) -> int:
    return _pairs(np.unique(np.stack([left, right]), axis=1, return_counts=True)[1])


def _pairs(sizes: NDArray[np.integer]) -> int:
    wide = sizes.astype(np.int64)
    return int((wide * (wide - 1) // 2).sum())
