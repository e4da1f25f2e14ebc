"""The comparison with the baselines: HR@10 and its 95% interval, a table a slice, a line a system."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from onesearch.report.elements import Cell, column, element, note, table
from onesearch.report.inputs import read_json
from onesearch.report.page import Section

METRIC = "HR@10"
SLICES = {"all": "All searches", "unseen": "Unseen queries", "returning": "Returning shoppers", "new": "New shoppers"}

Row = Mapping[str, Any]


class Scale(NamedTuple):
    """What all intervals are drawn on: a slice that is harder for everybody must look so."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Where a value lies, 0 to 1."""
        return (value - self.low) / ((self.high - self.low) or 1.0)


def section(run: Path) -> Section | None:
    """The rows of `RUN/compare.json`, in panels."""
    content = read_json(run / "compare.json")
    rows = [row for row in (content or {"rows": []})["rows"] if row["metric"] == METRIC]
    if not rows:
        return None
    scale = Scale(min(row["low"] for row in rows), max(row["high"] for row in rows))
    panels = [_panel(name, part, scale) for name in SLICES if (part := [row for row in rows if row["slice"] == name])]
    explained = note(
        f"{METRIC}: how often an item that was clicked is among the first ten; the best is bold. "
        f"Bars are 95% intervals, on one scale from {scale.low:.3f} to {scale.high:.3f}."
    )
    return Section("comparison", "Beside the baselines", explained + element("div", *panels, class_="cards"))


def _panel(name: str, rows: Sequence[Row], scale: Scale) -> Markup:
    figures = column([Cell.of(row["value"], ".3f", row["low"], row["high"]) for row in rows])
    lines = [(row["system"], _interval(row, scale), figure) for row, figure in zip(rows, figures, strict=True)]
    head = element("h4", SLICES[name], " ", element("small", f"{rows[0]['num_searches']:,} searches"))
    return element("article", head, table(("system", "interval", METRIC), lines), class_="card")


def _interval(row: Row, scale: Scale) -> Markup:
    """A bar from low to high, and a mark at the value."""
    color = "blue" if row["system"].startswith("onesearch") else "grey"
    low, value, high = (scale.share(row[name]) for name in ("low", "value", "high"))
    reach = element("span", class_=f"{color} reach", style=f"left:{low:.1%};width:{high - low:.1%}")
    mark = element("span", class_=f"{color} mark", style=f"left:{value:.1%}")
    return element("span", reach, mark, class_="interval", aria_hidden="true")
