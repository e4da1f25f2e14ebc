"""How near written SIDs come to the wanted ones: right prefixes by level, and SIDs that exist."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]


def prefix_matches(written: Codes, wanted: Sequence[Codes]) -> NDArray[np.bool_]:
    """Whether the first l codes of each answer are those of one of its wanted SIDs, for l = 1 … C.

    Args:
        written: [S, C] one SID for each search.
        wanted: [S] arrays [n, C], n ≥ 1.

    Returns:
        [S, C] bool; true at l only where it is true at all levels before.
    """
    found = [(codes == sids).cumprod(1).any(0) for codes, sids in zip(written, wanted, strict=True)]
    return np.array(found, dtype=np.bool_).reshape(written.shape)
