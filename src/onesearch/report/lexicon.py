"""The core keywords: for each attribute type, those that are seen and asked for most."""

import math
from pathlib import Path

from markupsafe import Markup

from onesearch.keywords.lexicon import Keyword, Lexicon
from onesearch.report.elements import bar, element, note
from onesearch.report.page import Section
from onesearch.types import ATTRIBUTE_TYPES

SHOWN = 10
"""Keywords of a type."""


def section(run: Path) -> Section | None:
    """A card for each type that has keywords."""
    path = run / "quantizer" / "lexicon.json"
    if not path.is_file():
        return None
    keywords = Lexicon.load(path).keywords
    by_type = {type_: [keyword for keyword in keywords if keyword.type == type_] for type_ in ATTRIBUTE_TYPES}
    most = max((1, *(keyword.page_views for keyword in keywords)))
    cards = [_card(type_, part, most) for type_, part in by_type.items() if part]
    html = note(
        f"{len(keywords):,} keywords in {len(cards)} of {len(ATTRIBUTE_TYPES)} attribute types. "
        "The bars are page views, on one logarithmic scale."
    )
    if missing := [type_ for type_, part in by_type.items() if not part]:
        html += element("p", f"Without keywords: {', '.join(missing)}.")
    return Section("lexicon", "Core keywords", html + element("div", *cards, class_="cards small"))


def _card(type_: str, keywords: list[Keyword], most: int) -> Markup:
    rows = [_row(keyword, most) for keyword in keywords[:SHOWN]]
    head = element("h4", type_, " ", element("small", f"{len(keywords):,}"))
    return element("article", head, element("ol", *rows, class_="measured"), class_="card")


def _row(keyword: Keyword, most: int) -> Markup:
    share = math.log1p(keyword.page_views) / math.log1p(most)
    return element(
        "li",
        element("span", keyword.value, class_="label"),
        element("span", f"{keyword.page_views:,}", class_="value"),
        bar(share),
    )
