import copy
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onesearch.keywords.folding import fold, fold_with_positions
from onesearch.keywords.matcher import KeywordMatcher, Match


def found(keywords, text):
    matcher = KeywordMatcher(("Entity", keyword) for keyword in keywords)
    return [(match.value, text[match.start : match.end]) for match in matcher.find(text)]


@pytest.mark.parametrize(
    ("keywords", "text", "expected"),
    [
        (["men"], "women's and men's shoes", [("men", "men")]),  # not in "women"
        (["iphone 5"], "iPhone 5s", []),
        (["iphone 5", "iphone", "5s case"], "iPhone 5s case", [("iphone", "iPhone"), ("5s case", "5s case")]),
        (["a", "a b", "a b c d"], "a b c", [("a b", "a b")]),  # the longest of those that fit
        (["iphone 5"], "ｉＰｈｏｎｅ－５ case", [("iphone 5", "ｉＰｈｏｎｅ－５")]),  # width, case, punctuation
        (["连衣裙", "红色"], "红色连衣裙女", [("红色", "红色"), ("连衣裙", "连衣裙")]),  # no boundaries in Chinese
        (["iphone"], "苹果iPhone手机", [("iphone", "iPhone")]),  # Latin between Chinese
        (["裙", "连衣裙"], "连衣裙", [("连衣裙", "连衣裙")]),  # the longest
        (["裙", "连衣裙"], "连衣裙 短裙", [("连衣裙", "连衣裙"), ("裙", "裙")]),  # dropped by position, kept elsewhere
        (["a b", "b c d e"], "a b c d e", [("a b", "a b")]),  # overlapping: what starts first wins, though shorter
        (["x"], "", []),
        ([], "x", []),
        (["!!"], "x!!", []),  # folds to nothing
    ],
)
def test_matches(keywords, text, expected):
    assert found(keywords, text) == expected


def test_a_copy_finds_the_same():
    """As a data worker gets it that is no fork: values in their order, of several types, folded twice."""
    matcher = KeywordMatcher([("Brand", "ＺＡＰＰ"), ("Entity", "apple"), ("Brand", "APPLE"), ("Color", "İri-Ş")])
    copied = copy.deepcopy(matcher)
    assert (copied.values, copied.types) == (matcher.values, matcher.types)
    text = "An Apple of zapp, İRİ Ş"
    assert copied.find(text) == matcher.find(text) != []


def test_a_value_of_two_types_gives_one_match_a_type():
    matcher = KeywordMatcher([("Brand", "Apple"), ("Entity", "apple"), ("Brand", "APPLE")])
    assert matcher.find("An Apple") == [Match("Brand", "apple", 3, 8), Match("Entity", "apple", 3, 8)]


def test_many_texts_at_once():
    """By text, then from left to right; a value of two types is one match, and an empty text has none."""
    matcher = KeywordMatcher(
        [("Brand", "Apple"), ("Color", "红色"), ("Entity", "apple"), ("Entity", "!!"), ("Style", "")]
    )
    assert (matcher.values, matcher.types) == (["apple", "红色"], [["Brand", "Entity"], ["Color"]])
    found = matcher.find_all(["红色APPLE", "", "pineapple", "ﬁ\napple 红色"])
    assert [column.tolist() for column in found] == [[0, 0, 3, 3], [1, 0, 0, 1], [0, 2, 2, 8], [2, 7, 7, 10]]
    assert [column.tolist() for column in matcher.find_all([])] == [[], [], [], []]


def test_more_texts_than_are_joined_at_once(monkeypatch):
    """Text i holds the keyword where i is even, at place i: batches of three must count on from each other."""
    monkeypatch.setattr("onesearch.keywords.matcher._BATCH", 3)
    texts = ["." * row + ("x" if row % 2 == 0 else "y") for row in range(10)]
    found = KeywordMatcher([("Entity", "x")]).find_all(texts)
    assert found.texts.tolist() == found.starts.tolist() == [0, 2, 4, 6, 8]


def is_whole(text, start, end):
    """Whether neither end of a span parts two letters of a spaced script."""
    spaced = [unicodedata.name(character).startswith(("LATIN", "DIGIT")) for character in text]
    return not any(place in range(1, len(text)) and spaced[place - 1] and spaced[place] for place in (start, end))


def brute_force(keywords, text):
    """Go through the places; at each try every keyword, take the longest that fits, go on behind it."""
    folded, starts, ends = fold_with_positions(text)
    values = {fold(keyword) for keyword in keywords} - {""}
    found, place = [], 0
    while place < len(folded):
        fitting = [value for value in values if folded[place:].startswith(value)]
        longest = max((v for v in fitting if is_whole(folded, place, place + len(v))), key=len, default="")
        if longest:
            found.append(Match("Entity", longest, starts[place], ends[place + len(longest) - 1]))
        place += len(longest) or 1
    return found


MIXED = st.text(st.sampled_from([*"aaab5  -|\n裙连色", *"ＡéeßﬁfiｶﾞカガがＬ™가", "\u0301", "\ud800"]), max_size=14)


@settings(max_examples=400, deadline=None)
@given(st.lists(MIXED, min_size=1, max_size=3), st.lists(st.tuples(st.integers(0, 13), st.integers(1, 5))), st.data())
def test_against_brute_force(texts, pieces, data):
    """Latin, Han, kana, Hangul, full width, ligatures, combining marks; keywords drawn and cut from the texts."""
    cut = [text[start : start + length] for text in texts for start, length in pieces]
    keywords = data.draw(st.lists(MIXED, max_size=3)) + cut
    matcher = KeywordMatcher(("Entity", keyword) for keyword in keywords)
    expected = [brute_force(keywords, text) for text in texts]
    assert [matcher.find(text) for text in texts] == expected
    rows, found, starts, ends = (column.tolist() for column in matcher.find_all(texts))
    matches = [Match("Entity", matcher.values[row], *place) for row, *place in zip(found, starts, ends, strict=True)]
    assert list(zip(rows, matches, strict=True)) == [(row, m) for row, of in enumerate(expected) for m in of]
