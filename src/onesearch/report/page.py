"""The page: title, contents, sections, and the style inside it, so that it is one file that needs no network."""

from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

from markupsafe import Markup

from onesearch.report.elements import element, join

_PAGE = Markup("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header><h1>{title}</h1>{contents}</header>
<main>
{sections}
</main>
</body>
</html>
""")


class Section(NamedTuple):
    """A part of the page."""

    id: str  # the anchor
    title: str
    html: Markup


def page(title: str, sections: Sequence[Section]) -> str:
    """The whole page as HTML.

    Args:
        title: of the page, plain text.
        sections: in the order of the page.
    """
    links = (element("li", element("a", section.title, href=f"#{section.id}")) for section in sections)
    contents = element("nav", element("ol", *links), aria_label="Contents")
    style = Markup(files("onesearch.report").joinpath("style.css").read_text("utf-8"))
    return _PAGE.format(title=title, style=style, contents=contents, sections=join(map(_written, sections)))


def _written(section: Section) -> Markup:
    return element("section", element("h2", section.title), section.html, id=section.id) + "\n"
