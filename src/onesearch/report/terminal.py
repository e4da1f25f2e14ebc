"""The doctor's findings, and the table of an ablation, in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from onesearch.metrics.doctor import Diagnosis

COLORS = {"collapsed": "bold red", "poor": "red", "watch": "yellow"}


def show(diagnosis: Diagnosis, console: Console | None = None) -> None:
    """Print figures, the largest buckets with their titles, and the verdict."""
    out = console or Console(markup=False, highlight=False)
    out.print(figures_table(diagnosis.figures, len(diagnosis.usage)))
    for bucket in diagnosis.largest:
        out.print(f"{bucket.num_items} items share {tuple(bucket.sid)}:", style="bold")
        for title in bucket.titles:
            out.print(f"  {title}", overflow="ellipsis", no_wrap=True)
    out.print(diagnosis.judgement, style="green" if not diagnosis.advice else "bold")
    for advice in diagnosis.advice:
        out.print(f"• {advice.sentence}", style=COLORS[advice.grade])


def figures_table(figures: dict[str, float], num_layers: int) -> Table:
    """Whole-codebook figures, then a line a layer."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("figure", "value"):
        table.add_column(name, justify="right" if name == "value" else "left")
    for name, value in figures.items():
        if not any(name.endswith(f"_l{layer + 1}") and name.split("_")[0] in PER_LAYER for layer in range(num_layers)):
            table.add_row(name, f"{value:.4g}" if value != int(value) else f"{int(value):,}")
    for layer in range(1, num_layers + 1):
        values = ", ".join(f"{name} {figures[f'{name}_l{layer}']:.3g}" for name in PER_LAYER)
        table.add_row(f"level {layer}", values)
    return table


PER_LAYER = ("perplexity", "dead", "gini")
"""Figures that every layer has."""


def show_arrivals(version: int, num_known: int, drift: Mapping[str, float], advice: Sequence[str]) -> None:
    """Print what became of new items."""
    out = Console(markup=False, highlight=False)
    if num_known:
        out.print(f"{num_known} items have a SID already, and keep it.")
    if drift:
        out.print(figures_table(dict(drift), 0))
    out.print(f"Version {version} of the catalogue is served.", style="green")
    for sentence in advice:
        out.print(f"• {sentence}", style="yellow")


STUDY_FIGURES = {"cur_l1": "CUR L1", "cur_l1_l2": "L1·L2", "cur_l1_l2_l3": "total", "icr_items": "ICR"}
"""In percent, as the paper prints them."""


def study_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A line a variant: how its codes are used, and what its generator finds; the first metric with its interval."""
    metrics = list(rows[0]["metrics"]) if rows else []
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    names = [row["variant"] for row in rows]
    table.add_column("variant", no_wrap=True, min_width=max(map(len, names), default=0))
    for name in (*STUDY_FIGURES.values(), *metrics):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        figures = [f"{100 * row['figures'][name]:.2f}" if name in row["figures"] else "–" for name in STUDY_FIGURES]
        found = [f"{row['metrics'][name]['value']:.3f}" for name in metrics]
        if metrics:
            found[0] += " ({low:.3f}–{high:.3f})".format(**row["metrics"][metrics[0]])
        table.add_row(row["variant"], *figures, *found)
    return table
