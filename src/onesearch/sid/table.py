"""Items and their SIDs: which items share a SID, in which order, and how a ranked list of SIDs becomes a list of items.

Collisions are kept: a SID stands for a *bucket* of items, ordered by a priority that the caller computes (see
`sid.priority`). The first `per_bucket` of each are shown in beam order, duplicates dropped, cut at k (PRQ-KMeans).
Where only some items may be shown, these may lie behind few SIDs: a list that is not full yet takes more of a bucket.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
"""Codes of SIDs, [.., C] int64."""


class Collisions(NamedTuple):
    """How items share SIDs."""

    num_items: int
    num_sids: int  # distinct
    num_alone: int  # items that are the only one of their SID
    largest_bucket: int


class SidTable:
    """Item rows → SIDs, and SIDs → buckets of item rows.

    Args:
        codes: [N, C] the SID of each item row.
        priority: [N] a higher value comes first in its bucket; equal values keep the order of the rows.

    Raises:
        ValueError: codes and priority do not fit together, or the codes are too large for a 63-bit key.
    """

    def __init__(self, codes: NDArray[np.integer], priority: NDArray[np.floating]) -> None:
        if codes.ndim != 2 or codes.size == 0 or priority.shape != codes.shape[:1]:
            raise ValueError(f"codes {codes.shape} and priority {priority.shape} must be [N, C] and [N] with N, C > 0.")
        if codes.min() < 0 or np.isnan(priority).any():
            raise ValueError("codes must not be negative and priority must not be NaN.")
        self.codes: Codes = np.asarray(codes, dtype=np.int64)
        self._radices = tuple(int(largest) + 1 for largest in self.codes.max(axis=0))
        if np.prod([float(radix) for radix in self._radices]) >= 2.0**63:
            raise ValueError(f"codes up to {self._radices} are too many for one 63-bit key: use smaller layers.")
        keys = self._keys(self.codes)
        self._bucket_items: Codes = np.lexsort((-np.asarray(priority, np.float64), keys))  # rows, bucket by bucket
        self._sid_keys, starts = np.unique(keys[self._bucket_items], return_index=True)
        self._bounds: Codes = np.append(starts, len(codes))

    @property
    def sids(self) -> Codes:
        """[S, C] the distinct SIDs in lexicographic order: the same rows as the leaves of a `Trie` of these codes."""
        return self.codes[self._bucket_items[self._bounds[:-1]]]

    def sid_rows(self, sids: NDArray[np.integer]) -> Codes:
        """[K] the row in `sids` of each of [K, C] SIDs; -1 where no item has it."""
        wanted = np.asarray(sids, dtype=np.int64)
        known = np.all((wanted >= 0) & (wanted < np.array(self._radices)), axis=1)
        keys = self._keys(np.where(known[:, None], wanted, 0))
        rows = np.searchsorted(self._sid_keys, keys)
        found = known & (self._sid_keys[np.minimum(rows, len(self._sid_keys) - 1)] == keys)
        return np.where(found, rows, -1)

    def bucket(self, sid_row: int) -> Codes:
        """Item rows of one SID, best priority first."""
        return self._bucket_items[self._bounds[sid_row] : self._bounds[sid_row + 1]]

    def expand(
        self, ranked: NDArray[np.integer], k: int, per_bucket: int = 5, shown: NDArray[np.bool_] | None = None
    ) -> Codes:
        """Turn ranked SIDs into ranked items.

        Args:
            ranked: [K, C] SIDs, best first; those that no item has are passed over.
            k: the length of the answer.
            per_bucket: how many items of one SID are shown.
            shown: [N] which items may be; all when not given. With it a list that is shorter than `k` is filled up
                with the rest of the buckets, the best SID's first; an item of the rest stands beside its SID's others.

        Returns:
            At most k item rows, none twice.
        """
        rows = [row for row in dict.fromkeys(self.sid_rows(ranked).tolist()) if row >= 0]
        buckets = [self.bucket(row) for row in rows]  # an item has one SID: no duplicate across buckets
        if shown is not None:
            buckets = [bucket[shown[bucket]] for bucket in buckets]
        sizes = np.array([len(bucket) for bucket in buckets], np.int64)
        shares = np.minimum(sizes, per_bucket)
        if shown is not None:
            rest = sizes - shares
            left = k - shares.sum() - (rest.cumsum() - rest)  # for each rest: what those before it leave free
            shares += np.clip(left, 0, rest)
        parts = [bucket[:share] for bucket, share in zip(buckets, shares.tolist(), strict=True)]
        return np.concatenate(parts)[:k] if parts else np.empty(0, np.int64)

    def collisions(self) -> Collisions:
        """Count shared SIDs."""
        sizes = np.diff(self._bounds)
        return Collisions(len(self.codes), len(sizes), int((sizes == 1).sum()), int(sizes.max()))

    def _keys(self, codes: Codes) -> Codes:
        """One number per SID, in the lexicographic order of the SIDs."""
        keys = np.zeros(len(codes), dtype=np.int64)
        for layer, radix in enumerate(self._radices):
            keys = keys * radix + codes[:, layer]
        return keys


def read_codes(path: Path, sizes: tuple[int, ...], key: str = "item_id") -> tuple[list[str], Codes]:
    """Read `items.parquet` or `queries.parquet` of a quantizer artefact.

    Args:
        path: a Parquet file with the columns `key` and `codes` (list of int).
        sizes: codes of each layer, to check against (`SidSpec.sizes`).
        key: the column that names the row, `item_id` or `query`.

    Returns:
        The names, and [N, C] codes.

    Raises:
        ValueError: a row has another number of codes, or a code outside its layer.
    """
    import pyarrow.parquet as pq  # only this function needs Parquet

    table = pq.read_table(path, columns=[key, "codes"])
    names: list[Any] = table[key].to_pylist()
    rows: list[Any] = table["codes"].to_pylist()
    for number, row in enumerate(rows):
        if len(row) != len(sizes) or any(not 0 <= code < size for code, size in zip(row, sizes, strict=True)):
            raise ValueError(f"{path}, row {number}: codes {row} are no SID of sizes {sizes}; run the quantizer again.")
    return names, np.array(rows, dtype=np.int64).reshape(len(rows), len(sizes))
