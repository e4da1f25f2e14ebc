"""All texts that the quantizer fits on: the catalogue's items, and the queries that shoppers typed."""

from collections.abc import Sequence
from pathlib import Path

import lightning
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from onesearch.log.arrivals import read_arrivals, read_queries
from onesearch.log.prepared import Log
from onesearch.log.schema import table_of
from onesearch.log.text import item_texts
from onesearch.types import ArrivalBatch, CatalogueBatch, UserError


class CatalogueData(lightning.LightningDataModule):
    """Items first, then the most viewed queries, each text once.

    Args:
        run: the run folder; reads `run/log`.
        batch_size: texts a step.
        max_queries: most queries to fit on; all are encoded afterwards.
        items: for `predict`: a file of new items, see `log.arrivals`.
        queries: for `predict`: a file with new queries in its column `query`.
    """

    def __init__(
        self,
        run: Path,
        batch_size: int = 1024,
        max_queries: int = 1_000_000,
        items: Path | None = None,
        queries: Path | None = None,
    ) -> None:
        super().__init__()
        self.run = Path(run)
        self.batch_size = batch_size
        self.max_queries = max_queries
        self.new_items, self.new_queries = items, queries

    def setup(self, stage: str) -> None:
        """Read the texts."""
        self.items: list[str]
        self.queries: list[str]
        if stage == "predict":
            self._read_arrivals()
        else:
            log = Log.open(self.run / "log")
            self.items = item_texts(log.items)
            self.queries = log.queries["query"].to_pylist()[: self.max_queries]

    def train_dataloader(self) -> DataLoader[CatalogueBatch]:
        """One pass over all texts, in order."""
        return self._texts()

    def val_dataloader(self) -> DataLoader[CatalogueBatch] | list[DataLoader[CatalogueBatch]]:
        """The same texts: a codebook is examined on what it is for. None while there is no codebook yet."""
        is_fitting = self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        return [] if is_fitting else self._texts()

    def _texts(self) -> DataLoader[CatalogueBatch]:
        rows = range(len(self.items) + len(self.queries))
        return DataLoader(rows, batch_size=self.batch_size, collate_fn=self._batch)  # type: ignore[arg-type]

    def predict_dataloader(self) -> DataLoader[ArrivalBatch]:
        """New items and new queries."""
        rows = range(max(len(self.arrivals), len(self.queries)))
        return DataLoader(rows, batch_size=self.batch_size, collate_fn=self._arrivals)  # type: ignore[arg-type]

    def _read_arrivals(self) -> None:
        if self.new_items is None and self.new_queries is None:
            raise UserError("Nothing to encode: name a file of new items (--data.init_args.items) or of queries.")
        arrivals = table_of("items", []) if self.new_items is None else read_arrivals(self.new_items)
        self.items, self.arrivals = item_texts(arrivals), arrivals.to_pylist()
        self.queries = [] if self.new_queries is None else read_queries(self.new_queries)

    def _arrivals(self, rows: Sequence[int]) -> ArrivalBatch:
        part = slice(rows[0], rows[-1] + 1)
        return ArrivalBatch(self.arrivals[part], self.items[part], self.queries[part])

    def _batch(self, rows: Sequence[int]) -> CatalogueBatch:
        items = [self.items[row] for row in rows if row < len(self.items)]
        queries = [self.queries[row - len(self.items)] for row in rows if row >= len(self.items)]
        return CatalogueBatch(items, queries, len(self.items) + len(self.queries))
