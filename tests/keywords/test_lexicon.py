import pytest

from onesearch.keywords.lexicon import Keyword, Lexicon, mine_lexicon

ATTRIBUTES = [
    {"Brand": ["Apple"], "Color": ["Black", "black "]},  # one value in two spellings counts once
    {"Brand": ["Belkin"], "Color": ["White"]},
    {"Brand": ["APPLE"], "Entity": ["Case"]},
    {},
]
VIEWS = [10, 4, 5, 100]
QUERIES = [("apple apple case", 7), ("belkin", 1), ("pineapple", 50)]


def test_page_views_of_items_and_queries_are_counted():
    """apple 10 + 5 + 7 (once a query; not in pineapple) = 22; belkin 4 + 1 = 5; case 5 + 7 = 12; black 10; white 4."""
    lexicon = mine_lexicon(ATTRIBUTES, VIEWS, QUERIES, top_k=10, min_pv=1)
    assert lexicon.keywords == (
        Keyword("Entity", "case", 12),
        Keyword("Brand", "apple", 22),
        Keyword("Brand", "belkin", 5),
        Keyword("Color", "black", 10),
        Keyword("Color", "white", 4),
    )
    assert lexicon.matcher().values == ["case", "apple", "belkin", "black", "white"]


def test_each_type_is_cut_by_rank_and_by_page_views():
    assert [k.value for k in mine_lexicon(ATTRIBUTES, VIEWS, QUERIES, 1, 1).keywords] == ["case", "apple", "black"]
    assert [k.value for k in mine_lexicon(ATTRIBUTES, VIEWS, QUERIES, 9, 11).keywords] == ["case", "apple"]


def test_what_only_shoppers_say_is_counted_in_every_query_that_holds_it():
    """pineapple 50 + 2; black, which items carry too, 10 + 2; what no query holds has no page views."""
    asked_for = [("Entity", "pineapple"), ("Color", "black"), ("Series", "nowhere")]
    lexicon = mine_lexicon(ATTRIBUTES, VIEWS, [*QUERIES, ("black pineapple", 2)], 10, 1, asked_for)
    page_views = {keyword.value: keyword.page_views for keyword in lexicon.keywords}
    assert page_views == {"pineapple": 52, "case": 12, "apple": 22, "belkin": 5, "black": 12, "white": 4}


def test_equal_page_views_are_ordered_by_value():
    mined = mine_lexicon([{"Color": ["red", "blue"]}], [3], [], top_k=1, min_pv=0)
    assert mined.keywords == (Keyword("Color", "blue", 3),)


def test_a_lexicon_survives_saving(tmp_path):
    lexicon = mine_lexicon([{"Brand": ["小米", "Apple"]}], [3], [], 9, 0)
    lexicon.save(tmp_path / "lexicon.json")
    assert Lexicon.load(tmp_path / "lexicon.json") == lexicon
    assert [match.value for match in lexicon.matcher().find("小米手机 or apple")] == ["小米", "apple"]


def test_a_list_of_ones_own_is_folded(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"Brand": [["Blu-Ray", 3]]}')
    lexicon = Lexicon.load(path)
    assert [match.value for match in lexicon.matcher().find("a BLU RAY")] == ["blu ray"]
    assert lexicon.keywords == (Keyword("Brand", "blu ray", 3),)


def test_wrong_types_and_lengths_are_refused(tmp_path):
    with pytest.raises(ValueError, match="item row 1: 'Colour' is no attribute type"):
        mine_lexicon([{}, {"Colour": ["red"]}], [1, 1], [], 1, 1)
    with pytest.raises(ValueError, match="item_views has 1 entries for 2 items"):
        mine_lexicon([{}, {}], [1], [], 1, 1)
    path = tmp_path / "mine.json"
    path.write_text('{"Colour": []}')
    with pytest.raises(ValueError, match=r"mine\.json: 'Colour'"):
        Lexicon.load(path)
    path.write_text('{"Color": ["red"]}')
    with pytest.raises(ValueError, match=r"mine\.json, 'Color': 'red' must be"):
        Lexicon.load(path)
