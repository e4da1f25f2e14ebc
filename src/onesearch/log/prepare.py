"""Raw log → prepared log: read, validate, split, write, derive; one folder that everything else starts from."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from onesearch.artifacts import writing
from onesearch.log import as_of, derive
from onesearch.log.coded import Coded, code
from onesearch.log.counts import TOTALS
from onesearch.log.mapped_files import ROWS, write_mapped
from onesearch.log.report import LogError, Report, rejected_table
from onesearch.log.schema import Tables
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
    del raw
    tables["searches"], report.split = assign(tables["searches"], split)
    config = {"source": type(source).__name__, "split": _plain(split), "max_history": max_history}
    if source.settings:
        config["settings"] = source.settings
    facts: dict[str, object] = {}
    with writing(folder, KIND, config=config, facts=facts) as temporary:
        step("writing the canonical tables")
        for name, table in {**tables, "rejected": rejected_table(rejected)}.items():
            _write(table, temporary / f"{name}.parquet")
        step("deriving histories and counts")
        _derive(tables, report.split["test_from_us"], temporary)
        facts.update(report.facts())
    return report


def _derive(tables: Tables, boundary: int, folder: Path) -> None:
    """Write the derived tables.

    Args:
        tables: clean canonical tables with their split.
        boundary: the test's start in microseconds since 1970.
        folder: of the log.
    """
    with TemporaryDirectory(prefix=".spill-", dir=folder.parent) as spill:  # beside the log, where there must be room
        connection = ibis.duckdb.connect(temp_directory=spill)
        try:
            _derive_from(code(tables), tables["users"], boundary, folder, connection)
        finally:
            connection.disconnect()


def _derive_from(coded: Coded, people: pa.Table, boundary: int, folder: Path, connection: ibis.BaseBackend) -> None:
    profiles = people.select(["user_id", "gender", "age_bucket", "province"])
    # The engine's own tables may be larger than memory.
    searches, events, items, shoppers, names, users = (
        connection.create_table(name, ibis.memtable(table).select(table.column_names), temp=True)
        for name, table in {**coded._asdict(), "users": profiles}.items()
    )
    num_items, num_queries = len(coded.items), len(coded.queries)
    del coded
    counted = derive.queries(searches, boundary)
    _write(connection.to_pyarrow(derive.named_queries(counted, names)), folder / "queries.parquet")
    daily = connection.create_table("daily_counts", derive.daily_counts(searches, boundary), temp=True)
    pairs = connection.create_table("query_item_days", derive.query_item_days(daily), temp=True)
    days = connection.create_table("item_days", derive.item_days(daily, events, boundary), temp=True)

    def write(file: str, schema: pa.Schema, rows: ibis.Table) -> None:
        write_mapped(folder / as_of.FOLDER / file, schema, _batches(connection, rows))

    (folder / as_of.FOLDER).mkdir()
    write("searches.arrow", as_of.SEARCHES, derive.contexts(searches, events, pairs, items))
    write("shoppers.arrow", as_of.SHOPPERS, derive.shoppers(searches, events, users, shoppers))
    write("queries.arrow", as_of.QUERIES, derive.first_days(pairs, names))
    for kind, rows in derive.behaviours(searches, events).items():
        write(as_of.behaviours_file(kind), as_of.BEHAVIOURS[kind], rows)
    for file, totals, key in (
        ("item_days.arrow", days, days.item.cast("int64")),
        ("query_item_days.arrow", pairs, pairs.query.cast("int64") * num_items + pairs.item),
    ):
        first_day, num_days = _days(connection, totals)
        scale = {"num_days": num_days, "first_day": first_day, "num_items": num_items}
        if num_items * num_queries * num_days >= 2**63:
            raise LogError(
                f"{num_items:,} items, {num_queries:,} queries and {num_days:,} days cannot be numbered "
                "together: leave the oldest searches out."
            )
        stamp = key * num_days + totals.day - first_day
        schema = TOTALS.with_metadata({name: str(value) for name, value in scale.items()})
        write(file, schema, derive.stamped(totals, stamp))


def _batches(connection: ibis.BaseBackend, rows: ibis.Table) -> Iterator[pa.RecordBatch]:
    """Rows of the engine's own tables, as they come."""
    # `to_pyarrow_batches` of Ibis 12 calls what DuckDB 2 has under another name.
    return iter(connection.con.sql(connection.compile(rows)).to_arrow_reader(ROWS))


def _days(connection: ibis.BaseBackend, totals: ibis.Table) -> tuple[int, int]:
    """The first day of running totals, and how many days there are up to the one after their last."""
    (row,) = connection.to_pyarrow(totals.agg(first=totals.day.min(), last=totals.day.max())).to_pylist()
    return (row["first"], row["last"] - row["first"] + 2) if row["first"] is not None else (0, 1)


def _write(table: pa.Table, path: Path) -> None:
    # A flipped bit goes unnoticed in plain Parquet: page checksums catch it where it happens.
    pq.write_table(table, path, write_page_checksum=True, compression="zstd")


def _plain(split: Split) -> dict[str, object]:
    return {name: str(value) if hasattr(value, "isoformat") else value for name, value in asdict(split).items()}
