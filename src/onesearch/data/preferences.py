"""Data of the DPO stages: searches to build preference lists from (predict), and the lists themselves (fit)."""

from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from onesearch.artifacts import verify
from onesearch.data.searches import search_loader, shuffled
from onesearch.data.shuffled import ResumableData, Shuffled
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.models.generator_folder import load_settings
from onesearch.models.text_tokenizer import load_tokenizer
from onesearch.serve.invalid import InvalidSids
from onesearch.tasks.collation import collate_prompts
from onesearch.tasks.prompt import Views
from onesearch.tasks.template import Template
from onesearch.types import PreferenceBatch, SearchContext


class PreferenceRow(NamedTuple):
    """One preference list as it was written."""

    search: int  # its place among the searches
    items: list[int]  # the chosen one first
    reference: list[float]
    weights: list[float]  # of all but the chosen one; none in a soft list
    shares: list[float] | None
    invalid: list[list[int]]  # SIDs that no item has, rejected behind the items; reference and weights hold them, too

    def without(self, is_taken: list[bool]) -> "PreferenceRow":
        """The list without those of its [Y] invalid SIDs."""
        keeps = [*[True] * len(self.items), *[not taken for taken in is_taken]]
        return self._replace(
            reference=list(compress(self.reference, keeps)),
            weights=list(compress(self.weights, keeps[1:])),
            invalid=list(compress(self.invalid, keeps[len(self.items) :])),
        )


class PreferenceData(ResumableData):
    """Searches for `predict`, preference lists for `fit`.

    Args:
        run: the run folder.
        name: the stage's name; its lists are read from `run/NAME_lists`. Linked from the stage.
        init_from: the reference, whose prompts these are. Linked from the stage.
        batch_size: lists a step.
        splits: the splits whose searches give lists.
        num_searches: most searches, the latest ones.
        answered: whether only searches that led to a click give lists; soft lists need none.
        num_validation: most searches of the validation split.
        num_judged: most searches of the validation split on which the reward model is judged, where that split gives
            no lists; those of `num_validation` first.
        seed: of the order.
    """

    def __init__(
        self,
        run: Path,
        name: str,
        init_from: str,
        batch_size: int = 64,
        splits: tuple[str, ...] = ("train",),
        num_searches: int = 20_000,
        answered: bool = True,
        num_validation: int = 1000,
        num_judged: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.run = Path(run)
        self.name = name
        self.init_from = init_from
        self.batch_size = batch_size
        self.splits = splits
        self.num_searches = num_searches
        self.answered = answered
        self.num_validation = num_validation
        self.num_judged = num_judged
        self.seed = seed

    def setup(self, stage: str) -> None:
        """Read the searches, and for `fit` the lists."""
        log = Log.open(self.run / "log")
        searches = log.contexts(*self.splits)
        self.searches = (searches.answered if self.answered else searches)[-self.num_searches :]
        self.validation = shuffled(log.contexts("validation").answered, self.seed)
        if stage == "fit":
            self._read_lists(log)

    def predict_dataloader(self) -> list[DataLoader[list[SearchContext]]]:
        """The searches, in time order; beside them those that only judge the reward model, of a split it may not know.

        Searches of the validation split that give lists judge it as well, and need no beams of their own.
        """
        judging = [] if "validation" in self.splits else self.validation[: self.num_judged]
        return [search_loader(self.searches), *([search_loader(judging)] if len(judging) else [])]

    def val_dataloader(self) -> DataLoader[list[SearchContext]]:
        """Searches of the validation split, to be answered with beams."""
        return search_loader(self.validation[: self.num_validation])

    def train_dataloader(self) -> DataLoader[PreferenceBatch]:
        """The lists in an order that seed and epoch fix; a fit that goes on inside an epoch sees the rest of it."""
        order = self.going_on(Shuffled(self.lists, self.seed))
        return DataLoader(self.lists, self.batch_size, sampler=order, collate_fn=self._batch)  # type: ignore[arg-type]

    def _read_lists(self, log: Log) -> None:
        verify(self.run / f"{self.name}_lists", "preferences", [self.run / self.init_from, self.run / "log"])
        self.khqe = Khqe.open(self.run)
        folder = self.run / self.init_from
        tokenizer = load_tokenizer(folder)
        settings = load_settings(folder)
        self.writer = self.khqe.writer(tokenizer, Views(**settings["views"]), Template.of(settings))
        place_of = {search_id: place for place, search_id in enumerate(self.searches.search_ids)}
        self.lists = [
            PreferenceRow(
                place_of[row["search_id"]],
                [log.row_of[item] for item in (row["chosen"], *row["rejected"])],
                [row["reference_chosen"], *row["reference_rejected"], *row.get("reference_invalid", [])],
                _weights(row),
                row.get("shares"),
                row.get("invalid", []),  # lists of an earlier version have none
            )
            for row in pq.read_table(self.run / f"{self.name}_lists" / "lists.parquet").to_pylist()
        ]
        self._let_live()
        self.khqe.learn(self.searches.take([row.search for row in self.lists]).queries_seen())

    def _let_live(self) -> None:
        """Unlearn no SID that an item has got since the lists were written."""
        if not any(row.invalid for row in self.lists):
            return  # the whole catalogue would be sorted for nothing
        catalogue, num = InvalidSids.open(self.run, self.khqe), 0
        for place, row in enumerate(self.lists):
            if row.invalid and (is_taken := catalogue.are_taken(np.array(row.invalid))).any():
                self.lists[place] = row.without(is_taken.tolist())
                num += int(is_taken.sum())
        if num:
            rank_zero_warn(
                f"{self.name}_lists: {num} of the SIDs that no item had when they were written have one by now, and "
                "are not rejected. `predict` writes them anew."
            )

    def _batch(self, rows: list[PreferenceRow]) -> PreferenceBatch:
        width = max(len(row.reference) for row in rows)
        sids = [self.khqe.item_codes[row.items].tolist() + row.invalid for row in rows]
        prompts = [self.writer.search(self.searches[row.search]) for row in rows]
        pad = self.writer.tokenizer.pad_token_id
        return PreferenceBatch(
            prompt=collate_prompts(prompts, self.khqe.item_codes, pad),
            # Padding repeats the chosen item: a valid SID that the mask takes out of the loss.
            codes=torch.tensor([row + row[:1] * (width - len(row)) for row in sids]),
            reference=_padded([row.reference for row in rows], width),
            weights=_padded([row.weights for row in rows], width - 1),
            mask=torch.tensor([[place < len(row.reference) for place in range(1, width)] for row in rows]),
            shares=_padded([row.shares or [1.0] for row in rows], width) if any(row.shares for row in rows) else None,
            invalid=_invalid(rows, width) if any(row.invalid for row in rows) else None,
        )


def _padded(rows: list[list[float]], width: int) -> torch.Tensor:
    return torch.tensor([row + [0.0] * (width - len(row)) for row in rows])


def _weights(row: dict[str, Any]) -> list[float]:
    if row.get("shares"):
        return []
    return [*row["weights"], *[row.get("invalid_weight", 0.0)] * len(row.get("invalid", []))]


def _invalid(rows: list[PreferenceRow], width: int) -> torch.Tensor:
    return torch.tensor([[len(row.items) <= place < len(row.reference) for place in range(1, width)] for row in rows])
