"""Values that the tagger marks in texts, in the form of structured attributes.

A tagger errs now and then; what it errs in is found by asking it everywhere. A marked value counts when

    texts in which it is marked as this type  ≥  min_share · texts in which it stands

where of values that lie inside one another only the longest stands: "argan" does not where "argan oil" is a value, so
that pieces of a value are no values. The rule is ours.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from onesearch.keywords.folding import fold
from onesearch.keywords.matcher import KeywordMatcher
from onesearch.types import Span

Values = Mapping[str, Sequence[str]]
"""Attribute type → values."""


def marked_values(
    texts: Sequence[str],
    spans: Sequence[Sequence[Span]],
    known: Iterable[tuple[str, str]] = (),
    min_share: float = 0.5,
) -> list[dict[str, list[str]]]:
    """Attribute type → folded values that are marked in each text and count.

    Args:
        texts: titles and queries.
        spans: what the tagger marks in each.
        known: (type, value) pairs of the structured attributes, of which no piece is a value either.
        min_share: 0 to 1.
    """
    marked = [
        {(span.type, fold(text[span.start : span.end])) for span in found}
        for text, found in zip(texts, spans, strict=True)
    ]
    matcher = KeywordMatcher([*known, *sorted(set().union(*marked))])
    stands: Counter[tuple[str, str]] = Counter()
    agreed: Counter[tuple[str, str]] = Counter()
    found = matcher.find_all(texts)
    for row, keyword in set(zip(found.texts.tolist(), found.keywords.tolist(), strict=True)):
        keys = {(type_, matcher.values[keyword]) for type_ in matcher.types[keyword]}
        stands.update(keys)
        agreed.update(keys & marked[row])
    counting = {key for key, count in agreed.items() if count >= min_share * stands[key]}
    return [_by_type(sorted(keys & counting)) for keys in marked]


def united(attributes: Iterable[Values], marked: Iterable[Values]) -> list[dict[str, list[str]]]:
    """The structured attributes of each item and those that are marked in its title."""
    return [
        {type_: [*known.get(type_, ()), *more.get(type_, ())] for type_ in {**known, **more}}
        for known, more in zip(attributes, marked, strict=True)
    ]


def pairs(attributes: Iterable[Values]) -> list[tuple[str, str]]:
    """The distinct (type, value) pairs, in the order in which they come."""
    return list(dict.fromkeys((type_, value) for row in attributes for type_ in row for value in row[type_]))


def _by_type(keys: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for type_, value in keys:
        values.setdefault(type_, []).append(value)
    return values
