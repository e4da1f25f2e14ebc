"""The labelling rule, case by case."""

import pytest

from onesearch.keywords.weak_labels import label_query, label_title, value_keys
from onesearch.types import Span

BOOTS = {"Entity": ["Boots"], "Color": ["dark red", "red"], "Brand": ["Acme"]}


def told(text, spans):
    return [(span.type, text[span.start : span.end]) for span in spans]


def test_a_titles_values_are_its_spans():
    """Folded, as whole words, the longest of "dark red" and "red"; the column `brand` counts; "size 40" is unknown."""
    title = "NORDWIND Dark-Red boots, red laces, size 40, bootstrap"
    spans = label_title(title, value_keys(BOOTS, "Nordwind"))
    assert told(title, spans) == [("Brand", "NORDWIND"), ("Color", "Dark-Red"), ("Entity", "boots"), ("Color", "red")]


def test_chinese_needs_no_boundaries():
    title = "红色连衣裙女"
    assert told(title, label_title(title, value_keys({"Entity": ["连衣裙"], "Color": ["红色"]}))) == [
        ("Color", "红色"),
        ("Entity", "连衣裙"),
    ]


def test_of_overlapping_values_the_leftmost_counts():
    """ "noise cancelling" and "cancelling headphones": the second begins inside the first."""
    keys = value_keys({"Function": ["noise cancelling"], "Entity": ["cancelling headphones"]})
    assert label_title("noise cancelling headphones", keys) == [Span("Function", 0, 16)]


def test_a_value_of_two_types_of_one_item_has_the_first_type():
    assert label_title("a leather bag", value_keys({"Material": ["leather"], "Modifier": ["leather"]})) == [
        Span("Modifier", 2, 9)
    ]


ITEMS = [
    value_keys({"Brand": ["Apple"], "Entity": ["case"]}),
    value_keys({"Entity": ["apple"], "Modifier": ["red"]}),
    value_keys({"Color": ["red"], "Entity": ["apple"]}),
]


@pytest.mark.parametrize(
    ("clicked", "want"),
    [
        ({0: 1}, [("Brand", "apple")]),
        ({0: 3, 1: 2}, [("Modifier", "red"), ("Brand", "apple")]),  # apple: 3 clicks as Brand, 2 as Entity
        ({0: 3, 1: 2, 2: 2}, [("Modifier", "red"), ("Entity", "apple")]),  # 3 against 4; red: a tie, the first type
        ({1: 1, 2: 5}, [("Color", "red"), ("Entity", "apple")]),
        ({}, []),
    ],
)
def test_an_ambiguous_value_of_a_query_has_the_type_with_most_clicks(clicked, want):
    assert told("red apple", label_query("red apple", clicked, ITEMS)) == want


def test_values_that_fold_to_nothing_are_no_values():
    assert value_keys({"Model": ["--", "X-1"]}, "!") == {("Model", "x 1")}


def test_a_type_that_is_none_of_the_18_is_refused():
    with pytest.raises(ValueError, match="'Colour' is no attribute type"):
        value_keys({"Colour": ["red"]})
