"""Raw log → prepared log: read, validate, split, write, derive; one folder that everything else starts from."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from onesearch.artifacts import writing
from onesearch.log import derive
from onesearch.log.report import Report, rejected_table
from onesearch.log.schema import MICROSECONDS_OF_DAY, Tables
from onesearch.log.sources.source import Source
from onesearch.log.split import Split, assign
from onesearch.log.validation import validate

KIND = "log"
"""Kind of the artefact."""


def prepare(source: Source, folder: Path, split: Split = Split(), max_history: int = 1000) -> Report:  # noqa: B008
    """Write the prepared log of `source` into `folder`.

    Args:
        source: where the log comes from.
        folder: the artefact's folder, such as runs/NAME/log; an older one is replaced when the new one is whole.
        split: where training ends.
        max_history: longest click and order sequence of a search.

    Raises:
        LogError: nothing sensible can be made of the log; the message says where the fault lies.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def step(text: str) -> None:
            progress.update(task, description=text)
            if not progress.console.is_terminal:  # a log file shows no spinner
                progress.console.print(f"prepare: {text}")

        task = progress.add_task("", total=None)
        return _prepare(source, Path(folder), split, max_history, step)


def _prepare(source: Source, folder: Path, split: Split, max_history: int, step: Callable[[str], None]) -> Report:
    step("reading")
    raw = source.read()
    step("validating")
    tables, report, rejected = validate(raw)
    tables["searches"], report.split = assign(tables["searches"], split)
    config = {"source": type(source).__name__, "split": _plain(split), "max_history": max_history}
    facts: dict[str, object] = {}
    with writing(folder, KIND, config=config, facts=facts) as temporary:
        step("writing the canonical tables")
        for name, table in {**tables, "rejected": rejected_table(rejected)}.items():
            _write(table, temporary / f"{name}.parquet")
        step("deriving histories and counts")
        for name, table in derived(tables, report.split["test_from_us"], max_history).items():
            _write(table, temporary / f"{name}.parquet")
        facts.update(report.facts())
    return report


def derived(tables: Tables, boundary: int, max_history: int) -> Tables:
    """The derived tables by name.

    Args:
        tables: clean canonical tables with their split.
        boundary: the test's start in microseconds since 1970.
        max_history: longest click and order sequence of a search.
    """
    searches, events = (ibis.memtable(_stamped(tables[name])) for name in ("searches", "events"))
    users = ibis.memtable(tables["users"])
    connection = ibis.duckdb.connect()
    query_item_days = connection.to_pyarrow(derive.query_item_days(searches, boundary))
    contexts = derive.contexts(searches, events, users, ibis.memtable(query_item_days), max_history)
    return {
        "queries": connection.to_pyarrow(derive.queries(searches, boundary)),
        "item_days": connection.to_pyarrow(derive.item_days(searches, events, boundary)),
        "query_item_days": query_item_days,
        "contexts": connection.to_pyarrow(contexts),
    }


def _stamped(table: pa.Table) -> pa.Table:
    us = table["time"].cast(pa.int64())
    day = np.asarray(us, np.int64) // MICROSECONDS_OF_DAY  # floors before 1970 too, as integer division in SQL does not
    return table.append_column("us", us).append_column("day", pa.array(day))


def _write(table: pa.Table, path: Path) -> None:
    # A flipped bit goes unnoticed in plain Parquet: page checksums catch it where it happens.
    pq.write_table(table, path, write_page_checksum=True, compression="zstd")


def _plain(split: Split) -> dict[str, object]:
    return {name: str(value) if hasattr(value, "isoformat") else value for name, value in asdict(split).items()}
