"""`onesearch compare`: a whole run beside the baselines, as table, JSON and figure."""

from pathlib import Path

from rich.console import Console

from onesearch.evaluate.baselines import baselines
from onesearch.evaluate.compare import Comparison, compare
from onesearch.evaluate.dense import Dense
from onesearch.evaluate.figure import draw
from onesearch.evaluate.onesearch import trained_stages
from onesearch.evaluate.table import tables
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.log.text import item_texts


def compare_run(run: Path, num_beams: int, batch_size: int) -> Comparison:
    """Rank the test searches with every system; print tables, write `compare.json` and `compare.png` into the run."""
    log = Log.open(run / "log")
    khqe = Khqe.open(run)
    encoder = khqe.encoder.encoder  # without keywords: what the aligned encoder alone retrieves
    dense = Dense(encoder.embed(item_texts(log.items)).numpy(), lambda texts: encoder.embed(texts).numpy())
    rankers = [*baselines(log), dense, *trained_stages(run, khqe, num_beams, batch_size)]
    comparison = compare(rankers, log.contexts("test"), set(log.queries["query"].to_pylist()))
    for table in tables(comparison.rows):
        Console().print(table)
    comparison.write(run / "compare.json")
    draw(comparison.rows, run / "compare.png")
    return comparison
