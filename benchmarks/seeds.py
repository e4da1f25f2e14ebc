"""What chance does: runs of one recipe on one log that differ by `--seed` alone, side by side.

    for seed in 0 1 2; do
        onesearch pipeline --run runs/demo-$seed --seed $seed && onesearch compare --run runs/demo-$seed
    done
    python -m benchmarks.seeds runs/demo-0 runs/demo-1 runs/demo-2 [--slice all]

Of each system its mean over the runs and the least and the most of them; of each step from one stage to the next the
same, and in how many runs its own interval (bootstrap over users) lies beyond 0. Of the reward model and of what it was
compared with, the towers' AUC and GAUC on the test split, where `onesearch test` was run.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from onesearch.artifacts import read_manifest

METRICS = ("HR@10", "MRR@10", "oNDCG@10")


def spread(values: Sequence[float], signed: bool = False) -> str:
    """Mean, least and most."""
    figure = "{:+.3f}" if signed else "{:.3f}"
    return f"{figure} ({figure}–{figure})".format(mean(values), min(values), max(values)) if values else ""


def systems(comparisons: Sequence[dict[str, Any]], runs: Sequence[Path], which: str) -> Table:
    """A row a system."""
    table = Table(
        "system", *METRICS, "valid SIDs of free beams", title=f"{len(runs)} seeds, {which} searches of the test"
    )
    names = dict.fromkeys(row["system"] for comparison in comparisons for row in comparison["rows"])
    for name in names:
        cells = [spread(list(values(comparisons, "rows", which, metric, system=name))) for metric in METRICS]
        table.add_row(name, *cells, spread(list(valid_sids(runs, name))))
    return table


def valid_sids(runs: Sequence[Path], system: str) -> Iterable[float]:
    """The share of unconstrained beams' SIDs that exist, as the stage's last validation saw it."""
    stage = system.removeprefix("onesearch-").replace("-", "_")
    for run in runs:
        for folder in (run / stage, run / f"sft_{stage}"):
            if folder.is_dir() and system != stage:
                yield from (
                    figure for name, figure in walk(read_manifest(folder).facts) if name.endswith("/valid_sids")
                )


def walk(facts: dict[str, Any]) -> Iterable[tuple[str, float]]:
    """Figures of nested facts."""
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from walk(value)
        elif isinstance(value, int | float):
            yield name, value


def values(comparisons: Sequence[dict[str, Any]], part: str, which: str, metric: str, **what: str) -> Iterable[float]:
    """One figure a run."""
    wanted = {"slice": which, "metric": metric} | what
    for comparison in comparisons:
        yield from (row["value"] for row in comparison[part] if wanted.items() <= row.items())


def steps(comparisons: Sequence[dict[str, Any]], which: str) -> Table:
    """A row a step from one stage to the next."""
    table = Table("step", *METRICS, title="Steps; in brackets how many runs lie beyond their own interval")
    rows = [[row for row in comparison["differences"] if row["slice"] == which] for comparison in comparisons]
    pairs = dict.fromkeys(
        (row["system"], row["baseline"])
        for row in rows[0]
        if row["system"].startswith("onesearch") and row["baseline"].startswith("onesearch")
    )
    for system, baseline in pairs:
        cells = []
        for metric in METRICS:
            found = [
                row
                for each in rows
                for row in each
                if (row["system"], row["baseline"], row["metric"]) == (system, baseline, metric)
            ]
            beyond = sum(row["low"] > 0 or row["high"] < 0 for row in found)
            cells.append(f"{spread([row['value'] for row in found], signed=True)} [{beyond}/{len(found)}]")
        table.add_row(f"{baseline} → {system}".replace("onesearch-", ""), *cells)
    return table


def towers(runs: Sequence[Path]) -> Table:
    """A row a reward model and tower, where they were tested."""
    table = Table("reward model", "tower", "AUC", "GAUC", title="Reward models on the test split")
    names = sorted({path.name.removesuffix("_test.json") for run in runs for path in run.glob("reward*_test.json")})
    for name in names:
        paths = [path for run in runs if (path := run / f"{name}_test.json").is_file()]
        tested = [json.loads(path.read_text("utf-8"))["towers"] for path in paths]
        for tower in tested[0]:
            figures = (spread([each[tower][metric] for each in tested]) for metric in ("auc", "gauc"))
            table.add_row(f"{name}, {len(paths)} seeds", tower, *figures)
    return table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--slice", default="all")
    options = parser.parse_args()
    comparisons = [json.loads((run / "compare.json").read_text("utf-8")) for run in options.runs]
    console = Console(markup=False, width=140)
    console.print(systems(comparisons, options.runs, options.slice))
    console.print(steps(comparisons, options.slice))
    console.print(towers(options.runs))


if __name__ == "__main__":
    main()
