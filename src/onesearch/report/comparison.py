"""The comparison with the baselines: HR@10 and its 95% interval, a table a slice, a line a system."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from onesearch.report.elements import Cell, column, element, join, note, table
from onesearch.report.inputs import read_json
from onesearch.report.page import Section

METRIC = "HR@10"
SLICES = {"all": "All searches", "unseen": "Unseen queries", "returning": "Returning shoppers", "new": "New shoppers"}


def section(run: Path) -> Section | None:
    """The rows of `RUN/compare.json`, in panels."""
    content = read_json(run / "compare.json")
    if content is None:
        return None
    rows = [row for row in content["rows"] if row["metric"] == METRIC]
    panels = [_panel(name, part) for name in SLICES if (part := [row for row in rows if row["slice"] == name])]
    explained = note(f"{METRIC}: how often an item that was clicked is among the first ten. Bars are 95% intervals.")
    return Section("comparison", "Beside the baselines", explained + element("div", *panels, class_="cards"))


def _panel(name: str, rows: list[dict[str, Any]]) -> Markup:
    figures = column([Cell.of(row["value"], ".3f", row["low"], row["high"]) for row in rows])
    lines = [(row["system"], _interval(row), figure) for row, figure in zip(rows, figures, strict=True)]
    head = element("h4", SLICES[name], " ", element("small", f"{rows[0]['num_searches']:,} searches"))
    return element("article", head, table(("system", "from 0 to 1", METRIC), lines), class_="card")


def _interval(row: dict[str, Any]) -> Markup:
    """A bar from low to high and a point, on a scale from 0 to 1 that all panels share."""
    color = "blue" if row["system"].startswith("onesearch") else "grey"
    width = f"left:{row['low']:.1%};width:{row['high'] - row['low']:.1%}"
    marks = (
        element("span", class_=f"{color} reach", style=width),
        element("span", class_=f"{color} point", style=f"left:{row['value']:.1%}"),
    )
    return element("span", join(marks), class_="interval", aria_hidden="true")
