import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onesearch.keywords.matcher import KeywordMatcher, Match


def found(keywords, text):
    matcher = KeywordMatcher(("Entity", keyword) for keyword in keywords)
    return [(match.value, text[match.start : match.end]) for match in matcher.find(text)]


@pytest.mark.parametrize(
    ("keywords", "text", "expected"),
    [
        (["men"], "women's and men's shoes", [("men", "men")]),  # not in "women"
        (["iphone 5"], "iPhone 5s", []),
        (["iphone 5"], "ｉＰｈｏｎｅ－５ case", [("iphone 5", "ｉＰｈｏｎｅ－５")]),  # width, case, punctuation
        (["连衣裙", "红色"], "红色连衣裙女", [("红色", "红色"), ("连衣裙", "连衣裙")]),  # no boundaries in Chinese
        (["iphone"], "苹果iPhone手机", [("iphone", "iPhone")]),  # Latin between Chinese
        (["裙", "连衣裙"], "连衣裙", [("连衣裙", "连衣裙")]),  # the longest
        (["裙", "连衣裙"], "连衣裙 短裙", [("连衣裙", "连衣裙"), ("裙", "裙")]),  # dropped by position, kept elsewhere
        (["a b", "b c"], "a b c", [("a b", "a b"), ("b c", "b c")]),  # overlapping, neither inside the other
        (["x"], "", []),
        ([], "x", []),
        (["!!"], "x!!", []),  # folds to nothing
    ],
)
def test_matches(keywords, text, expected):
    assert found(keywords, text) == expected


def test_a_value_of_two_types_gives_one_match_a_type():
    matcher = KeywordMatcher([("Brand", "Apple"), ("Entity", "apple"), ("Brand", "APPLE")])
    assert matcher.find("An Apple") == [Match("Brand", "apple", 3, 8), Match("Entity", "apple", 3, 8)]


WORDS = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("".join)
PHRASES = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(PHRASES, min_size=1, max_size=6, unique=True), st.lists(WORDS, max_size=8).map(" ".join))
def test_against_a_search_of_every_keyword_at_every_place(keywords, text):
    """The reference tries each keyword with `\\b` at each place and drops spans that lie strictly inside another."""
    spans = {
        (match.start(), match.start() + len(keyword))
        for keyword in keywords
        for match in re.finditer(rf"(?=\b{keyword}\b)", text)
    }
    outer = {s for s in spans if not any(o != s and o[0] <= s[0] and s[1] <= o[1] for o in spans)}
    matches = KeywordMatcher(("Entity", keyword) for keyword in keywords).find(text)
    assert [(match.start, match.end) for match in matches] == sorted(outer)
