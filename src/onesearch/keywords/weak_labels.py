"""Weak labels for the tagger: structured attributes that stand in a text are taken for its spans.

    item:  the values of its own attributes that occur in its title
    query: the values of the items clicked for it that occur in it; a value that is of one type for some of them and of
           another for others is of the type with most clicks

The mining from clicked pairs is the paper's (OneSearch, arXiv 2509.03236); the rule is ours. Of values that overlap the
leftmost counts, then the longest. Width, case and word boundaries are the matcher's affair (see `matcher`).

What the labels do not say: a value that is in the text but not among the attributes stays unmarked.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from onesearch.keywords.folding import fold
from onesearch.keywords.lexicon import check_type
from onesearch.keywords.matcher import KeywordMatcher
from onesearch.types import ATTRIBUTE_TYPES, Span

Values = Mapping[str, Sequence[str]]
"""Attribute type → values: the structured attributes of an item."""

Keys = frozenset[tuple[str, str]]
"""(type, folded value) of everything that is known of an item."""


def value_keys(attributes: Values, brand: str | None = None) -> Keys:
    """What is known of an item; its brand is an attribute like the others.

    Raises:
        UserError: an attribute type is none of the 18.
    """
    for type_ in attributes:
        check_type(type_, "attributes of an item")
    known = [(type_, value) for type_, values in attributes.items() for value in values]
    known += [("Brand", brand)] if brand else []
    return frozenset((type_, fold(value)) for type_, value in known) - {(type_, "") for type_ in ATTRIBUTE_TYPES}


def label(text: str, clicks: Mapping[tuple[str, str], int]) -> list[Span]:
    """Spans of the values that occur in a text, by start, without overlap.

    Args:
        text: a title or a query, as written.
        clicks: (type, folded value) → clicks on items that have it.
    """
    matches = KeywordMatcher(clicks).find(text)
    matches.sort(key=lambda m: (m.start, -m.end, -clicks[m.type, m.value], ATTRIBUTE_TYPES.index(m.type)))
    spans: list[Span] = []
    for match in matches:
        if not spans or match.start >= spans[-1].end:
            spans.append(Span(match.type, match.start, match.end))
    return spans


def label_title(title: str, item: Keys) -> list[Span]:
    """The item's own values in its title; a value of two types is of the first one in `ATTRIBUTE_TYPES`."""
    return label(title, dict.fromkeys(item, 1))


def label_query(query: str, clicked: Mapping[int, int], items: Sequence[Keys]) -> list[Span]:
    """The clicked items' values in a query.

    Args:
        query: as typed.
        clicked: item row → clicks on it for this query.
        items: what is known of each item.
    """
    clicks: Counter[tuple[str, str]] = Counter()
    for row, count in clicked.items():
        clicks.update(dict.fromkeys(items[row], count))
    return label(query, clicks)
