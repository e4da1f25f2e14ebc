"""The comparison as tables for people: one a slice, a line a system, the best figure of a column in bold."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from onesearch.evaluate.compare import METRICS, SLICES, Row

INTERVAL_OF = "HR@10"
"""The metric that shows its interval: one is enough to see how far figures can be trusted, five would hide them."""


def tables(rows: Sequence[Row]) -> list[Table]:
    """A rich table for each slice that has searches."""
    members = {name: [row for row in rows if row.slice == name] for name in SLICES}
    return [_table(name, part) for name, part in members.items() if part]


def _table(name: str, rows: Sequence[Row]) -> Table:
    # Without inner lines and never cut: every figure and the whole of every name fit into 80 columns.
    title = f"{name}: {rows[0].num_searches:,} searches"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("system", no_wrap=True, min_width=max(len(row.system) for row in rows))
    for metric in METRICS:
        table.add_column(metric, justify="right", no_wrap=True)
    best = {metric: max(row.value for row in rows if row.metric == metric) for metric in METRICS}
    for system in dict.fromkeys(row.system for row in rows):
        figures = {row.metric: row for row in rows if row.system == system}
        table.add_row(system, *(_cell(figures[metric], best[metric]) for metric in METRICS))
    return table


def _cell(row: Row, best: float) -> str:
    figure = f"{row.value:.3f}"
    bold = f"[bold]{figure}[/bold]" if figure == f"{best:.3f}" else figure  # equal as printed: both are best
    return f"{bold} ({row.low:.3f}–{row.high:.3f})" if row.metric == INTERVAL_OF else bold
