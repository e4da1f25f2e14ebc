"""A living catalogue: what was added to the SID table after the codebook was fitted, in versions.

    RUN/catalogue/0001/        all items and queries added so far: kind "catalogue", made from the quantizer
    RUN/catalogue/current.json which version is served

A version holds everything since the fit, so that going back is one small file. The pointer names the codebook too:
after another fit the catalogue is the fitted one again, and the old versions stay on disk.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from onesearch.artifacts import read_manifest, verify, write_json, writing
from onesearch.types import UserError

FITTED = 0
"""The version of the catalogue as the codebook was fitted on it."""


class Added(NamedTuple):
    """What came after the fit. A items, Q queries, C layers, D width."""

    items: pa.Table  # [A] canonical columns, `codes` and `priority`
    item_embeddings: Tensor  # [A, D]
    queries: pa.Table  # [Q] `query` and `codes`
    query_embeddings: Tensor  # [Q, D]

    @property
    def item_codes(self) -> NDArray[np.int64]:
        """[A, C] codes of the added items, A > 0."""
        return np.array(self.items["codes"].to_pylist(), dtype=np.int64)

    @property
    def canonical(self) -> pa.Table:
        """The items as a log's table has them."""
        return self.items.drop_columns(["codes", "priority"])


def current_version(run: Path) -> int:
    """The version that is served; `FITTED` where nothing was added to this codebook."""
    pointer = run / "catalogue" / "current.json"
    if not pointer.is_file():
        return FITTED
    current = json.loads(pointer.read_text("utf-8"))
    return int(current["version"]) if current["quantizer"] == read_manifest(run / "quantizer").fingerprint else FITTED


def versions(run: Path) -> list[int]:
    """All versions that belong to the run's codebook, `FITTED` first."""
    own = read_manifest(run / "quantizer").fingerprint
    folders = sorted((run / "catalogue").glob("[0-9]*"))
    return [FITTED, *(int(path.name) for path in folders if read_manifest(path).parents["quantizer"] == own)]


def switch(run: Path, version: int) -> None:
    """Serve another version, older or newer.

    Raises:
        UserError: this codebook has no such version.
    """
    known = versions(run)
    if version not in known:
        raise UserError(f"{run} has no version {version} of its catalogue: use one of {', '.join(map(str, known))}.")
    if version != FITTED:
        verify(folder_of(run, version), "catalogue", [run / "quantizer"])
    (run / "catalogue").mkdir(exist_ok=True)
    pointer = {"version": version, "quantizer": read_manifest(run / "quantizer").fingerprint}
    write_json(run / "catalogue" / "current.json", pointer)


def read_added(run: Path) -> Added | None:
    """What the served version adds to the fitted catalogue."""
    version = current_version(run)
    if version == FITTED:
        return None
    folder = folder_of(run, version)
    verify(folder, "catalogue", [run / "quantizer"])
    embeddings = load_file(folder / "embeddings.safetensors")
    items, queries = (pq.read_table(folder / f"{name}.parquet") for name in ("items", "queries"))
    return Added(items, embeddings["items"], queries, embeddings["queries"])


def add_version(run: Path, added: Added, drift: dict[str, Any]) -> int:
    """Write `added` (all since the fit) with its drift report as a new version, and serve it; returns its number."""
    numbers = [int(path.name) for path in (run / "catalogue").glob("[0-9]*")]
    version = max(numbers, default=FITTED) + 1
    with writing(folder_of(run, version), "catalogue", [run / "quantizer"], facts=drift) as folder:
        pq.write_table(added.items, folder / "items.parquet", write_page_checksum=True)
        pq.write_table(added.queries, folder / "queries.parquet", write_page_checksum=True)
        tensors = {"items": added.item_embeddings, "queries": added.query_embeddings}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "embeddings.safetensors")
        write_json(folder / "drift.json", {"version": version, "num_items": len(added.items), **drift})
    switch(run, version)
    return version


def joined(before: Added | None, after: Added) -> Added:
    """What was added before, then what is added now; a query that comes again keeps its first codes."""
    if before is None:
        return after
    known = set(before.queries["query"].to_pylist())
    new = [row for row, query in enumerate(after.queries["query"].to_pylist()) if query not in known]
    return Added(
        pa.concat_tables([before.items, after.items]),
        torch.cat([before.item_embeddings, after.item_embeddings]),
        pa.concat_tables([before.queries, after.queries.take(pa.array(new, pa.int64()))]),
        torch.cat([before.query_embeddings, after.query_embeddings[new]]),
    )


def folder_of(run: Path, version: int) -> Path:
    """Where a version lies, or would."""
    return run / "catalogue" / f"{version:04d}"
