"""Which of the marked values count, by hand."""

from onesearch.keywords.marked import marked_values, pairs, united
from onesearch.types import Span

RED, BOOTS = Span("Color", 0, 8), Span("Entity", 9, 14)


def test_marked_values_are_folded_and_by_type():
    assert marked_values(["Dark-Red boots", "x", ""], [[RED, BOOTS], [], []]) == [
        {"Color": ["dark red"], "Entity": ["boots"]},
        {},
        {},
    ]
    assert marked_values([], []) == []


def test_a_value_must_be_marked_in_half_of_the_texts_that_hold_it():
    """ "hot" stands in three texts and is marked in one, 1/3; "new" in two and is marked in one, 1/2."""
    texts = ["hot lamp", "hot rug", "hot new mug", "new mug"]
    spans = [[Span("Marketing", 0, 3)], [], [Span("Marketing", 4, 7)], []]
    assert marked_values(texts, spans) == [{}, {}, {"Marketing": ["new"]}, {}]
    assert marked_values(texts, spans, min_share=0.3)[0] == {"Marketing": ["hot"]}
    assert marked_values(texts, spans, min_share=0.6) == [{}, {}, {}, {}]


def test_a_value_of_two_types_has_those_that_most_marks_give_it():
    """ "apple" is a Brand in three of four texts, an Entity in one."""
    texts = ["apple"] * 4
    spans = [[Span(type_, 0, 5)] for type_ in ("Brand", "Brand", "Entity", "Brand")]
    assert marked_values(texts, spans) == [{"Brand": ["apple"]}, {"Brand": ["apple"]}, {}, {"Brand": ["apple"]}]


def test_a_piece_of_a_value_is_none():
    """One text of two has "argan oil" in pieces, which stand nowhere by themselves; or attributes know it."""
    texts = ["argan oil soap", "soap argan oil"]
    whole, pieces = [Span("Material", 0, 9)], [Span("Material", 5, 10), Span("Function", 11, 14)]
    assert marked_values(texts, [whole, pieces]) == [{"Material": ["argan oil"]}, {}]
    assert marked_values(texts[1:], [pieces]) == [{"Function": ["oil"], "Material": ["argan"]}]
    assert marked_values(texts[1:], [pieces], known=[("Material", "Argan Oil")]) == [{}]


def test_attributes_and_marked_values_become_one_map():
    assert united([{"Color": ["Red"], "Brand": ["Acme"]}, {"Brand": ["B"]}], [{"Color": ["dark red"]}, {}]) == [
        {"Color": ["Red", "dark red"], "Brand": ["Acme"]},
        {"Brand": ["B"]},
    ]


def test_pairs_are_distinct():
    rows = [{"Color": ["red", "blue"]}, {}, {"Brand": ["red"], "Color": ["red"]}]
    assert pairs(rows) == [("Color", "red"), ("Color", "blue"), ("Brand", "red")]
