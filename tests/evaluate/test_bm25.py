import math

import numpy as np
import pytest

from onesearch.evaluate.bm25 import Bm25, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Gears of War 3 - Xbox360", ["gears", "of", "war", "3", "xbox", "360"]),
        ("MW3", ["mw", "3"]),
        ("无线鼠标", ["无线", "线鼠", "鼠标"]),
        ("红 Nike鞋 42码", ["红", "nike", "鞋", "42", "码"]),
        ("ワイヤレス", ["ワイ", "イヤ", "ヤレ", "レス"]),
        ("Ｆｉｆａ１２", ["fifa", "12"]),
        ("무선 마우스", ["무선", "마우스"]),
        ("  --  ", []),
    ],
)
def test_terms(text: str, expected: list[str]):
    """Letters and digits part; scripts without spaces give pairs; Korean has spaces; full width is folded."""
    assert terms(text) == expected


def test_order_follows_the_formula(make_search):
    """The ranking is that of BM25 computed term by term in float64, for every query of two words over 40 titles."""
    rng = np.random.default_rng(0)
    words = ["red", "blue", "shirt", "shoe", "sport", "kids", "large", "cotton"]
    titles = [" ".join(rng.choice(words, rng.integers(1, 9))) for _ in range(40)]
    ranker = Bm25(titles, clicks=np.arange(40))
    for first in words:
        for second in words:
            scores = _bm25(titles, [first, second])
            wanted = [item for item in np.lexsort((-np.arange(40), -np.round(scores, 5))) if scores[item] > 0][:10]
            assert ranker.rank([make_search(f"{first} {second}")], 10) == [wanted]


def _bm25(titles: list[str], query: list[str], k1: float = 1.5, b: float = 0.75) -> np.ndarray:
    documents = [title.split() for title in titles]
    average = np.mean([len(document) for document in documents])
    scores = np.zeros(len(titles))
    for term in query:
        n = sum(term in document for document in documents)
        for item, document in enumerate(documents):
            f = document.count(term)
            norm = k1 * (1 - b + b * len(document) / average)
            scores[item] += math.log(1 + (len(titles) - n + 0.5) / (n + 0.5)) * f / (f + norm)
    return scores


def test_ties_go_to_the_item_with_more_clicks(make_search):
    """Four equal titles: by clicks 3, 1, 0, 2, also where the cut falls within the tie."""
    ranker = Bm25(["game"] * 4 + ["film"], clicks=np.array([2, 5, 1, 9, 50]))
    assert ranker.rank([make_search("game")], 10) == [[3, 1, 0, 2]]
    assert ranker.rank([make_search("game")], 2) == [[3, 1]]


def test_nothing_for_unknown_words(make_search):
    """One known word is enough; the order of answers is that of the searches, repeated queries included."""
    ranker = Bm25(["game", "", "film"], clicks=np.zeros(3, dtype=np.int64))
    searches = [make_search(query) for query in ("film", "laptop", "", "laptop game", "film")]
    assert ranker.rank(searches, 10) == [[2], [], [], [0], [2]]
