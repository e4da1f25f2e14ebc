"""What the tasks draw from."""

from collections import Counter

import pytest

from onesearch.data.corpus import build_corpus, with_searches
from onesearch.khqe import Khqe


@pytest.fixture(scope="module")
def tiny_corpus(tiny_log, tiny_run):
    searches = [context for context in tiny_log.contexts("train") if context.clicked]
    return build_corpus(tiny_log, Khqe.open(tiny_run), searches, num_typos=3, num_fragments=2, seed=0)


def test_the_corpus_is_that_of_the_training_searches(tiny_log, tiny_corpus):
    searches = [context for context in tiny_log.contexts("train") if context.clicked]
    assert tiny_corpus.queries == sorted({context.query for context in searches})
    assert Counter(tiny_corpus.pairs) == Counter((c.query, item) for c in searches for item in c.clicked)
    assert set(tiny_corpus.clicked) == set(tiny_corpus.queries)
    assert tiny_corpus.categories[:7:6] == ["Shoes > Boots", "Shoes > Sandals"]
    assert all(len(typos) == 3 for typos in tiny_corpus.typos.values())
    assert all(len(texts) == 2 for texts in tiny_corpus.fragments)
    assert set(" ".join(tiny_corpus.fragments[0]).split()) <= {"red", "boots", "by", "acme"}


def test_the_corpus_repeats_with_the_seed(tiny_log, tiny_khqe, tiny_corpus):
    again = build_corpus(tiny_log, tiny_khqe, tiny_corpus.searches, 3, 2, seed=0)
    assert (again.typos, again.fragments) == (tiny_corpus.typos, tiny_corpus.fragments)
    assert again.babble == tiny_corpus.babble
    assert tiny_corpus.babble
    assert not set(tiny_corpus.babble) & {"", *tiny_corpus.queries}
    other = build_corpus(tiny_log, tiny_khqe, tiny_corpus.searches, 3, 2, seed=1)
    assert other.typos != again.typos


def test_other_searches_over_the_same_catalogue(tiny_log, tiny_corpus):
    """Queries and pairs are those of the searches given, in no other wording; items keep texts and fragments."""
    searches = [context for context in tiny_log.contexts("validation") if context.clicked]
    other = with_searches(tiny_corpus, searches)
    assert other.searches == searches
    assert other.queries == sorted({context.query for context in searches})
    assert Counter(other.pairs) == Counter((c.query, item) for c in searches for item in c.clicked)
    assert set(other.clicked) == set(other.queries)
    assert other.typos == {}
    assert (other.item_texts, other.fragments) == (tiny_corpus.item_texts, tiny_corpus.fragments)
