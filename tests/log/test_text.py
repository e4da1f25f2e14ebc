import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesearch.log.schema import table_of
from onesearch.log.text import item_texts, normalize_query


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("  Xbox-360:  FIFA'12 ", "xbox 360 fifa 12"),
        ("ＸＢＯＸ　３６０", "xbox 360"),  # full width
        ("STRASSE straße", "strasse strasse"),
        ("snake_case", "snake case"),
        ("广场舞服装，女", "广场舞服装 女"),
        ("?!  ?!", "?! ?!"),  # signs alone are still a query
        (" \t", ""),
    ],
)
def test_equal_queries_meet_under_one_key(text, key):
    assert normalize_query(text) == key


@given(st.text(max_size=30))
def test_a_key_is_its_own_key(text):
    assert normalize_query(normalize_query(text)) == normalize_query(text)


def test_item_text_tells_each_value_once():
    """Brand and "Red" come again among the attributes; of the category only the last two names are told."""
    full = {
        "item_id": "a",
        "title": "Kettle",
        "brand": "Acme",
        "category": ["Home", "Kitchen", "Kettles"],
        "price": 19.5,
        "attributes": [("Brand", ["ACME"]), ("Color", ["Red", "Blue"])],
    }
    bare = {"item_id": "b", "title": "Mug"}
    assert item_texts(table_of("items", [full, bare])) == ["Kettle, Acme, Kitchen, Kettles, Red, Blue, 19.5", "Mug"]
