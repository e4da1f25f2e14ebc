"""What the reward model reads of searches and candidates: one builder for training, re-ranking in DPO and serving.

Statistics of a candidate, all known before the search:
    counts      log(1 + n_pos), log(1 + n_clk), log(1 + n_ord), (n_clk + 1)/(n_pos + 10), (n_ord + 1)/(n_clk + 10)
                of the item, of (query, item), and of the item in the last two weeks, until the day before
    words       what the query, and those just before it, say of the item (`reward_query`)
    answers     what is most clicked for the query (`reward_history`)
    price       log price beside the median of the category
    shopper     how much and how readily they click (`reward_query`); whether they have ordered this very item
and what the shopper's past says of it, counted over the whole history and over its latest clicks (`reward_history`).

Building has two steps: `rows` holds integers and counts only, so that those of a whole log fit in memory and are built
once; `gather` looks the frozen embeddings up for one batch.

Shapes: B searches, X candidates of a search, M short history, T long history, D embedding width, C codes of a SID,
P profile words, S statistics, F matches of the history.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesearch.behavior.cold import with_default
from onesearch.behavior.memory import TRENDING_DAYS, QueryCounts
from onesearch.behavior.user_id import user_id
from onesearch.behavior.window import PADDING, Window, window
from onesearch.models.reward_history import NUM_ANSWERS, NUM_MATCHES, NUM_WINDOWS, match_answers, match_history
from onesearch.models.reward_items import ItemFacts
from onesearch.models.reward_query import NUM_SHOPPER, NUM_WORD_MATCHES, describe_shopper, match_words
from onesearch.types import SearchContext

NUM_COUNTS = 15
NUM_STATISTICS = NUM_COUNTS + NUM_WORD_MATCHES + NUM_ANSWERS + 1 + NUM_SHOPPER + 1
NUM_POSITIONS = 51
"""Places on a page that are told apart; 0 is an unknown one, the last holds all beyond."""
NUM_PROFILE_WORDS = 4
NUM_PROFILE_BUCKETS = 1024
LATEST = 20
"""Clicks that a model without a search unit reads."""
NUM_TIME_GAPS = 14
"""Buckets ⌊log2(1 + days)⌋ = 0 … 12, and one for behaviours without a day (cold-start defaults)."""

_NO_DAY = NUM_TIME_GAPS - 1


class Catalogue(NamedTuple):
    """The frozen view of the items."""

    embeddings: Tensor  # [N, D] float32, fused and L2-normalised
    codes: Tensor  # [N, C] int64
    categories: Tensor  # [N] int64, number of the leaf category, −1 unknown
    facts: ItemFacts

    @classmethod
    def of(cls, items: Mapping[str, Sequence[Any]], embeddings: Tensor, codes: Tensor) -> "Catalogue":
        """The catalogue of a log.

        Args:
            items: the canonical items table as columns by name (`Log.items.to_pydict()`), each [N].
            embeddings: fused and L2-normalised, [N, D].
            codes: [N, C].
        """
        return cls(embeddings, codes, number_categories(items["category"]), ItemFacts.of(items))


class Counts(Protocol):
    """Exposures, clicks and orders of items as of days; `log.counts.ItemCounts` is one."""

    end: int
    """The day after the last one that is counted."""

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
    matches: Tensor  # [B, X, 2, F] float32, of the whole history and of the latest clicks

    def take(self, index: Tensor) -> "RewardRows":
        """The searches at `index`, their long history cut to the longest among them."""
        return RewardRows(*(tensor[index] for tensor in self)).trim()

    def choose(self, places: Tensor) -> "RewardRows":
        """Some candidates of each search: `places` [B, X'] in its list, −1 for none."""
        at = torch.arange(len(places))[:, None], places.clamp(min=0)
        candidates = self.candidates[at].masked_fill(places < 0, PADDING)
        return self._replace(candidates=candidates, statistics=self.statistics[at], matches=self.matches[at])

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
    item_values: Tensor  # [B, X, A] int64, a bucket for each attribute's value, 0: none
    position: Tensor  # [B, X] int64, place on the page, from 1; 0: not known, as it is before anything is shown
    statistics: Tensor  # [B, X, S]
    matches: Tensor  # [B, X, 2, F]
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
        self.values = torch.from_numpy(catalogue.facts.hashed)

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
            matches=torch.from_numpy(self._matches(contexts, shown)),
        )

    def gather(self, rows: RewardRows, queries: Tensor) -> RewardInput:
        """Look the frozen embeddings of `rows` up; `queries` [B, D] are those of its searches."""
        embeddings, codes, categories, _ = self.catalogue
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
            item_values=self.values[rows.candidates.clamp(min=0)],
            position=torch.zeros_like(rows.candidates),
            item_category=categories[rows.candidates.clamp(min=0)],
            statistics=rows.statistics,
            matches=rows.matches,
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
        days = days.clip(max=self.item_counts.end)  # "lately" is the last that is counted, however long ago
        queries = [c.query for c in contexts for _ in range(width)]
        counts = self.item_counts.lookup(items, days)
        lately = counts - self.item_counts.lookup(items, days - TRENDING_DAYS)
        of_pair = self.query_counts.lookup(queries, items, days)
        counted = np.concatenate([_ratios(counts), _ratios(of_pair), _ratios(lately)], axis=1)
        of_search = [self._of_search(*pair) for pair in zip(contexts, candidates, strict=True)]
        measured = np.stack(of_search) if of_search else np.zeros((0, width, NUM_STATISTICS - NUM_COUNTS), np.float32)
        return np.concatenate([counted.reshape(*candidates.shape, -1), measured], axis=2, dtype=np.float32)

    def _of_search(self, context: SearchContext, candidates: NDArray[np.int64]) -> NDArray[np.float32]:
        """Words, answers, price, shopper, ordered: [X, S − 15], as above, 0 on padding."""
        facts, shown = self.catalogue.facts, candidates[candidates >= 0]
        measured = np.zeros((len(candidates), NUM_STATISTICS - NUM_COUNTS), np.float32)
        part = measured[: len(shown)]  # padding stands behind
        part[:] = np.concatenate(
            [
                match_words(facts, context, shown.tolist()),
                match_answers(facts, context, shown),
                facts.prices[shown, None],
                np.tile(describe_shopper(context), (len(shown), 1)),
                np.isin(shown, np.array(context.long_orders, np.int64))[:, None],
            ],
            axis=1,
        )
        return measured

    def _matches(self, contexts: Sequence[SearchContext], candidates: NDArray[np.int64]) -> NDArray[np.float32]:
        matches = np.zeros((*candidates.shape, NUM_WINDOWS, NUM_MATCHES), np.float32)
        for row, context, shown in zip(matches, contexts, candidates, strict=True):
            kept = shown[shown >= 0]
            row[: len(kept)] = match_history(self.catalogue.facts, context, kept, self.long_size, LATEST)
        return matches


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
