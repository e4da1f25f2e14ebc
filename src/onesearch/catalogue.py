"""A catalogue that lives on: items and queries that come after the fit get SIDs from the frozen codebook.

    onesearch predict -c configs/quantizer.yaml --run RUN --data.init_args.items new_items.jsonl

They are appended to the SID table, and so to the trie, as a new version (see `sid.versions`); each version says how far
the catalogue has drifted from what the codebook was fitted on (see `metrics.drift`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.log.schema import Array, table_of
from onesearch.metrics.drift import drift, drift_advice
from onesearch.sid.priority import bucket_priority
from onesearch.sid.versions import Added, add_version, joined, read_added
from onesearch.types import UserError


class Arrivals(NamedTuple):
    """New items and queries with their embeddings."""

    items: list[dict[str, Any]]  # [A] canonical rows
    item_embeddings: Tensor  # [A, D]
    queries: list[str]  # [Q]
    query_embeddings: Tensor  # [Q, D]


class Report(NamedTuple):
    """What became of arrivals."""

    version: int
    num_known: int  # items that had a SID already, and keep it
    drift: dict[str, float]  # empty where no item is new
    advice: list[str]


def add(run: Path, khqe: Khqe, log: Log, batches: Sequence[Arrivals]) -> Report:
    """Code what arrived, append it to the catalogue as a new version, and serve that version.

    Raises:
        UserError: nothing of it is new.
    """
    arrivals = Arrivals(
        [item for batch in batches for item in batch.items],
        torch.cat([batch.item_embeddings for batch in batches]),
        [query for batch in batches for query in batch.queries],
        torch.cat([batch.query_embeddings for batch in batches]),
    )
    known = set(khqe.item_ids)
    new = [row for row, item in enumerate(arrivals.items) if item["item_id"] not in known]
    asked = [row for row, query in enumerate(arrivals.queries) if not khqe.knows(query)]
    if not new and not asked:
        num_items, num_queries = len(arrivals.items), len(arrivals.queries)
        raise UserError(f"All {num_items} items and {num_queries} queries have a SID already: nothing was added.")
    fresh = Arrivals(
        [arrivals.items[row] for row in new],
        arrivals.item_embeddings[new],
        [arrivals.queries[row] for row in asked],
        arrivals.query_embeddings[asked],
    )
    added = joined(read_added(run), _coded(khqe, log, fresh))
    figures = _drift(khqe, len(log.item_ids), added) if len(added.items) else {}
    advice = drift_advice(figures) if figures else []
    version = add_version(run, added, {"figures": figures, "advice": advice})
    return Report(version, len(arrivals.items) - len(new), figures, advice)


def _coded(khqe: Khqe, log: Log, arrivals: Arrivals) -> Added:
    items = table_of("items", arrivals.items)
    codes, query_codes = (khqe.codebook.encode(e) for e in (arrivals.item_embeddings, arrivals.query_embeddings))
    items = items.append_column("codes", _lists(codes)).append_column("priority", pa.array(_priority(log, items)))
    queries = pa.table({"query": pa.array(arrivals.queries, pa.string()), "codes": _lists(query_codes)})
    return Added(items, arrivals.item_embeddings, queries, arrivals.query_embeddings)


def _priority(log: Log, items: pa.Table) -> NDArray[np.float64]:
    """[A] as `bucket_priority` has it for items without a history, on the scale of the items of the log."""
    available = pa.concat_tables([log.items.select(["available"]), items.select(["available"])])["available"]
    counts = log.item_counts.total(np.arange(len(available)))
    return bucket_priority(np.asarray(available.fill_null(True)), counts)[len(log.items) :]


def _drift(khqe: Khqe, num_fitted: int, added: Added) -> dict[str, float]:
    fitted = khqe.item_codes[:num_fitted]
    errors = (
        _errors(khqe, khqe.item_embeddings[:num_fitted], fitted),
        _errors(khqe, added.item_embeddings, added.item_codes),
    )
    return drift(fitted, added.item_codes, *errors, khqe.spec.rq_sizes, khqe.spec.opq_sizes)


def _errors(khqe: Khqe, embeddings: Tensor, codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """[N] squared distances of embeddings to what their codes decode to."""
    parts = zip(embeddings.split(65_536), torch.from_numpy(codes).split(65_536), strict=True)
    return np.concatenate([(part - khqe.codebook.decode(code)).square().sum(dim=1).double() for part, code in parts])


def _lists(codes: Tensor) -> Array:
    return pa.array(codes.tolist(), pa.list_(pa.int64()))
