"""Figures as SVG inside the page: its text is text, and ink and lines take the page's colours, light or dark."""

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from onesearch.report.elements import element

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
"""Okabe and Ito's, told apart by the colour-blind, less those that a light or a dark page would swallow."""

INK, LINE = "#010203", "#040506"
"""The colours of the page's text and lines: placeholders while a figure is drawn."""

_STYLE: dict[Any, Any] = {  # its keys are literals to matplotlib
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "grid.color", "xtick.color", "ytick.color"), LINE),
}
_CHROME = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", re.DOTALL)
_GROUP_ID = re.compile(r'<g id="[^"]*"')  # the same in every figure; what is referred to bears a hash
_SIZE = re.compile(r' (?:width|height)="[\d.]+pt"')


def svg(draw: "Callable[[Axes], None]", caption: str, width: float = 5.2, height: float = 3.4) -> Markup:
    """An HTML `figure`.

    Args:
        draw: draws on empty axes that have the page's style.
        caption: what there is to see, for those too who do not see it.
        width: in inches; the page sets the size, but text is 10 points of it.
        height: in inches.
    """
    import matplotlib  # slow to import, and only pictures need it
    from matplotlib.figure import Figure

    file = io.StringIO()
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": caption}):  # the same figure is the same text
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.subplots())
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    return element("figure", _inline(file.getvalue()), element("figcaption", caption))


def _inline(text: str) -> Markup:
    """A matplotlib file as part of a page: no prolog, no style that would leak, no size, the page's colours."""
    text = text[text.index("<svg") :]
    text = _SIZE.sub("", _GROUP_ID.sub("<g", _CHROME.sub("", text)), count=2)
    text = text.replace("<svg", '<svg aria-hidden="true"', 1)  # the caption says it
    return Markup(text.replace(INK, "currentColor").replace(LINE, "var(--line)"))
