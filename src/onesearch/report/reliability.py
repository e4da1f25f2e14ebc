"""Reliability diagrams: what was predicted against what came true, a panel a tower."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onesearch.metrics.calibration import Reliability, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOR = "#0072B2"  # blue (Okabe and Ito)
TITLES = {"ctr": "CTR: click | shown", "cvr": "CVR: order | click", "ctcvr": "CTCVR: click and order | shown"}


def draw(towers: Mapping[str, tuple[Reliability, Mapping[str, float]]], path: Path) -> None:
    """Write a PNG or SVG.

    Args:
        towers: bins of equal counts of each tower, with its figures (`auc`, `ece`), by name.
        path: file to write; its ending names the format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and only pictures need it
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.9 * len(towers) + 0.3, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(towers), squeeze=False).flat
    for axis, (name, (bins, figures)) in zip(axes, towers.items(), strict=True):
        _panel(axis, bins)
        axis.set_title(f"{TITLES.get(name, name)}\nAUC {figures['auc']:.3f}, ECE {figures['ece']:.4f}", fontsize=10)
    axes[0].set_ylabel("came true, 95% interval")
    figure.supxlabel("predicted, mean of a tenth of the cases each (log scale)", fontsize=10)
    figure.savefig(path, dpi=160)


def _panel(axis: "Axes", bins: Reliability) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = wilson(bins.observed, bins.num)
    floor = 0.5 * min(bins.predicted.min(), np.where(bins.observed > 0, bins.observed, np.inf).min())
    floor, ceiling = max(floor, 1e-5), min(1.0, 2 * max(bins.predicted.max(), high.max()))
    axis.plot([floor, ceiling], [floor, ceiling], color="0.6", linewidth=1, linestyle="--", zorder=0)
    axis.vlines(bins.predicted, low.clip(floor), high, color=COLOR, linewidth=3, alpha=0.4)
    seen: Any = bins.observed > 0  # a log scale has no place for none: its interval alone is drawn
    axis.plot(bins.predicted[seen], bins.observed[seen], marker="o", color=COLOR, markersize=4, linewidth=0)
    axis.set(xscale="log", yscale="log", xlim=(floor, ceiling), ylim=(floor, ceiling), box_aspect=1)
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        scale.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g}%"))
        scale.set_minor_formatter(NullFormatter())
    axis.grid(color="0.92", linewidth=0.6)
    axis.tick_params(labelsize=8)
