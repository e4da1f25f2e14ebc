"""Dense retrieval: the items whose embedding has the largest cosine with the query's (library: faiss, exact search)."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from onesearch.types import SearchContext

Vectors = NDArray[np.float32]


class Dense:
    """A two-tower search without any SID: what the aligned encoder can do alone.

    Args:
        items: [N, D] embedding of each item row.
        encode: turns [B] query texts into [B, D] embeddings of the same encoder.
        name: how tables call it.
    """

    def __init__(self, items: Vectors, encode: Callable[[Sequence[str]], Vectors], name: str = "dense") -> None:
        import faiss  # an extra: its CPU and GPU builds exclude each other

        self.name = name
        self._encode = encode
        self._index = faiss.IndexFlatIP(items.shape[1])
        self._index.add(_unit(items))

    def rank(self, contexts: Sequence[SearchContext], k: int) -> list[list[int]]:
        """The `k` nearest items for each of [S] queries; equal queries are encoded once."""
        place = {query: number for number, query in enumerate(dict.fromkeys(search.query for search in contexts))}
        if not place:
            return []
        embeddings = _unit(self._encode(list(place)))
        _, nearest = self._index.search(embeddings, min(k, self._index.ntotal))
        return [nearest[place[search.query]].tolist() for search in contexts]


def _unit(vectors: Vectors) -> Vectors:
    """Rows of length 1; a zero row stays zero and so ties with everything."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    return unit
