"""Windows over a behaviour sequence, and the sliding-window augmentation of stage 3.

A sequence s_1 … s_T runs from oldest to newest. A live search sees the latest m of it. Sliding shows the same shopper
some clicks ago: with t_j the time of the j-th click of the user, and the window ending n clicks back,

    slid(b) = behaviours b with time(b) ≤ t_{T−n}        queries, clicks and orders alike

The query and what it is answered by stay those of the present.

Shapes: B batch, M window.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from onesearch.types import SearchContext

PADDING = -1
"""Fills a padded window on the right; item rows and codes are never negative."""

Behavior = TypeVar("Behavior")


class Window(NamedTuple):
    """Sequences padded to one length."""

    values: NDArray[np.int64]  # [B, M], oldest to newest, then PADDING
    lengths: NDArray[np.int64]  # [B]


def latest(sequence: Sequence[Behavior], size: int) -> Sequence[Behavior]:
    """The last `size` behaviours; shorter where the sequence is, maybe empty."""
    return sequence[max(0, len(sequence) - size) :]


def window(sequences: Sequence[Sequence[int]], size: int) -> Window:
    """The last `size` behaviours of each sequence as one padded array.

    Args:
        sequences: B integer sequences of any lengths, oldest to newest.
        size: M, the width of the result.
    """
    kept = [latest(sequence, size) for sequence in sequences]
    lengths = np.fromiter(map(len, kept), dtype=np.int64, count=len(kept))
    values = np.full((len(kept), size), PADDING, dtype=np.int64)
    values[np.arange(size) < lengths[:, None]] = np.fromiter(
        (value for sequence in kept for value in sequence), dtype=np.int64, count=int(lengths.sum())
    )
    return Window(values, lengths)


def slide_back(context: SearchContext, shift: int) -> SearchContext:
    """The search with its shopper's behaviour as it was when the click happened that ends the window.

    Clicks of one search happen at one time and stay together, so fewer than `shift` clicks may be hidden.

    Args:
        context: the search, with the times of all behaviours.
        shift: how many clicks inside search before the latest one the window ends; beyond the first one: there.
    """
    times = context.recent_click_times
    if not shift or not times:
        return context
    end = times[max(0, len(times) - 1 - shift)]
    queries, recent, clicks, orders = (
        bisect_right(happened, end)
        for happened in (
            context.recent_query_times, times, context.long_click_times, context.long_order_times
        )
    )  # fmt: skip
    return context._replace(
        recent_queries=context.recent_queries[:queries],
        recent_query_times=context.recent_query_times[:queries],
        recent_clicks=context.recent_clicks[:recent],
        recent_click_times=times[:recent],
        long_clicks=context.long_clicks[:clicks],
        long_click_days=context.long_click_days[:clicks],
        long_click_times=context.long_click_times[:clicks],
        long_orders=context.long_orders[:orders],
        long_order_times=context.long_order_times[:orders],
    )
