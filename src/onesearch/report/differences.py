"""How far the variants of a study lie from the first one, as a figure: a line a variant, a mark a kind of search."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from onesearch.report.charts import COLORS, INK, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRIC = "HR@10"
KINDS = {"all": "all searches", "returning": "returning shoppers", "new": "new shoppers", "unseen": "unseen queries"}
"""Slices of the searches, in the order in which they are shown."""

Row = Mapping[str, Any]


def part(row: Row, kind: str) -> Row | None:
    """The averages of a variant over a kind of search; None where there is no such search."""
    found: Row | None = row if kind == "all" else row["slices"].get(kind)
    return found


def compared(rows: Sequence[Row]) -> list[Row]:
    """The variants that are compared with the first one."""
    return [row for row in rows if METRIC in row.get("differences", {})]


def figure(rows: Sequence[Row]) -> Markup:
    """The differences as an HTML `figure`."""
    return svg(
        lambda axes: draw(axes, rows),
        f"{METRIC} less that of “{rows[0]['variant']}” on the same searches, with 95% intervals. Believe a difference "
        "where the interval and the faint dots, several seeds, all lie on one side of the dotted line.",
        width=6.4,
        height=_height(rows),
    )


def write_picture(rows: Sequence[Row], path: Path) -> None:
    """Write the differences as a PNG or SVG; where there are none, an older picture goes.

    Args:
        rows: of a study's table.
        path: file to write; its ending names the format.
    """
    if not compared(rows):
        path.unlink(missing_ok=True)
        return
    from matplotlib import rc_context  # slow to import, and only pictures need it
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"axes.spines.top": False, "axes.spines.right": False, "grid.color": "0.9"}):
        picture = Figure(figsize=(7.2, _height(rows)), layout="constrained")
        FigureCanvasAgg(picture)
        draw(picture.subplots(), rows)
        picture.savefig(path, dpi=160)


def draw(axes: "Axes", rows: Sequence[Row]) -> None:
    """Draw on empty axes.

    Args:
        axes: of a figure that is `_height` high.
        rows: of a study's table, the first one being what the others are compared with.
    """
    variants = compared(rows)
    kinds = [kind for kind in KINDS if any(part(row, kind) for row in variants)]
    axes.axvline(0, color=INK, linewidth=0.8, linestyle=":", zorder=0)
    for number, kind in enumerate(kinds):
        shift = 0.7 * ((number + 0.5) / len(kinds) - 0.5)  # kinds of a variant below one another
        found = [(place + shift, part(row, kind)) for place, row in enumerate(variants)]
        _marks(axes, [(place, row["differences"][METRIC]) for place, row in found if row], kind, COLORS[number])
    axes.set_yticks(range(len(variants)), [row["variant"] for row in variants])
    axes.set_ylim(len(variants) - 0.5, -0.5)  # the first variant on top
    axes.tick_params(left=False)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.2f}" if value else "0")
    axes.set_xlabel(f"{METRIC} less that of “{rows[0]['variant']}”")
    axes.grid(axis="x", linewidth=0.6)
    axes.legend(fontsize=9, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)


def _marks(axes: "Axes", figures: Sequence[tuple[float, Row]], kind: str, color: str) -> None:
    """Intervals of one kind of search, a place and a figure each; beside them the seeds, where there are several."""
    for place, found in figures:
        axes.plot([found["low"], found["high"]], [place, place], color=color, linewidth=2.5, alpha=0.6)
        if len(found["seeds"]) > 1:
            axes.plot(found["seeds"], [place] * len(found["seeds"]), ".", color=color, alpha=0.4, markersize=4)
    values = [found["value"] for _, found in figures]
    axes.plot(values, [place for place, _ in figures], "o", color=color, markersize=5, label=KINDS[kind])


def _height(rows: Sequence[Row]) -> float:
    """Inches: room for each variant, and for axis and legend."""
    return 0.75 * len(compared(rows)) + 1.3
