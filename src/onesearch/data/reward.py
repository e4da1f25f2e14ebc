"""Lists of candidates with what the shopper did, for the reward model.

Where the log records what was shown, a list is what the shopper saw. Where it does not, shown-not-clicked is unknown
and negatives are drawn: in equal parts the query's own most clicked items, items of the clicked one's category, and
popular items. Probabilities learned from drawn negatives rank, but are no click-through rates; the labels say which.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import lightning
import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader

from onesearch.artifacts import verify
from onesearch.behavior.window import PADDING, window
from onesearch.log.prepared import Log
from onesearch.log.searches import Searches, items_of, pairs_of
from onesearch.models.reward import RewardBatch, RewardLabels
from onesearch.models.reward_features import Catalogue, RewardFeatures, number_categories
from onesearch.sid.spec import SidSpec
from onesearch.sid.table import read_codes
from onesearch.types import SearchContext

Rows: TypeAlias = NDArray[np.int64]


class Examples(NamedTuple):
    """All searches of some splits that have candidates; a batch builds the features of its own."""

    searches: Searches  # [S]
    candidates: NDArray[np.int32]  # [S, X] item rows, −1 is padding
    queries: Tensor  # [S] int64, row of the query's embedding
    orders_known: bool


class RewardData(lightning.LightningDataModule):
    """Searches with their candidates.

    Args:
        run: the run folder; reads `run/log` and `run/quantizer`.
        batch_size: searches a step.
        num_candidates: most candidates of a search; clicked ones first, then in display order.
        num_drawn: negatives drawn for a search whose impressions are not recorded.
        short_size: latest clicks of the short history.
        long_size: latest clicks of the long history.
        fit_splits: the splits of the log to learn from.
        seed: of the drawn negatives.
    """

    def __init__(
        self,
        run: Path,
        batch_size: int = 128,
        num_candidates: int = 20,
        num_drawn: int = 9,
        short_size: int = 5,
        long_size: int = 200,
        fit_splits: tuple[str, ...] = ("train",),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.run = Path(run)
        self.batch_size = batch_size
        self.num_candidates = num_candidates
        self.num_drawn = num_drawn
        self.short_size = short_size
        self.long_size = long_size
        self.fit_splits = fit_splits
        self.seed = seed

    def setup(self, stage: str) -> None:
        """Choose the candidates."""
        verify(self.run / "quantizer", "quantizer", [self.run / "log"])
        log = Log.open(self.run / "log")
        catalogue = read_catalogue(self.run / "quantizer", log.items["category"].to_pylist())
        self.features = RewardFeatures(catalogue, log.item_counts, log.pair_counts, self.short_size, self.long_size)
        self.query_of, self.query_embeddings = _read_queries(self.run / "quantizer")
        fit = log.contexts(*self.fit_splits)
        drawer = NegativeDrawer(fit, catalogue.categories.numpy(), self.num_drawn, self.seed)
        orders_known = bool(fit.num_purchases.any())
        self.fit_examples = self._examples(fit, drawer, orders_known)
        self.validation_examples = self._examples(log.contexts("validation"), drawer, orders_known)

    def train_dataloader(self) -> DataLoader[RewardBatch]:
        """Shuffled batches."""
        return self._loader(self.fit_examples, shuffle=True)

    def val_dataloader(self) -> DataLoader[RewardBatch]:
        """The validation split in time order."""
        return self._loader(self.validation_examples, shuffle=False)

    def _examples(self, searches: Searches, drawer: "NegativeDrawer", orders_known: bool) -> Examples:
        candidates = np.full((len(searches), self.num_candidates), PADDING, np.int32)
        queries = torch.empty(len(searches), dtype=torch.int64)
        for place, context in enumerate(searches):
            shown = candidates_of(context, self.num_candidates, drawer)
            candidates[place, : len(shown)] = shown
            queries[place] = self.query_of.get(context.query, len(self.query_of))
        lengths = (candidates != PADDING).sum(1)
        kept = np.flatnonzero(lengths)
        candidates = candidates[kept, : lengths.max(initial=0)]
        return Examples(searches.take(kept), candidates, queries[torch.from_numpy(kept)], orders_known)

    def _loader(self, examples: Examples, shuffle: bool) -> DataLoader[RewardBatch]:
        collate = partial(_batch, examples, self.features, self.query_embeddings)
        return DataLoader(range(len(examples.queries)), self.batch_size, shuffle, collate_fn=collate)  # type: ignore[arg-type]


class NegativeDrawer:
    """Draws items that a shopper is taken not to have wanted.

    Args:
        contexts: searches whose clicks tell how popular an item is; of the fit splits, so that nothing is foreseen.
        categories: category number of each item, [N]; −1 unknown.
        num: negatives of a search.
        seed: of the draws.
    """

    def __init__(self, contexts: Sequence[SearchContext], categories: Rows, num: int, seed: int) -> None:
        self.num = num
        self.rng = np.random.default_rng(seed)
        self.categories = categories
        clicked = items_of(pairs_of(contexts))
        popularity = np.bincount(clicked, minlength=len(categories)) + 0.1  # nothing is impossible
        self.cumulative = np.cumsum(popularity)
        self.members = {int(c): np.flatnonzero(categories == c) for c in np.unique(categories) if c >= 0}

    def draw(self, context: SearchContext) -> list[int]:
        """Distinct item rows that were not clicked, at most `num`."""
        share = self.num // 3
        same_category = self.members.get(int(self.categories[context.clicked[0]]), np.empty(0, np.int64))
        drawn = list(context.cold_start[: share + len(context.clicked)])
        drawn = [item for item in drawn if item not in context.clicked][:share]
        drawn += self.rng.permutation(same_category)[:share].tolist()
        popular = np.searchsorted(self.cumulative, self.rng.random(2 * self.num) * self.cumulative[-1])
        drawn += popular.clip(max=len(self.categories) - 1).tolist()
        return [item for item in dict.fromkeys(drawn) if item not in context.clicked][: self.num]


def candidates_of(context: SearchContext, most: int, drawer: NegativeDrawer) -> list[int]:
    """Item rows of a list: clicked ones, then shown ones in display order (or drawn ones); empty: nothing to learn."""
    if context.impressed is not None:
        others = context.impressed
    else:
        others = tuple(drawer.draw(context)) if context.clicked else ()
    return list(dict.fromkeys(context.clicked + others))[:most]


def labels_of(
    contexts: Sequence[SearchContext], candidates: Sequence[Sequence[int]], orders_known: bool
) -> RewardLabels:
    """What happened to each candidate.

    Args:
        contexts: B searches.
        candidates: item rows of each search; −1 is padding.
        orders_known: whether the log records orders.
    """
    clicked, purchased = (
        [[item in happened for item in shown] for happened, shown in zip(map(set, items), candidates, strict=True)]
        for items in ([context.clicked for context in contexts], [context.purchased for context in contexts])
    )
    width = max(map(len, candidates), default=0)
    click, order = (window(rows, width).values.clip(min=0).astype(np.float32) for rows in (clicked, purchased))
    return RewardLabels(
        clicked=torch.from_numpy(click),
        purchased=torch.from_numpy(click * order),
        orders_known=torch.full((len(contexts),), orders_known),
        drawn=torch.tensor([context.impressed is None for context in contexts], dtype=torch.bool),
    )


def read_catalogue(quantizer: Path, category_paths: Sequence[Sequence[str] | None]) -> Catalogue:
    """The items as the quantizer artefact has them.

    Args:
        quantizer: the artefact's folder.
        category_paths: category names of each item, coarse to fine, [N].
    """
    spec = json.loads((quantizer / "spec.json").read_text("utf-8"))
    _, codes = read_codes(quantizer / "items.parquet", SidSpec(spec["rq_sizes"], spec["opq_sizes"]).sizes)
    embeddings = load_file(quantizer / "embeddings.safetensors")["items"]
    return Catalogue(embeddings, torch.from_numpy(codes), number_categories(category_paths))


def _read_queries(quantizer: Path) -> tuple[dict[str, int], Tensor]:
    """Row of each query, and embeddings with a last row of zeros for queries that the quantizer never saw."""
    queries = pq.read_table(quantizer / "queries.parquet", columns=["query"])["query"]
    embeddings = load_file(quantizer / "embeddings.safetensors")["queries"]
    unknown = embeddings.new_zeros(1, embeddings.shape[1])
    return {str(query): row for row, query in enumerate(queries.to_pylist())}, torch.cat([embeddings, unknown])


def _batch(examples: Examples, features: RewardFeatures, queries: Tensor, index: list[int]) -> RewardBatch:
    searches, candidates = [examples.searches[place] for place in index], examples.candidates[index].tolist()
    inputs = features(searches, candidates, queries[examples.queries[index]])
    return RewardBatch(inputs, labels_of(searches, candidates, examples.orders_known))
