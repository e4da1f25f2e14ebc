"""The prepared log as everything else reads it: tables, item rows, contexts as of their own time, counts."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from onesearch.artifacts import Manifest, verify
from onesearch.log.as_of import FOLDER, QUERIES, AsOf
from onesearch.log.counts import CLICKS, TOTALS, ItemCounts, PairCounts, RunningTotals
from onesearch.log.live import live_context
from onesearch.log.mapped_files import MappedTable
from onesearch.log.report import LogError
from onesearch.log.schema import MICROSECONDS_OF_DAY, SPLITS, Array, Column
from onesearch.log.searches import Searches
from onesearch.log.text import normalize_query
from onesearch.types import SearchContext


class Log:
    """A prepared log; tables are read when they are first asked for.

    Args:
        folder: what `prepare` wrote.
        manifest: its verified manifest.
        added: items that came after it; their rows follow those of the log.
    """

    def __init__(self, folder: Path, manifest: Manifest, added: pa.Table | None = None) -> None:
        self.folder = folder
        self.manifest = manifest
        self.added = added

    @classmethod
    def open(cls, folder: Path) -> "Log":
        """Verify and open the log in `folder`.

        Raises:
            ArtifactError: it is missing, damaged or no log.
        """
        return cls(Path(folder), verify(Path(folder), "log"))

    def with_items(self, added: pa.Table | None) -> "Log":
        """The same log with items that came after it."""
        return Log(self.folder, self.manifest, added)

    @cached_property
    def items(self) -> pa.Table:
        """The canonical items; a row's position is the item's number everywhere else, [N]."""
        items = self._read("items")
        return items if self.added is None else pa.concat_tables([items, self.added.cast(items.schema)])

    @cached_property
    def users(self) -> pa.Table:
        """The canonical users."""
        return self._read("users")

    @cached_property
    def searches(self) -> pa.Table:
        """The canonical searches in time order, with `query_key` and `split`."""
        return self._read("searches")

    @cached_property
    def events(self) -> pa.Table:
        """The canonical events outside search in time order."""
        return self._read("events")

    @cached_property
    def judgments(self) -> pa.Table:
        """The canonical graded pairs."""
        return self._read("judgments")

    @cached_property
    def queries(self) -> pa.Table:
        """Normalised queries before the test boundary: (query, pv, clicks), most viewed first."""
        return self._read("queries")

    @cached_property
    def item_ids(self) -> list[str]:
        """Item row -> item ID."""
        ids: list[Any] = self.items["item_id"].to_pylist()
        return ids

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Item ID -> item row."""
        return {item_id: row for row, item_id in enumerate(self.item_ids)}

    @cached_property
    def item_counts(self) -> ItemCounts:
        """Exposures, clicks and orders of items, as of any day."""
        return ItemCounts(self._totals("item_days"))

    @cached_property
    def pair_counts(self) -> PairCounts:
        """Exposures, clicks and orders of (query, item), as of any day."""
        known = MappedTable(self._as_of / "queries.arrow", QUERIES).read()
        first_days = dict(zip(known["text"].to_pylist(), known["first_day"].to_pylist(), strict=True))
        return PairCounts(first_days, self._num_items, self._totals("query_item_days"))

    def contexts(self, *splits: str) -> Searches:
        """The searches of `splits` (train, validation, test) in time order, each as of its own time.

        Raises:
            LogError: there is no such split, or the log was prepared by another version.
        """
        unknown = set(splits) - set(SPLITS)
        if unknown:
            raise LogError(f"There is no split '{min(unknown)}': use some of {', '.join(SPLITS)}.")
        chosen = [SPLITS.index(split) for split in splits]
        parts = self._searches.splits.parts
        return Searches(self._searches, np.flatnonzero(np.concatenate([np.isin(part, chosen) for part in parts])))

    def context(self, user_id: str | None, query: str) -> SearchContext:
        """A search that happens now, after everything in the log; statistics end at the test boundary.

        Args:
            user_id: None or an unknown user: no history.
            query: as typed.
        """
        return live_context(self, user_id, normalize_query(query), self.clicked_items)

    @cached_property
    def clicked_items(self) -> dict[str, tuple[int, ...]]:
        """Normalised query -> all item rows clicked for it before the test boundary, best first."""
        keys, clicks = self._totals("query_item_days").last(CLICKS)
        queries, items = np.divmod(keys, self._num_items)
        places = np.argsort(np.asarray(pc.sort_indices(self._vocabulary)))  # of item IDs in the order of their bytes
        order = np.lexsort((places[items], -clicks, queries))
        asked, starts = np.unique(queries, return_index=True)
        best = (tuple(rows.tolist()) for rows in np.split(items[order], starts[1:]))
        return dict(zip(self._searches.texts.take(asked), best, strict=False))

    @cached_property
    def bought_outside(self) -> dict[str, list[tuple[int, int]]]:
        """User -> (item row, day) of each purchase outside search before the test boundary."""
        microseconds = self.events["time"].cast(pa.int64())
        before = pc.less(microseconds, self.manifest.facts["split"]["test_from_us"])
        chosen = pc.and_(before, pc.equal(self.events["action"], "purchase"))
        days = np.asarray(microseconds.filter(chosen)) // MICROSECONDS_OF_DAY
        events = self.events.filter(chosen)
        bought: dict[str, list[tuple[int, int]]] = {}
        for user, row, day in zip(
            events["user_id"].to_pylist(), self._rows(events["item_id"]).tolist(), days.tolist(), strict=True
        ):
            bought.setdefault(user, []).append((row, day))
        return bought

    def _read(self, name: str) -> pa.Table:
        return pq.read_table(self.folder / f"{name}.parquet", page_checksum_verification=True)

    def _rows(self, item_ids: Column) -> npt.NDArray[np.int64]:
        return np.asarray(pc.index_in(item_ids, self._vocabulary), np.int64)

    @property
    def _as_of(self) -> Path:
        return self.folder / FOLDER

    @cached_property
    def _searches(self) -> AsOf:
        return AsOf(self._as_of, int(self.manifest.config["max_history"]))

    @property
    def _num_items(self) -> int:
        """Items of the log alone."""
        return int(self.manifest.facts["rows"]["items"])

    def _totals(self, name: str) -> RunningTotals:
        return RunningTotals.mapped(MappedTable(self._as_of / f"{name}.arrow", TOTALS))

    @cached_property
    def _vocabulary(self) -> Array:
        return self.items["item_id"].combine_chunks()
