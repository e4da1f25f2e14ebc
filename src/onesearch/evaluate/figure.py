"""The comparison as one picture: HR@10 with its 95% interval, a panel a slice, a line a system.

Where lists are judged by orders too, a hollow diamond beneath shows oNDCG@10: a system can sell more by fewer clicks.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onesearch.evaluate.compare import OURS, SLICES, Row
from onesearch.evaluate.orders import ORDERS_METRIC

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRIC = "HR@10"
OURS_COLOR, BASELINE_COLOR = "#0072B2", "#7F7F7F"  # blue and grey (Okabe and Ito): told apart without red and green
TITLES = {"all": "all searches", "unseen": "unseen queries", "returning": "returning shoppers", "new": "new shoppers"}


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write a PNG or SVG of HR@10 (and oNDCG@10, where there is one) per system; slices without a search are left out.

    Args:
        rows: of a comparison.
        path: file to write; its ending names the format.

    Raises:
        ValueError: there are no rows.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and only pictures need it
    from matplotlib.figure import Figure

    panels = {name: [row for row in rows if row.slice == name and row.metric == METRIC] for name in SLICES}
    panels = {name: part for name, part in panels.items() if part}
    if not panels:
        raise ValueError(f"There is nothing to draw: the comparison holds no {METRIC} row.")
    num_columns = 3 if len(panels) == 3 else min(2, len(panels))  # no gap in the grid
    num_lines = len(panels) // num_columns
    orders = {name: [row for row in rows if row.slice == name and row.metric == ORDERS_METRIC] for name in panels}
    height = (0.4 if any(orders.values()) else 0.3) * max(map(len, panels.values())) + 0.7  # of one panel, in inches
    figure = Figure(figsize=(4.2 * num_columns + 1.4, height * num_lines + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    # One scale for all panels: a slice that is harder for everybody must look so.
    axes = figure.subplots(num_lines, num_columns, sharex=True, sharey=True, squeeze=False).flat
    for axis, (name, part) in zip(axes, panels.items(), strict=True):
        _panel(axis, name, part)
        _diamonds(axis, part, orders[name])
    beneath = f", beneath it {ORDERS_METRIC} (◇)" if any(orders.values()) else ""
    figure.supxlabel(f"{METRIC}{beneath} with 95% bootstrap interval", fontsize=10)
    figure.savefig(path, dpi=160)


def _panel(axis: "Axes", name: str, rows: Sequence[Row]) -> None:
    axis.axvline(max(row.value for row in rows), color="0.75", linewidth=0.8, zorder=0)  # the best, to measure against
    for place, row in enumerate(rows):
        color = OURS_COLOR if row.system.startswith(OURS) else BASELINE_COLOR
        axis.plot([row.low, row.high], [place, place], color=color, linewidth=3, alpha=0.5, solid_capstyle="butt")
        axis.plot(row.value, place, marker="o", color=color, markersize=4)
        label = axis.annotate(f"{row.value:.3f}", (row.high, place), (4, 0), textcoords="offset points", va="center")
        label.set(
            fontsize=8, bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5}
        )  # the line of the best ends at it
    axis.set_title(f"{TITLES[name]} (n = {rows[0].num_searches:,})", fontsize=10)
    axis.set_yticks(range(len(rows)), [row.system for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.5)  # the first system on top
    axis.set_xlim(-0.02, 1.08)
    axis.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axis.grid(axis="x", color="0.93")
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(left=False)


def _diamonds(axis: "Axes", rows: Sequence[Row], orders: Sequence[Row]) -> None:
    """The second metric of each system, half a line beneath its first one, without a number."""
    place_of = {row.system: place + 0.36 for place, row in enumerate(rows)}
    for row in orders:
        color, place = OURS_COLOR if row.system.startswith(OURS) else BASELINE_COLOR, place_of[row.system]
        axis.plot([row.low, row.high], [place, place], color=color, linewidth=1.2, alpha=0.5, zorder=1)
        axis.plot(row.value, place, marker="D", color=color, markerfacecolor="white", markersize=3.5, zorder=2)
