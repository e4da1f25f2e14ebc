"""Embeddings to disk while they are made: each process appends batch by batch to files of its own.

    RUN/embeddings/items-00000.parquet     item_id, embedding (a list of D float32); queries-00000.parquet alike
    or, as `numpy`, items-00000.npy        [n, D] float32, for np.load(…, mmap_mode="r"); items-00000.parquet: item_id

The number is that of the process. At the end the first one makes an artefact of all files.
"""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch.callbacks import BasePredictionWriter
from numpy.typing import NDArray
from torch import Tensor

from onesearch.artifacts import verify, writing
from onesearch.stages.stage import is_trial
from onesearch.types import NamedTexts, UserError

EmbeddingFormat = Literal["parquet", "numpy"]

NAMES = {"items": "item_id", "queries": "query"}
"""What a row of each table is called by."""


class Part(ABC):
    """What one process writes of one table.

    Args:
        stem: the path without its ending.
        name: column of the names.
        dim: D.
    """

    @abstractmethod
    def __init__(self, stem: Path, name: str, dim: int) -> None: ...

    @abstractmethod
    def write(self, names: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Append rows with vectors [B, D]."""

    @abstractmethod
    def close(self) -> None:
        """Finish the files."""


class ParquetPart(Part):
    """Names and vectors in one file."""

    def __init__(self, stem: Path, name: str, dim: int) -> None:
        self.schema = pa.schema([(name, pa.string()), ("embedding", pa.list_(pa.float32(), dim))])
        self.writer = pq.ParquetWriter(stem.with_suffix(".parquet"), self.schema, write_page_checksum=True)

    def write(self, names: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """One row group a batch."""
        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        self.writer.write_table(pa.table([pa.array(names, pa.string()), lists], schema=self.schema))

    def close(self) -> None:
        """Write the footer."""
        self.writer.close()


class NumpyPart(Part):
    """Vectors as one array, names beside it."""

    def __init__(self, stem: Path, name: str, dim: int) -> None:
        self.shape = [0, dim]
        self.schema = pa.schema([(name, pa.string())])
        self.names = pq.ParquetWriter(stem.with_suffix(".parquet"), self.schema, write_page_checksum=True)
        self.file = stem.with_suffix(".npy").open("wb")
        self._write_header()

    def write(self, names: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Append behind the header."""
        self.names.write_table(pa.table([pa.array(names, pa.string())], schema=self.schema))
        self.file.write(np.ascontiguousarray(vectors, "<f4").data)
        self.shape[0] += len(vectors)

    def close(self) -> None:
        """Say how many rows there are: numpy's header leaves room for that number."""
        self.file.seek(0)
        self._write_header()
        self.file.close()
        self.names.close()

    def _write_header(self) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": tuple(self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)


PARTS: dict[EmbeddingFormat, type[Part]] = {"parquet": ParquetPart, "numpy": NumpyPart}


class EmbeddingWriter(BasePredictionWriter):
    """Streams what `predict` returns into an artefact; nothing is kept in memory. A rehearsal writes nothing.

    Args:
        folder: the artefact's.
        parents: folders of the artefacts that it is made from.
        form: of the files.
    """

    def __init__(self, folder: Path, parents: Sequence[Path], form: EmbeddingFormat) -> None:
        super().__init__("batch")
        self.folder, self.parents, self.form = folder, parents, form
        self.beside = folder.with_name(f".{folder.name}.parts")  # where all processes write
        self.parts: dict[str, Part] = {}  # of this process, by table

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """An empty folder for the parts, left over from no earlier attempt.

        Raises:
            UserError: `limit_predict_batches` leaves some texts out.
        """
        trainer.predict_loop.return_predictions = False
        if is_trial(trainer):
            return
        loaders = trainer.predict_dataloaders or ()
        if any(number < len(loader) for number, loader in zip(trainer.num_predict_batches, loaders, strict=True)):
            raise UserError(
                f"trainer.limit_predict_batches is {trainer.limit_predict_batches}: {self.folder} would hold some of "
                "the texts only. Leave it out, or rehearse with trainer.fast_dev_run, which writes nothing."
            )
        self.parts = {}  # those of an earlier start are closed
        if trainer.is_global_zero:
            shutil.rmtree(self.beside, ignore_errors=True)
            self.beside.mkdir(parents=True)
        trainer.strategy.barrier("embeddings: folder")

    def write_on_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        prediction: Tensor,
        batch_indices: Sequence[int] | None,
        batch: NamedTexts,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Append a batch to this process' part of its table."""
        if is_trial(trainer):
            return
        if batch.table not in self.parts:
            stem = self.beside / f"{batch.table}-{trainer.global_rank:05d}"
            self.parts[batch.table] = PARTS[self.form](stem, NAMES[batch.table], prediction.shape[1])
        self.parts[batch.table].write(batch.names, prediction.float().cpu().numpy())

    def on_predict_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close the parts; the first process makes an artefact of them."""
        if is_trial(trainer):
            return
        for part in self.parts.values():
            part.close()
        trainer.strategy.barrier("embeddings: parts")
        if trainer.is_global_zero:
            facts: dict[str, Any] = {"format": self.form}
            with writing(self.folder, "embeddings", self.parents, facts=facts) as folder:
                for path in sorted(self.beside.iterdir()):
                    path.rename(folder / path.name)
                facts |= {f"num_{table}": _count(folder, table) for table in NAMES}
            self.beside.rmdir()
            verify(self.folder, "embeddings", self.parents)
        trainer.strategy.barrier("embeddings: artefact")


def _count(folder: Path, table: str) -> int:
    return sum(pq.read_metadata(path).num_rows for path in folder.glob(f"{table}-*.parquet"))
