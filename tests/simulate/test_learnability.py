"""A log is worth training on if reading query and history pays: both are measured here without training anything.

The ranker below reads a query through the vocabulary and a shopper's past clicks by counting their attributes. It knows
neither the drawn tastes nor the intents.
"""

from collections import Counter, defaultdict

import bm25s
import numpy as np
import pytest

from onesearch.log.schema import Tables
from onesearch.simulate.vocabulary import load_vocabulary

TASTES = ("Brand", "Color", "Style", "Price", "Material", "Anchor")


class Judge:
    """HR@10 of rankers on the clicked searches of the last tenth."""

    def __init__(self, tables: Tables) -> None:
        searches = tables["searches"].to_pylist()
        cut = len(searches) * 9 // 10
        self.before, self.test = searches[:cut], [search for search in searches[cut:] if search["clicked"]]
        self.items = tables["items"]["item_id"].to_pylist()
        self.titles = tables["items"]["title"].to_pylist()
        attributes = [dict(row) for row in tables["items"]["attributes"].to_pylist()]
        self.value = {kind: np.array([row.get(kind, [""])[0] for row in attributes]) for kind in (*TASTES, "Entity")}
        self.all_values = [{values[0].lower() for values in row.values()} for row in attributes]
        self.clicks = Counter(item for search in self.before for item in search["clicked"])
        clicks = [(s["time"], s["user_id"], item) for s in searches for item in s["clicked"]]
        clicks += [(e["time"], e["user_id"], e["item_id"]) for e in tables["events"].to_pylist()]
        self.history: dict[str, list] = defaultdict(list)
        row = {item: index for index, item in enumerate(self.items)}
        for time, user, item in sorted(clicks):
            self.history[user].append((time, row[item]))

    def hit_rate(self, ranker) -> float:
        return float(np.mean([bool(set(ranker(search)[:10]) & set(search["clicked"])) for search in self.test]))


@pytest.fixture(scope="module")
def judge(tables: Tables) -> Judge:
    return Judge(tables)


@pytest.fixture(scope="module")
def lookup_and_bm25(judge: Judge):
    past: dict[str, Counter] = defaultdict(Counter)
    for search in judge.before:
        past[search["query"]].update(search["clicked"])
    index = bm25s.BM25()
    index.index(bm25s.tokenize(judge.titles, stopwords=None, show_progress=False), show_progress=False)

    def rank(search: dict) -> list[str]:
        known = [item for item, _ in past[search["query"]].most_common(10)]
        tokens = bm25s.tokenize([search["query"]], stopwords=None, show_progress=False)
        rows, scores = index.retrieve(tokens, k=20, show_progress=False)
        found = [judge.items[row] for row, score in zip(rows[0], scores[0], strict=True) if score > 0]
        return known + [item for item in found if item not in known]

    return rank


def reader(judge: Judge, personal: bool):
    """Ranks by product, named values and popularity; `personal` adds the share of past clicks with the same values."""
    leaves = load_vocabulary().categories
    product = {word: leaf.entity for leaf in leaves for word in (leaf.entity, *leaf.synonyms)}
    popularity = 0.5 * np.log1p([judge.clicks[item] for item in judge.items])

    def rank(search: dict) -> list[str]:
        word = max((word for word in product if word in search["query"]), key=len, default="")
        score = popularity + 8.0 * (judge.value["Entity"] == product.get(word))
        score = score + [sum(value in search["query"] for value in values) for values in judge.all_values]
        past = np.array([item for time, item in judge.history[search["user_id"]] if time < search["time"]], int)
        if personal and len(past):
            for values in judge.value.values():
                share = Counter(values[past].tolist())
                score = score + 3.0 * np.array([share[value] if value else 0 for value in values]) / (len(past) + 2)
            score[past[-12:]] += 1.0
        return [judge.items[row] for row in np.argsort(-score, kind="stable")[:10]]

    return rank


def test_history_pays(judge: Judge) -> None:
    """Counting a shopper's own past clicks adds more than three points to reading the query well."""
    assert judge.hit_rate(reader(judge, personal=True)) > judge.hit_rate(reader(judge, personal=False)) + 0.03


def test_understanding_beats_lookup_filled_with_bm25(judge: Judge, lookup_and_bm25) -> None:
    """The best system without semantics or persons leaves more than eight points to be won."""
    assert judge.hit_rate(reader(judge, personal=True)) > judge.hit_rate(lookup_and_bm25) + 0.08


def test_popularity_alone_is_weak(judge: Judge) -> None:
    best = [item for item, _ in judge.clicks.most_common(10)]
    assert judge.hit_rate(lambda _: best) < 0.12
