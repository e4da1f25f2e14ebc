"""The doctor's findings, and the table of an ablation, in the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from onesearch.metrics.doctor import Diagnosis
from onesearch.report.differences import KINDS, METRIC, part

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

STUDY_METRICS = (METRIC, "MRR@10", "oNDCG@10")
"""The last one only where the log knows of orders."""


def study_tables(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Variants of a study, a line each; every table fits into 80 columns.

    How codes are used, where that is varied; what the generators find, and how far it lies from the first variant's;
    that difference by kind of search.
    """
    found = [row for row in rows if row["metrics"]]
    is_tokenizer_varied = any(row["figures"] != rows[0]["figures"] for row in rows) or not found
    tables = [_codes_used(rows)] if rows and is_tokenizer_varied else []
    if not found:
        return tables
    metrics = [name for name in STUDY_METRICS if name in found[0]["metrics"]]
    overall = {name: [row["metrics"][name] for row in found] for name in metrics}
    gains = {f"Δ {name}": [row["differences"].get(name) for row in found] for name in metrics}
    are_few = len(metrics) < len(STUDY_METRICS)
    tables += [_figures(found, overall | gains)] if are_few else [_figures(found, part) for part in (overall, gains)]
    kinds = [kind for kind in KINDS if kind != "all" and part(found[0], kind)]
    if kinds and len(found) > 1:
        by_kind = {
            KINDS[kind]: [(part(row, kind) or row)["differences"].get(METRIC) for row in found] for kind in kinds
        }
        tables.append(_figures(found, by_kind, f"Δ {METRIC}"))
    tables[-1].caption = Text("Beneath a figure: its 95% interval over users, [range of several seeds].")
    return tables


def _codes_used(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _variants(rows, STUDY_FIGURES.values())
    for row in rows:
        used = row["figures"]
        table.add_row(row["variant"], *(f"{100 * used[name]:.2f}" if name in used else "–" for name in STUDY_FIGURES))
    return table


def _figures(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Sequence[Any]], first: str = "variant") -> Table:
    """A table of figures; differences bear a sign."""
    table = _variants(rows, columns, first)
    is_difference = "Δ" in first
    forms = ["+.3f" if is_difference or "Δ" in name else ".3f" for name in columns]
    for row, *found in zip(rows, *columns.values(), strict=True):
        table.add_row(row["variant"], *map(_figure, found, forms))
    return table


def _variants(rows: Sequence[Mapping[str, Any]], columns: Iterable[str], first: str = "variant") -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.add_column(first, no_wrap=True, min_width=max((len(row["variant"]) for row in rows), default=0))
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _figure(found: Mapping[str, Any] | None, form: str) -> Text:
    """A figure over its interval, over the range of its seeds where there are several."""
    if found is None:
        return Text("–")
    dash = " to " if "+" in form else "–"
    lines = [f"{found['value']:{form}}", f"{found['low']:{form}}{dash}{found['high']:{form}}"]
    if len(found["seeds"]) > 1:
        lines.append(f"[{min(found['seeds']):{form}}{dash}{max(found['seeds']):{form}}]")
    return Text("\n".join(lines).replace("0.", "."))  # narrower
