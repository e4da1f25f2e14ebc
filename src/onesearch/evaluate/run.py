"""`onesearch compare`: a whole run beside the baselines, as table, JSON and figure."""

from pathlib import Path

from rich.console import Console

from onesearch.evaluate.baselines import baselines
from onesearch.evaluate.compare import Comparison, compare
from onesearch.evaluate.dense import Dense
from onesearch.evaluate.figure import draw
from onesearch.evaluate.onesearch import steps, trained_stages
from onesearch.evaluate.orders import orders_of
from onesearch.evaluate.table import steps_table, tables
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.log.text import item_texts
from onesearch.serve.reranker import Reranker
from onesearch.serve.reranking import Reranking

WIDTH = 100
"""Columns that all tables fit into."""


def compare_run(run: Path, num_beams: int, batch_size: int, reranking: Reranking | None = None) -> Comparison:
    """Rank the test searches with every system; print tables, write `compare.json` and `compare.png` into the run."""
    log = Log.open(run / "log")
    khqe = Khqe.open(run)
    encoder = khqe.encoder.encoder  # without keywords: what the aligned encoder alone retrieves
    dense = Dense(encoder.embed(item_texts(log.items)).numpy(), lambda texts: encoder.embed(texts).numpy())
    judges = (run / "reward" / "manifest.json").is_file()
    reranker = Reranker.open(run, khqe, log, settings=reranking) if judges else None
    ours = trained_stages(run, khqe, num_beams, batch_size, reranker)
    seen, tests = set(log.queries["query"].to_pylist()), log.contexts("test")
    rankers = [*baselines(log), dense, *ours]
    comparison = compare(rankers, tests, seen, orders=orders_of(log), steps=steps(ours))
    show(comparison, _console())
    comparison.write(run / "compare.json")
    draw(comparison.rows, run / "compare.png")
    return comparison


def _console() -> Console:
    """The terminal; a file or pipe has no width that could cut a figure."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=max(console.width, WIDTH))


def show(comparison: Comparison, console: Console) -> None:
    """Print the tables."""
    for table in (*tables(comparison.rows), *steps_table(comparison.differences)):
        console.print(table)
    if comparison.orders:
        console.print(comparison.orders)
