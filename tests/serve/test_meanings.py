"""What SIDs mean, and what an item shares with a query, against counting by hand."""

from collections import Counter

import numpy as np
import pytest

from onesearch.keywords.matcher import KeywordMatcher
from onesearch.log.text import item_texts
from onesearch.serve.matches import Matched, QueryKeywords
from onesearch.serve.meanings import MIN_SHARE, NUM_KEYWORDS, SidMeanings


@pytest.fixture(scope="module")
def shop(tiny_log, tiny_khqe):
    """Codes, leaf categories, texts and the matcher of the tiny shop."""
    leaves = [path[-1] for path in tiny_log.items["category"].to_pylist()]
    return tiny_khqe.item_codes, leaves, item_texts(tiny_log.items), tiny_khqe.encoder.matcher


@pytest.fixture(scope="module")
def meanings(shop):
    return SidMeanings(*shop, most=1000)


def test_every_prefix_is_counted_as_by_hand(meanings, shop):
    """Items, category, and the share of each keyword, for each prefix of each SID."""
    codes, leaves, texts, matcher = shop
    keywords = [{match.value for match in matcher.find(text)} for text in texts]
    for prefix in {tuple(sid[:length]) for sid in codes.tolist() for length in range(6)}:
        rows = [row for row, sid in enumerate(codes.tolist()) if tuple(sid[: len(prefix)]) == prefix]
        meaning = meanings.of(prefix)
        assert sorted(meanings.rows(prefix).tolist()) == rows
        assert meaning.num_items == len(rows)
        votes = Counter(leaves[row] for row in rows)
        assert votes[meaning.category] == max(votes.values()) == pytest.approx(meaning.category_share * len(rows))
        counts = Counter(value for row in rows for value in keywords[row])
        often = [count for count in sorted(counts.values(), reverse=True) if count >= MIN_SHARE * len(rows)]
        assert [round(shared.share * len(rows)) for shared in meaning.keywords] == often[:NUM_KEYWORDS]
        assert all(counts[shared.value] == round(shared.share * len(rows)) for shared in meaning.keywords)


def test_children_are_those_of_the_items(meanings, shop):
    """From the root down: counts add up to the parent's, the largest first; a whole SID has none."""
    codes = shop[0]
    for prefix in {tuple(sid[:length]) for sid in codes.tolist() for length in range(5)}:
        children = meanings.children(prefix)
        assert {child for child, _ in children} == {
            tuple(sid[: len(prefix) + 1]) for sid in codes.tolist() if tuple(sid[: len(prefix)]) == prefix
        }
        counts = [count for _, count in children]
        assert counts == sorted(counts, reverse=True)
        assert sum(counts) == meanings.of(prefix).num_items
    assert meanings.children(tuple(codes[0].tolist())) == []


def test_a_prefix_that_no_item_has_means_nothing(meanings):
    assert meanings.of((7, 7, 7)) == ((7, 7, 7), 0, None, 0.0, ())
    assert meanings.children((7, 7, 7)) == []


def test_of_equally_frequent_keywords_the_rarer_comes_first():
    """Both items of code 0 are red and warm; in the shop red is everywhere."""
    matcher = KeywordMatcher([("Color", "red"), ("Function", "warm")])
    codes = np.array([[0], [0], [1], [1]])
    found = SidMeanings(codes, [None] * 4, ["red warm", "warm red", "red", "red"], matcher, most=10).of((0,))
    assert [shared.value for shared in found.keywords] == ["warm", "red"]
    assert found.category is None


def test_what_a_query_and_an_item_share():
    """Core keywords with their type, other words without; places are those of the title as it is written."""
    matcher = KeywordMatcher([("Color", "red"), ("Entity", "boots"), ("Entity", "靴子"), ("Function", "water proof")])
    keywords = QueryKeywords("Ｒed water-proof BOOTS for 靴子 a rainproof", matcher)
    title, text = "😀 RED boots, Water Proof", "😀 RED boots, Water Proof, rainproof, red"
    found = keywords.match([title, "nothing"], [text, "nothing"])
    assert [title[start:end] for start, end in found[0].places] == ["RED", "boots", "Water Proof"]
    assert found[0].keywords == [
        Matched("red", "Color"),
        Matched("boots", "Entity"),
        Matched("water proof", "Function"),
        Matched("rainproof", None),
    ]
    assert found[1] == ([], [])
    assert [QueryKeywords("红色靴子", matcher).match(["好靴子"], [""])[0].places] == [[(1, 3)]]


@pytest.mark.parametrize("query", ["👢❤️", "?!", "a"])
def test_a_query_without_words_shares_nothing(query):
    matcher = KeywordMatcher([("Color", "red")])
    assert QueryKeywords(query, matcher).match(["a red 👢"], ["a red 👢"])[0].keywords in ([], [Matched("👢", None)])
