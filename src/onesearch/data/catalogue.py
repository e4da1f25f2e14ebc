"""All texts that the quantizer fits on: the catalogue's items, and the queries that shoppers typed."""

from collections.abc import Sequence
from pathlib import Path

import lightning
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from onesearch.log.prepared import Log
from onesearch.log.text import item_texts
from onesearch.types import CatalogueBatch


class CatalogueData(lightning.LightningDataModule):
    """Items first, then the most viewed queries, each text once.

    Args:
        run: the run folder; reads `run/log`.
        batch_size: texts a step.
        max_queries: most queries to fit on; all are encoded afterwards.
    """

    def __init__(self, run: Path, batch_size: int = 1024, max_queries: int = 1_000_000) -> None:
        super().__init__()
        self.run = Path(run)
        self.batch_size = batch_size
        self.max_queries = max_queries

    def setup(self, stage: str) -> None:
        """Read the texts."""
        log = Log.open(self.run / "log")
        self.items = item_texts(log.items)
        self.queries: list[str] = log.queries["query"].to_pylist()[: self.max_queries]

    def train_dataloader(self) -> DataLoader[CatalogueBatch]:
        """One pass over all texts, in order."""
        return self._texts()

    def val_dataloader(self) -> DataLoader[CatalogueBatch] | list[DataLoader[CatalogueBatch]]:
        """The same texts: a codebook is examined on what it is for. None while there is no codebook yet."""
        is_fitting = self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        return [] if is_fitting else self._texts()

    def _texts(self) -> DataLoader[CatalogueBatch]:
        rows = range(len(self.items) + len(self.queries))
        return DataLoader(rows, self.batch_size, collate_fn=self._batch)  # type: ignore[arg-type]

    def _batch(self, rows: Sequence[int]) -> CatalogueBatch:
        items = [self.items[row] for row in rows if row < len(self.items)]
        queries = [self.queries[row - len(self.items)] for row in rows if row >= len(self.items)]
        return CatalogueBatch(items, queries)
