"""HTML that cannot be malformed: an element closes itself, and what is not `Markup` is escaped on its way in."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup


def element(name: str, *children: str | None, **attributes: str) -> Markup:
    """`<name attributes>children</name>`; `class_` is written class, `aria_label` aria-label; None is nothing."""
    written = [Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()]
    return Markup("<{}{}>{}</{}>").format(name, join(written), join(child for child in children if child), name)


def join(parts: Iterable[str]) -> Markup:
    """Parts one after another."""
    return Markup("").join(parts)


def note(*children: str | None) -> Markup:
    """A sentence that explains."""
    return element("p", *children, class_="note")


def bar(share: float, color: str = "blue") -> Markup:
    """A bar over a share of its place, 0 to 1; the figure stands beside it."""
    return element("span", element("span", class_=color, style=f"width:{share:.1%}"), class_="bar", aria_hidden="true")


def table(header: Sequence[str], *groups: Iterable[Sequence[str]], class_: str = "figures") -> Markup:
    """A table that scrolls in its own box, with the keyboard too, where a phone is narrower.

    Args:
        header: names of the columns.
        groups: of rows, set apart by a line; the first cell of a row names it.
        class_: `figures` sets all cells but the first to the right.
    """
    head = element("thead", element("tr", *(element("th", cell, scope="col") for cell in header)))
    bodies = (element("tbody", *map(_row, rows)) for rows in groups)
    whole = element("table", head, *bodies, class_=class_)
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=f"Table by {header[0]}")


def _row(cells: Sequence[str]) -> Markup:
    return element("tr", element("th", cells[0], scope="row"), *(element("td", cell) for cell in cells[1:]))


class Cell(NamedTuple):
    """A figure as it is printed; None where there is none."""

    value: float | None
    printed: str = "–"
    interval: str = ""

    @classmethod
    def of(cls, value: float | None, form: str, low: float | None = None, high: float | None = None) -> "Cell":
        """A figure in a format, with the ends of its interval where it has one."""
        if value is None:
            return cls(None)
        return cls(value, f"{value:{form}}", "" if low is None or high is None else f"{low:{form}}–{high:{form}}")


def column(cells: Sequence[Cell]) -> list[Markup]:
    """A column whose largest figure is bold; those that are printed alike are all best."""
    best = max((cell for cell in cells if cell.value is not None), key=lambda cell: cell.value or 0.0, default=None)
    return [
        element("strong" if best and cell.printed == best.printed else "span", cell.printed)
        + (element("small", cell.interval) if cell.interval else "")
        for cell in cells
    ]
