"""The comparison as tables for people: one a slice, a line a system; then what each step adds to the one before."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table

from onesearch.evaluate.compare import ANONYMOUS, OURS, SLICES, Difference, Row
from onesearch.evaluate.orders import ORDERS_METRIC

INTERVAL_OF = "HR@10"
"""The metric that shows its interval: one is enough to see how far figures can be trusted, six would hide them."""

STEP_METRICS = (INTERVAL_OF, "MRR@10", ORDERS_METRIC)


def tables(rows: Sequence[Row]) -> list[Table]:
    """A rich table for each slice that has searches; the best figure of a column is bold."""
    members = {name: [row for row in rows if row.slice == name] for name in SLICES}
    return [_table(name, part) for name, part in members.items() if part]


def steps_table(differences: Sequence[Difference]) -> list[Table]:
    """How far each of our systems lies above the step before it, over all searches; nothing where there is one step."""
    steps = [row for row in differences if row.slice == "all" and row.baseline.startswith(OURS)]
    if not steps:
        return []
    metrics = [metric for metric in STEP_METRICS if any(row.metric == metric for row in steps)]
    table = _empty("what each step adds: all searches", ("system", "less"), metrics)
    for system, other in dict.fromkeys((row.system, row.baseline) for row in steps):
        found = {row.metric: row for row in steps if (row.system, row.baseline) == (system, other)}
        less = "itself, not told who asks" if other == system + ANONYMOUS else _short(other)
        table.add_row(_short(system), less, *(_gain(found[metric]) for metric in metrics))
    table.caption = "Beneath a difference: its 95% interval over users; bold where that holds no 0."
    return [table]


def _table(name: str, rows: Sequence[Row]) -> Table:
    num_judged = {row.metric: row.num_searches for row in rows}
    headers = {
        metric: metric if count == rows[0].num_searches else f"{metric} (n={count:,})"
        for metric, count in num_judged.items()
    }
    table = _empty(f"{name}: {rows[0].num_searches:,} searches", ("system",), headers.values())
    table.columns[0].min_width = max(len(row.system) for row in rows)
    best = {metric: max(row.value for row in rows if row.metric == metric) for metric in headers}
    for system in dict.fromkeys(row.system for row in rows):
        figures = {row.metric: row for row in rows if row.system == system}
        table.add_row(system, *(_cell(figures[metric], best[metric]) for metric in headers))
    return table


def _empty(title: str, names: Iterable[str], figures: Iterable[str]) -> Table:
    """Without inner lines and never cut: every figure and the whole of every name fit into 80 columns, 90 with orders.

    Args:
        title: stands above.
        names: columns of words.
        figures: columns of numbers.
    """
    table = Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for name in names:
        table.add_column(name, no_wrap=True)
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _cell(row: Row, best: float) -> str:
    figure = f"{row.value:.3f}"
    bold = f"[bold]{figure}[/bold]" if figure == f"{best:.3f}" else figure  # equal as printed: both are best
    return f"{bold} ({row.low:.3f}–{row.high:.3f})" if row.metric == INTERVAL_OF else bold


def _gain(row: Difference) -> str:
    figure = f"{row.value:+.3f}"
    bold = f"[bold]{figure}[/bold]" if row.low > 0 or row.high < 0 else figure
    return f"{bold}\n{row.low:+.3f} to {row.high:+.3f}"


def _short(system: str) -> str:
    return system.removeprefix(f"{OURS}-")
