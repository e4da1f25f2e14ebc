"""Counts by hand, and the properties that any F1 has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesearch.metrics.spans import count_spans, span_scores
from onesearch.types import ATTRIBUTE_TYPES, Span

RED, BOOTS = Span("Color", 0, 3), Span("Entity", 4, 9)


def of(counts, type_):
    return counts[ATTRIBUTE_TYPES.index(type_)].tolist()


def test_counts_by_hand():
    """
    text 1: both are right.  text 2: Color found one character too long, Entity missed.  text 3: the place is right and
    the type is not.  text 4: nothing to find, one found.
    Color: right 1; found 1 + 1 + 1 = 3; true 2.  Entity: right 1; found 1 + 1 = 2; true 3.
    """
    found = [[RED, BOOTS], [Span("Color", 0, 4)], [Span("Color", 4, 9)], [BOOTS]]
    true = [[RED, BOOTS], [RED, BOOTS], [BOOTS], []]
    counts = count_spans(found, true)
    assert of(counts, "Color") == [1, 3, 2]
    assert of(counts, "Entity") == [1, 2, 3]
    assert counts.sum() == 1 + 3 + 2 + 1 + 2 + 3
    assert span_scores(counts.sum(0)) == pytest.approx((2 / 5, 2 / 5, 2 / 5))
    assert span_scores(of(counts, "Color")) == pytest.approx((1 / 3, 1 / 2, 2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2)))


def test_nothing_found_and_nothing_to_find():
    assert span_scores(count_spans([[]], [[RED]]).sum(0)) == (0, 0, 0)
    assert span_scores(count_spans([[RED]], [[]]).sum(0)) == (0, 0, 0)
    assert span_scores(count_spans([], []).sum(0)) == (0, 0, 0)


def test_one_answer_for_each_text():
    with pytest.raises(ValueError, match="zip"):
        count_spans([[RED]], [])


SPANS = st.lists(st.builds(Span, st.sampled_from(["Color", "Brand"]), st.integers(0, 3), st.integers(4, 6)), max_size=4)
TEXTS = st.lists(st.tuples(SPANS, SPANS), max_size=4)


@given(TEXTS)
def test_against_the_harmonic_mean(texts):
    """P and R from sets of (text, span) over all texts; F1 = 2PR/(P + R)."""
    found = {(row, span) for row, (spans, _) in enumerate(texts) for span in spans}
    true = {(row, span) for row, (_, spans) in enumerate(texts) for span in spans}
    precision = len(found & true) / len(found) if found else 0
    recall = len(found & true) / len(true) if true else 0
    f1 = 2 * precision * recall / (precision + recall) if found & true else 0
    counts = count_spans([spans for spans, _ in texts], [spans for _, spans in texts])
    assert span_scores(counts.sum(0)) == pytest.approx((precision, recall, f1))
