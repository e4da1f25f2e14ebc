"""Lists of candidates with what the shopper did, for the reward model.

Where the log records what was shown, a list is what the shopper saw. Where it does not, shown-not-clicked is unknown
and negatives are drawn: in equal parts the query's own most clicked items, items of the clicked one's category, and
popular items. Probabilities learned from drawn negatives rank, but are no click-through rates; the labels say which.
"""

import json
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader

from onesearch.artifacts import verify
from onesearch.behavior.window import PADDING
from onesearch.data.reward_rows import KeptRows
from onesearch.data.shuffled import ResumableData, Shuffled
from onesearch.khqe import query_embeddings
from onesearch.log.prepared import Log
from onesearch.log.searches import Searches, items_of, pairs_of
from onesearch.models.reward import RewardBatch, RewardLabels
from onesearch.models.reward_features import NUM_POSITIONS, Catalogue, RewardFeatures
from onesearch.sid.spec import SidSpec
from onesearch.sid.table import read_codes
from onesearch.types import SearchContext, UserError

Rows: TypeAlias = NDArray[np.int64]


class Examples(NamedTuple):
    """All searches of some splits that have candidates, with what happened to these."""

    searches: Searches  # [S]
    candidates: NDArray[np.int32]  # [S, X] item rows, −1 is padding
    queries: Tensor  # [S] int64, row of the query's embedding
    clicked: NDArray[np.bool_]  # [S, X]
    purchased: NDArray[np.bool_]  # [S, X] clicked and ordered
    position: NDArray[np.int16]  # [S, X] place where each was shown, from 1; 0: not recorded
    drawn: NDArray[np.bool_]  # [S] negatives were drawn
    orders_known: bool


class RewardData(ResumableData):
    """Searches with their candidates.

    Args:
        run: the run folder; reads `run/log`, `run/quantizer` and, for queries that this never saw, `run/encoder`.
        batch_size: searches a step.
        num_candidates: most candidates of a search; clicked ones first, then in display order. Where more were shown,
            the rest is lost, and the rates that are learnt are too high: `keep_negatives` thins them out fairly.
        num_drawn: negatives drawn for a search whose impressions are not recorded.
        keep_negatives: share of the unclicked exposures that an epoch learns from, another draw in each; clicked ones
            are always kept. The model puts its probabilities right again.
        short_size: latest clicks of the short history.
        long_size: latest clicks of the long history.
        fit_splits: the splits of the log to learn from.
        memory: gigabytes of features that are kept from one epoch to the next, all splits together; a split that would
            take more than its share is built anew in each epoch, and a warning says so.
        seed: of the drawn negatives, the kept ones, and the order of the epochs.

    Raises:
        UserError: `keep_negatives` is no share.
    """

    def __init__(
        self,
        run: Path,
        batch_size: int = 128,
        num_candidates: int = 100,
        num_drawn: int = 9,
        keep_negatives: float = 1.0,
        short_size: int = 5,
        long_size: int = 200,
        fit_splits: tuple[str, ...] = ("train",),
        memory: float = 2.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < keep_negatives <= 1:
            raise UserError(f"RewardData has keep_negatives {keep_negatives}: give a share above 0, 1 to keep all.")
        self.run = Path(run)
        self.batch_size = batch_size
        self.num_candidates = num_candidates
        self.num_drawn = num_drawn
        self.keep_negatives = keep_negatives
        self.short_size = short_size
        self.long_size = long_size
        self.fit_splits = fit_splits
        self.memory = memory
        self.seed = seed

    def setup(self, stage: str) -> None:
        """Choose the candidates."""
        verify(self.run / "quantizer", "quantizer", [self.run / "log"])
        log = Log.open(self.run / "log")
        catalogue = read_catalogue(self.run / "quantizer", log.items.to_pydict())
        self.features = RewardFeatures(catalogue, log.item_counts, log.pair_counts, self.short_size, self.long_size)
        fit = log.contexts(*self.fit_splits)
        splits = {"fit": fit, "validation": log.contexts("validation"), "test": log.contexts("test")}
        wanted = {"fit": ("fit", "validation"), "validate": ("validation",), "test": ("test",)}[stage]
        queries = sorted({query for name in wanted for query in splits[name].queries()})
        self.query_of = {query: row for row, query in enumerate(queries)}
        self.query_embeddings = query_embeddings(self.run, queries)
        drawer = NegativeDrawer(fit, catalogue.categories.numpy(), self.num_drawn, self.seed)
        orders_known = bool(fit.num_purchases.any())
        self.examples = {name: self._examples(splits[name], drawer, orders_known) for name in wanted}
        total = sum(found.candidates.size for found in self.examples.values())
        self.rows = {
            name: KeptRows(
                self.features, found.searches, found.candidates, self.memory * found.candidates.size / max(1, total)
            )
            for name, found in self.examples.items()
        }

    def train_dataloader(self) -> DataLoader[RewardBatch]:
        """Batches in an order that seed and epoch fix."""
        return self._loader("fit", shuffle=True)

    def val_dataloader(self) -> DataLoader[RewardBatch]:
        """The validation split in time order."""
        return self._loader("validation", shuffle=False)

    def test_dataloader(self) -> DataLoader[RewardBatch]:
        """The test split in time order."""
        return self._loader("test", shuffle=False)

    def _examples(self, searches: Searches, drawer: "NegativeDrawer", orders_known: bool) -> Examples:
        shape = len(searches), self.num_candidates
        candidates = np.full(shape, PADDING, np.int32)
        clicked, purchased = np.zeros(shape, bool), np.zeros(shape, bool)
        position = np.zeros(shape, np.int16)
        queries = torch.empty(len(searches), dtype=torch.int64)
        drawn = np.zeros(len(searches), bool)
        for place, context in enumerate(searches):
            shown = candidates_of(context, self.num_candidates, drawer)
            candidates[place, : len(shown)] = shown
            clicked[place, : len(shown)] = np.isin(shown, context.clicked)
            purchased[place, : len(shown)] = np.isin(shown, context.purchased)
            position[place, : len(shown)] = positions_of(context, shown)
            drawn[place] = context.impressed is None
            queries[place] = self.query_of[context.query]
        lengths = (candidates != PADDING).sum(1)
        at, width = np.flatnonzero(lengths), int(lengths.max(initial=0))
        clicked, purchased = clicked[at, :width], purchased[at, :width]
        return Examples(
            searches.take(at),
            candidates[at, :width],
            queries[torch.from_numpy(at)],
            clicked,
            clicked & purchased,
            position[at, :width],
            drawn[at],
            orders_known,
        )

    def _loader(self, name: str, shuffle: bool) -> DataLoader[RewardBatch]:
        places: Any = range(len(self.examples[name].queries))
        sampler = self.going_on(Shuffled(places, self.seed)) if shuffle else None
        collate = partial(self._batch, name, self.keep_negatives if name == "fit" else 1.0)
        return DataLoader(places, self.batch_size, sampler=sampler, collate_fn=collate)

    def _batch(self, name: str, keep: float, index: list[int]) -> RewardBatch:
        found, rows = self.examples[name], self.rows[name].take(index)
        clicked, purchased, position = (
            torch.from_numpy(part[index, : rows.candidates.shape[1]])  # those of the rows end with their longest list
            for part in (found.clicked, found.purchased, found.position)
        )
        if keep < 1:
            epoch = self.trainer.current_epoch if self.trainer is not None else 0
            places = kept_places(clicked.numpy(), rows.candidates.numpy() >= 0, keep, (self.seed, epoch, index))
            rows = rows.choose(places)
            clicked, purchased, position = (
                part.gather(1, places.clamp(min=0)) * (places >= 0) for part in (clicked, purchased, position)
            )
        labels = RewardLabels(
            clicked=clicked.float(),
            purchased=purchased.float(),
            orders_known=torch.full((len(index),), found.orders_known),
            drawn=torch.from_numpy(found.drawn[index]),
            kept=torch.full((len(index),), keep),
        )
        inputs = self.features.gather(rows, self.query_embeddings[found.queries[index]])
        return RewardBatch(inputs._replace(position=position.long()), labels)


def kept_places(
    clicked: NDArray[np.bool_], shown: NDArray[np.bool_], keep: float, chance: tuple[int, int, Sequence[int]]
) -> Tensor:
    """Places of the candidates that an epoch learns from: the clicked, and a share of the others.

    Args:
        clicked: [B, X].
        shown: candidates that exist, [B, X].
        keep: the share.
        chance: seed, epoch and the number of each search: nothing else decides.

    Returns:
        [B, X'] int64 in their order, −1 behind them; X' at least 1.
    """
    seed, epoch, numbers = chance
    draws = np.stack([np.random.default_rng((seed, epoch, number)).random(shown.shape[1]) for number in numbers])
    stays = shown & (clicked | (draws < keep))
    order = np.argsort(~stays, axis=1, kind="stable")
    places = np.where(np.take_along_axis(stays, order, 1), order, PADDING)
    return torch.from_numpy(places[:, : max(1, stays.sum(1).max())])


class NegativeDrawer:
    """Draws items that a shopper is taken not to have wanted.

    Args:
        contexts: searches whose clicks tell how popular an item is; of the fit splits, so that nothing is foreseen.
        categories: category number of each item, [N]; −1 unknown.
        num: negatives of a search.
        seed: of the draws, which nothing else decides but the search's name: they are the same in each split.
    """

    def __init__(self, contexts: Sequence[SearchContext], categories: Rows, num: int, seed: int) -> None:
        self.num = num
        self.seed = seed
        self.categories = categories
        clicked = items_of(pairs_of(contexts))
        popularity = np.bincount(clicked, minlength=len(categories)) + 0.1  # nothing is impossible
        self.cumulative = np.cumsum(popularity)
        self.members = {int(c): np.flatnonzero(categories == c) for c in np.unique(categories) if c >= 0}

    def draw(self, context: SearchContext) -> list[int]:
        """Distinct item rows that were not clicked, at most `num`."""
        rng = np.random.default_rng((self.seed, zlib.crc32(context.search_id.encode())))
        share = self.num // 3
        same_category = self.members.get(int(self.categories[context.clicked[0]]), np.empty(0, np.int64))
        drawn = list(context.cold_start[: share + len(context.clicked)])
        drawn = [item for item in drawn if item not in context.clicked][:share]
        drawn += rng.permutation(same_category)[:share].tolist()
        popular = np.searchsorted(self.cumulative, rng.random(2 * self.num) * self.cumulative[-1])
        drawn += popular.clip(max=len(self.categories) - 1).tolist()
        return [item for item in dict.fromkeys(drawn) if item not in context.clicked][: self.num]


def candidates_of(context: SearchContext, most: int, drawer: NegativeDrawer) -> list[int]:
    """Item rows of a list: clicked ones, then shown ones in display order (or drawn ones); empty: nothing to learn."""
    if context.impressed is not None:
        others = context.impressed
    else:
        others = tuple(drawer.draw(context)) if context.clicked else ()
    return list(dict.fromkeys(context.clicked + others))[:most]


def positions_of(context: SearchContext, shown: Sequence[int]) -> list[int]:
    """The place on the page of each item, from 1 to the last that is told apart; 0 for all where one is unknown.

    A click that the impressions lack would have a place of its own otherwise: "unknown" would mean "clicked".
    """
    places = {item: place for place, item in enumerate(context.impressed or (), start=1)}
    if not places.keys() >= set(shown):
        return [0] * len(shown)
    return [min(places[item], NUM_POSITIONS - 1) for item in shown]


def read_catalogue(quantizer: Path, items: dict[str, list[Any]]) -> Catalogue:
    """The items as log and quantizer artefact have them.

    Args:
        quantizer: the artefact's folder.
        items: the canonical items table as columns by name, each [N].
    """
    spec = json.loads((quantizer / "spec.json").read_text("utf-8"))
    _, codes = read_codes(quantizer / "items.parquet", SidSpec(spec["rq_sizes"], spec["opq_sizes"]).sizes)
    embeddings = load_file(quantizer / "embeddings.safetensors")["items"]
    return Catalogue.of(items, embeddings, torch.from_numpy(codes))
