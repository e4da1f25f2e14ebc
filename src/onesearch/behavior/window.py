"""Windows over a behaviour sequence, and the sliding-window augmentation of stage 3.

A sequence s_1 … s_T runs from oldest to newest. The window of size m that ends `shift` behaviours before the present is
s_{T−shift−m+1} … s_{T−shift}: shift 0 is what a live search sees, larger ones the same shopper some behaviours ago.

Shapes: B batch, M window.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

PADDING = -1
"""Fills a padded window on the right; item rows and codes are never negative."""

Behavior = TypeVar("Behavior")


class Window(NamedTuple):
    """Sequences padded to one length."""

    values: NDArray[np.int64]  # [B, M], oldest to newest, then PADDING
    lengths: NDArray[np.int64]  # [B]


def slide(sequence: Sequence[Behavior], shift: int, size: int) -> Sequence[Behavior]:
    """The `size` behaviours that end `shift` before the present; shorter where the sequence begins, maybe empty."""
    end = max(0, len(sequence) - shift)
    return sequence[max(0, end - size) : end]


def window(sequences: Sequence[Sequence[int]], size: int, shift: int = 0) -> Window:
    """The last `size` behaviours of each sequence as one padded array.

    Args:
        sequences: B integer sequences of any lengths, oldest to newest.
        size: M, the width of the result.
        shift: how many behaviours before the present the window ends.
    """
    kept = [slide(sequence, shift, size) for sequence in sequences]
    lengths = np.fromiter(map(len, kept), dtype=np.int64, count=len(kept))
    values = np.full((len(kept), size), PADDING, dtype=np.int64)
    values[np.arange(size) < lengths[:, None]] = np.fromiter(
        (value for sequence in kept for value in sequence), dtype=np.int64, count=int(lengths.sum())
    )
    return Window(values, lengths)
