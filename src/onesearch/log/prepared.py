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
from onesearch.log.counts import ItemCounts, PairCounts
from onesearch.log.live import live_context
from onesearch.log.ragged import Ragged
from onesearch.log.report import LogError
from onesearch.log.schema import MICROSECONDS_OF_DAY, SPLITS, Array, Column
from onesearch.log.text import normalize_query
from onesearch.types import SearchContext

_ITEM_LISTS = ("recent_clicks", "long_clicks", "long_orders", "cold_start", "clicked", "purchased", "impressed")


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
        table = self._read("item_days")
        return ItemCounts(self._rows(table["item_id"]), np.asarray(table["day"]), _totals(table))

    @cached_property
    def pair_counts(self) -> PairCounts:
        """Exposures, clicks and orders of (query, item), as of any day."""
        table = self._read("query_item_days")
        items = self._rows(table["item_id"])
        return PairCounts(
            [str(query) for query in table["query"].to_pylist()], items, np.asarray(table["day"]), _totals(table)
        )

    def contexts(self, *splits: str) -> list[SearchContext]:
        """The searches of `splits` (train, validation, test) in time order, each as of its own time."""
        unknown = set(splits) - set(SPLITS)
        if unknown:
            raise LogError(f"There is no split '{min(unknown)}': use some of {', '.join(SPLITS)}.")
        table = self._read("contexts", filters=pc.field("split").isin(splits))
        if missing := set(SearchContext._fields) - set(table.column_names):
            raise LogError(
                f"{self.folder} was prepared by another version of onesearch: '{min(missing)}' is missing from its "
                "contexts. Prepare it again."
            )
        columns = [
            self._row_tuples(table[name]) if name in _ITEM_LISTS else _values(name, table[name])
            for name in SearchContext._fields
        ]
        for index, name in enumerate(SearchContext._fields):
            if name in _ITEM_LISTS and name != "impressed":  # only there null and empty differ
                columns[index] = [rows or () for rows in columns[index]]
        return [SearchContext(*values) for values in zip(*columns, strict=True)]

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
        table = self._read("query_item_days").group_by(["query", "item_id"]).aggregate([("clicks", "max")])
        table = table.filter(pc.field("clicks_max") > 0)
        table = table.sort_by([("query", "ascending"), ("clicks_max", "descending"), ("item_id", "ascending")])
        best: dict[str, list[int]] = {}
        for query, row in zip(table["query"].to_pylist(), self._rows(table["item_id"]).tolist(), strict=True):
            best.setdefault(str(query), []).append(row)
        return {query: tuple(rows) for query, rows in best.items()}

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

    def _read(self, name: str, filters: pc.Expression | None = None) -> pa.Table:
        return pq.read_table(self.folder / f"{name}.parquet", filters=filters, page_checksum_verification=True)

    def _rows(self, item_ids: Column) -> npt.NDArray[np.int64]:
        return np.asarray(pc.index_in(item_ids, self._vocabulary), np.int64)

    def _row_tuples(self, column: Column) -> list[tuple[int, ...] | None]:
        ragged = Ragged(column, self._vocabulary)
        return ragged.tuples(ragged.codes.tolist())

    @cached_property
    def _vocabulary(self) -> Array:
        return self.items["item_id"].combine_chunks()


def _values(name: str, column: Column) -> list[Any]:
    """A column of contexts that holds no items; null texts and lists read as empty."""
    if pa.types.is_list(column.type):
        ragged = Ragged(column, pa.array([], column.type.value_type))
        return [values or () for values in ragged.tuples(ragged.values.to_pylist())]
    values: list[Any] = column.to_pylist() if name == "day" else pc.fill_null(column, "").to_pylist()
    return values


def _totals(table: pa.Table) -> npt.NDArray[np.int64]:
    return np.stack([np.asarray(table[name], np.int64) for name in ("exposures", "clicks", "orders")], axis=1)
