"""What the reward model reads of searches and candidates: one builder for training, re-ranking in DPO and serving.

Statistics of a candidate, from counts n of the item and of (query, item) as of the day before:
    log(1 + n_pos), log(1 + n_clk), log(1 + n_ord), (n_clk + 1)/(n_pos + 10), (n_ord + 1)/(n_clk + 10)

Building has two steps: `rows` holds integers only, so that a whole log fits in memory and is built once; `gather` looks
the frozen embeddings up for one batch.

Shapes: B searches, X candidates of a search, M short history, T long history, D embedding width, C codes of a SID,
P profile words, S statistics.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesearch.behavior.cold import with_default
from onesearch.behavior.memory import QueryCounts
from onesearch.behavior.user_id import user_id
from onesearch.behavior.window import Window, window
from onesearch.types import SearchContext

NUM_STATISTICS = 10
NUM_PROFILE_WORDS = 4
NUM_PROFILE_BUCKETS = 1024
NUM_TIME_GAPS = 14
"""Buckets ⌊log2(1 + days)⌋ = 0 … 12, and one for behaviours without a day (cold-start defaults)."""

_NO_DAY = NUM_TIME_GAPS - 1


class Catalogue(NamedTuple):
    """The frozen view of the items."""

    embeddings: Tensor  # [N, D] float32, fused and L2-normalised
    codes: Tensor  # [N, C] int64
    categories: Tensor  # [N] int64, number of the leaf category, −1 unknown


class Counts(Protocol):
    """Exposures, clicks and orders of items as of days; `log.counts.ItemCounts` is one."""

    def lookup(self, items: NDArray[np.int64], days: NDArray[np.int64]) -> NDArray[np.int64]:
        """Counts [n, 3] of item rows [n] before days [n]."""


class RewardRows(NamedTuple):
    """Integers that describe B searches with X candidates each; item rows, −1 on padding."""

    user_codes: Tensor  # [B, 2·C] int64, blended codes, −1 where the shopper has no history
    profile: Tensor  # [B, P] int64, hashed words, 0 on padding
    short: Tensor  # [B, M] int64
    long: Tensor  # [B, T] int64
    long_gap: Tensor  # [B, T] int64, time-gap bucket, 0 on padding
    candidates: Tensor  # [B, X] int64
    statistics: Tensor  # [B, X, S] float32

    def take(self, index: Tensor) -> "RewardRows":
        """The searches at `index`, their long history cut to the longest among them."""
        return RewardRows(*(tensor[index] for tensor in self)).trim()

    def trim(self) -> "RewardRows":
        """The same with the long history cut to the longest of these searches, but never to nothing."""
        longest = max(1, int((self.long >= 0).any(0).sum()))
        return self._replace(long=self.long[:, :longest], long_gap=self.long_gap[:, :longest])


class RewardInput(NamedTuple):
    """What the reward model reads: the search once, its candidates beside it."""

    query: Tensor  # [B, D]
    user_codes: Tensor  # [B, 2·C] int64, −1: none
    profile: Tensor  # [B, P] int64
    short: Tensor  # [B, M, D]
    short_mask: Tensor  # [B, M] bool
    long: Tensor  # [B, T, D]
    long_mask: Tensor  # [B, T] bool
    long_category: Tensor  # [B, T] int64, −1 on padding
    long_gap: Tensor  # [B, T] int64
    item: Tensor  # [B, X, D]
    item_codes: Tensor  # [B, X, C] int64
    item_category: Tensor  # [B, X] int64
    statistics: Tensor  # [B, X, S]
    mask: Tensor  # [B, X] bool, true on candidates that exist


class RewardFeatures:
    """Builds the inputs of the reward model.

    Args:
        catalogue: frozen embeddings, codes and categories of all items.
        item_counts: as-of counts of items.
        query_counts: as-of counts of (query, item).
        short_size: M, latest clicks of the short history.
        long_size: T, latest clicks of the long history.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        item_counts: Counts,
        query_counts: QueryCounts,
        short_size: int = 5,
        long_size: int = 200,
    ) -> None:
        self.catalogue = catalogue
        self.item_counts = item_counts
        self.query_counts = query_counts
        self.short_size = short_size
        self.long_size = long_size

    def __call__(
        self, contexts: Sequence[SearchContext], candidates: Sequence[Sequence[int]], queries: Tensor
    ) -> RewardInput:
        """Inputs of searches and their candidates.

        Args:
            contexts: B searches.
            candidates: item rows of each search, lists of any lengths; the result is padded to the longest.
            queries: embeddings of the searches' queries in the space of the catalogue, [B, D].
        """
        return self.gather(self.rows(contexts, candidates).trim(), queries)

    def rows(self, contexts: Sequence[SearchContext], candidates: Sequence[Sequence[int]]) -> RewardRows:
        """The integers of searches and candidates; see `__call__`."""
        short = window(
            [with_default(c.recent_clicks, c.cold_start, self.short_size) for c in contexts], self.short_size
        )
        long = window([with_default(c.long_clicks, c.cold_start, self.long_size) for c in contexts], self.long_size)
        shown = window(candidates, max(map(len, candidates), default=0)).values
        return RewardRows(
            user_codes=torch.from_numpy(self._user_codes(short, long)),
            profile=torch.from_numpy(profile_words([c.profile for c in contexts])),
            short=torch.from_numpy(short.values),
            long=torch.from_numpy(long.values),
            long_gap=torch.from_numpy(_time_gaps(contexts, long)),
            candidates=torch.from_numpy(shown),
            statistics=torch.from_numpy(self._statistics(contexts, shown)),
        )

    def gather(self, rows: RewardRows, queries: Tensor) -> RewardInput:
        """Look the frozen embeddings of `rows` up; `queries` [B, D] are those of its searches."""
        embeddings, codes, categories = self.catalogue
        long_mask = rows.long >= 0
        return RewardInput(
            query=queries,
            user_codes=rows.user_codes,
            profile=rows.profile,
            short=embeddings[rows.short.clamp(min=0)],
            short_mask=rows.short >= 0,
            long=embeddings[rows.long.clamp(min=0)],
            long_mask=long_mask,
            long_category=categories[rows.long.clamp(min=0)].masked_fill(~long_mask, -1),
            long_gap=rows.long_gap,
            item=embeddings[rows.candidates.clamp(min=0)],
            item_codes=codes[rows.candidates.clamp(min=0)],
            item_category=categories[rows.candidates.clamp(min=0)],
            statistics=rows.statistics,
            mask=rows.candidates >= 0,
        )

    def _user_codes(self, short: Window, long: Window) -> NDArray[np.int64]:
        # In chunks: [searches, T, C] of a whole log would be the largest array of the program.
        codes = self.catalogue.codes.numpy()
        parts = [
            user_id(codes[short.values[at]], short.lengths[at], codes[long.values[at]], long.lengths[at])
            for at in (slice(start, start + 1024) for start in range(0, len(short.values), 1024))
        ]
        return np.concatenate(parts) if parts else np.zeros((0, 2 * codes.shape[1]), np.int64)

    def _statistics(self, contexts: Sequence[SearchContext], candidates: NDArray[np.int64]) -> NDArray[np.float32]:
        width = candidates.shape[1]
        items = candidates.ravel()
        days = np.repeat(np.fromiter((c.day for c in contexts), np.int64, len(contexts)), width)
        queries = [c.query for c in contexts for _ in range(width)]
        of_item = _ratios(self.item_counts.lookup(items, days))
        of_pair = _ratios(self.query_counts.lookup(queries, items, days))
        return np.concatenate([of_item, of_pair], axis=1).reshape(*candidates.shape, NUM_STATISTICS)


def number_categories(paths: Sequence[Sequence[str] | None]) -> Tensor:
    """A number for each item's category, [N] int64; −1 where none is recorded. Whole paths: leaf names repeat."""
    numbers: dict[tuple[str, ...], int] = {}
    return torch.tensor([numbers.setdefault(tuple(path), len(numbers)) if path else -1 for path in paths])


def profile_words(profiles: Sequence[str]) -> NDArray[np.int64]:
    """Words of each profile hashed to 1 … NUM_PROFILE_BUCKETS − 1, [B, P]; the same on every machine."""
    hashed = [
        [1 + zlib.crc32(word.encode()) % (NUM_PROFILE_BUCKETS - 1) for word in profile.split()] for profile in profiles
    ]
    return window(hashed, NUM_PROFILE_WORDS).values.clip(min=0)


def _time_gaps(contexts: Sequence[SearchContext], long: Window) -> NDArray[np.int64]:
    """⌊log2(1 + days between behaviour and search)⌋ of each long behaviour, [B, T]."""
    days = window([c.long_click_days for c in contexts], long.values.shape[1])
    now = np.fromiter((c.day for c in contexts), np.int64, len(contexts))[:, None]
    gaps = np.log2(1 + (now - days.values).clip(min=0)).astype(np.int64).clip(max=_NO_DAY - 1)
    dated = np.arange(long.values.shape[1]) < days.lengths[:, None]
    gaps = np.where(dated, gaps, _NO_DAY)
    return np.where(long.values >= 0, gaps, 0)


def _ratios(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Log counts and smoothed ratios, [n, 3] → [n, 5]."""
    n_pos, n_clk, n_ord = counts.T
    return np.stack(
        [*np.log1p(counts).T, (n_clk + 1) / (n_pos + 10), (n_ord + 1) / (n_clk + 10)], axis=1, dtype=np.float32
    )
