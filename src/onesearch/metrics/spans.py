"""How well spans are found: precision, recall and F1 by exact match, as CoNLL counts them.

A found span is right when a true one has its very type, start and end.

    P = right / found,   R = right / true,   F1 = 2·P·R / (P + R) = 2·right / (found + true)

Micro averages are those of the counts, summed over types. 0/0 is 0.
Tjong Kim Sang and De Meulder, "Introduction to the CoNLL-2003 shared task", CoNLL 2003.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onesearch.types import ATTRIBUTE_TYPES, Span

Counts = NDArray[np.int64]


class SpanScores(NamedTuple):
    """Each from 0 to 1."""

    precision: float
    recall: float
    f1: float


def count_spans(found: Sequence[Sequence[Span]], true: Sequence[Sequence[Span]]) -> Counts:
    """Numbers of right, found and true spans of each type, [18, 3]; counts of batches add up.

    Args:
        found: the spans that were marked in each text.
        true: the spans that are to be marked in it.
    """
    counts = np.zeros((len(ATTRIBUTE_TYPES), 3), np.int64)
    for marked, meant in zip(map(set, found), map(set, true), strict=True):
        for column, spans in enumerate((marked & meant, marked, meant)):
            for span in spans:
                counts[ATTRIBUTE_TYPES.index(span.type), column] += 1
    return counts


def span_scores(counts: ArrayLike) -> SpanScores:
    """Precision, recall and F1 of the numbers of right, found and true spans, [3]."""
    right, found, true = np.asarray(counts, np.float64)
    return SpanScores(
        float(right / max(found, 1)), float(right / max(true, 1)), float(2 * right / max(found + true, 1))
    )
