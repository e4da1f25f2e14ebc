"""The comparison with the baselines: HR@10 with its interval, a table a slice, a line a system; what each step adds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from onesearch.report.elements import Cell, column, element, join, note, table
from onesearch.report.inputs import read_json
from onesearch.report.page import Section
from onesearch.report.studies import signed

METRIC, ORDERS_METRIC = "HR@10", "oNDCG@10"
STEP_METRICS = (METRIC, "MRR@10", ORDERS_METRIC)
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
    """The rows of `RUN/compare.json`, in panels, and the differences between successive steps."""
    content = read_json(run / "compare.json") or {"rows": [], "differences": []}
    rows = [row for row in content["rows"] if row["metric"] == METRIC]
    if not rows:
        return None
    scale = Scale(min(row["low"] for row in rows), max(row["high"] for row in rows))
    orders = {(row["slice"], row["system"]): row for row in content["rows"] if row["metric"] == ORDERS_METRIC}
    parts = {name: [row for row in rows if row["slice"] == name] for name in SLICES}
    panels = [_panel(name, part, orders, scale) for name, part in parts.items() if part]
    explained = note(
        f"{METRIC}: how often an item that was clicked is among the first ten; the best is bold. "
        f"Bars are 95% intervals, on one scale from {scale.low:.3f} to {scale.high:.3f}. ",
        content.get("orders"),
    )
    cards = element("div", *panels, class_="cards")
    return Section("comparison", "Beside the baselines", join([explained, cards, *_steps(content["differences"])]))


def _panel(name: str, rows: Sequence[Row], orders: Mapping[tuple[str, str], Row], scale: Scale) -> Markup:
    columns = {"interval": [_interval(row, scale) for row in rows]}
    columns[METRIC] = column([Cell.of(row["value"], ".3f", row["low"], row["high"]) for row in rows])
    found = [orders.get((name, row["system"])) for row in rows]
    if any(found):
        cells = [Cell.of(row["value"], ".3f", row["low"], row["high"]) if row else Cell(None) for row in found]
        columns[ORDERS_METRIC] = column(cells)
    lines = zip([row["system"] for row in rows], *columns.values(), strict=True)
    head = element("h4", SLICES[name], " ", element("small", f"{rows[0]['num_searches']:,} searches"))
    return element("article", head, table(("system", *columns), lines), class_="card")


def _steps(differences: Sequence[Row]) -> list[Markup]:
    """How far each of our systems lies above the step before it; nothing where there is a single step."""
    steps = [row for row in differences if row["slice"] == "all" and row["baseline"].startswith("onesearch")]
    if not steps:
        return []
    metrics = [metric for metric in STEP_METRICS if any(row["metric"] == metric for row in steps)]
    found = {(row["system"], row["baseline"], row["metric"]): row for row in steps}
    lines = [
        (f"{system} less {other}", *(_gain(found[system, other, metric]) for metric in metrics))
        for system, other in dict.fromkeys((row["system"], row["baseline"]) for row in steps)
    ]
    explained = note("Differences over all searches, bold where the 95% interval over users holds no 0.")
    return [element("h3", "What each step adds"), explained, table(("systems", *metrics), lines)]


def _gain(row: Row) -> Markup:
    is_told = row["low"] > 0 or row["high"] < 0
    reach = element("small", f"{signed(row['low'])} to {signed(row['high'])}")
    return element("strong" if is_told else "span", signed(row["value"])) + reach


def _interval(row: Row, scale: Scale) -> Markup:
    """A bar from low to high, and a mark at the value."""
    color = "blue" if row["system"].startswith("onesearch") else "grey"
    low, value, high = (scale.share(row[name]) for name in ("low", "value", "high"))
    reach = element("span", class_=f"{color} reach", style=f"left:{low:.1%};width:{high - low:.1%}")
    mark = element("span", class_=f"{color} mark", style=f"left:{value:.1%}")
    return element("span", reach, mark, class_="interval", aria_hidden="true")
