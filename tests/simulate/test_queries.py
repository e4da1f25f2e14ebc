"""Queries: a product word with a few values, reformulated, with errors that many people make."""

import numpy as np
import pytest

from onesearch.simulate.catalogue import COLUMN, Catalogue, make_catalogue
from onesearch.simulate.marketplace import Marketplace
from onesearch.simulate.queries import QueryWriter, Wording, matches, mistype
from onesearch.simulate.vocabulary import load_vocabulary

PLAIN = Marketplace(num_items=300, synonyms=0.0, typos=0.0, reordered=0.0)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return make_catalogue(load_vocabulary(), PLAIN)


def writer(catalogue: Catalogue, config: Marketplace = PLAIN) -> QueryWriter:
    return QueryWriter(load_vocabulary(), catalogue, config, np.random.default_rng(0))


def test_a_plain_query_is_sorted_values_and_the_product_word(catalogue: Catalogue) -> None:
    vocabulary, write = load_vocabulary(), writer(catalogue)
    for target in range(30):
        intent = write.intent(target)
        query = write.write(intent, Wording(3, 0))
        told = sorted(vocabulary.values[value][1].lower() for value in intent.mentions[:2])
        entity = vocabulary.categories[intent.category].entity
        assert query.text == " ".join([*told, entity])
        assert query.values == intent.mentions[:2]
        assert vocabulary.values[query.entity] == ("Entity", entity)


def test_wants_are_values_of_the_target(catalogue: Catalogue) -> None:
    write = writer(catalogue)
    for target in range(50):
        intent = write.intent(target)
        assert 1 <= len(intent.wants) <= 3
        assert set(intent.wants) <= set(catalogue.values[target])
        assert set(intent.mentions) <= set(catalogue.values[target])


def test_synonyms_replace_the_product_word(catalogue: Catalogue) -> None:
    vocabulary, write = load_vocabulary(), writer(catalogue)
    intent = write.intent(0)
    leaf = vocabulary.categories[intent.category]
    assert write.write(intent, Wording(1, 1)).text == leaf.synonyms[0]
    changed = {write.reformulate(intent, Wording(2, 0)) for _ in range(100)}
    assert {Wording(1, 0), Wording(3, 0), Wording(2, 0), Wording(2, 1)} <= changed


def test_reformulations_stay_in_range(catalogue: Catalogue) -> None:
    write = writer(catalogue)
    wording = Wording(1, 0)
    for _ in range(200):
        wording = write.reformulate(write.intent(0), wording)
        assert 1 <= wording.num_keywords <= 4


def test_word_order_can_be_reversed(catalogue: Catalogue) -> None:
    write = writer(catalogue, Marketplace(num_items=300, synonyms=0.0, typos=0.0, reordered=1.0))
    intent = write.intent(0)
    entity = load_vocabulary().categories[intent.category].entity
    assert write.write(intent, Wording(2, 0)).text.startswith(entity)


def test_typos_are_one_small_change() -> None:
    """One error changes the length by at most one letter; a short word alone is spelt right."""
    rng = np.random.default_rng(1)
    typed = [mistype("wireless headphones", rng) for _ in range(200)]
    assert all(text != "wireless headphones" and abs(len(text) - 19) <= 1 for text in typed)
    assert "wirelessheadphones" in typed
    assert mistype("mug", rng) == "mug"
    assert mistype("red mug", rng) == "redmug"


def test_typos_repeat() -> None:
    """Two usual errors a word: 300 errors of one word are at most two texts."""
    rng = np.random.default_rng(2)
    assert len({mistype("sneakers", rng) for _ in range(300)}) <= 2


def test_matches_counts_the_share_of_wanted_values() -> None:
    """Items {1, 2} and {3, 4}, wanted 1, 2, 3: 2/3 and 1/3; nothing wanted is matched by all."""
    values = np.array([[1, 2], [3, 4]])
    assert matches(values, [1, 2, 3]).tolist() == pytest.approx([2 / 3, 1 / 3])
    assert matches(values, []).tolist() == [1.0, 1.0]


def test_audience_is_sometimes_said(catalogue: Catalogue) -> None:
    """12% of the intents for a gendered product say for whom, and then first."""
    write, column = writer(catalogue), COLUMN["Audience"]
    leaves = load_vocabulary().categories
    target = next(i for i, c in enumerate(catalogue.category) if leaves[c].audience == "women")
    said = [write.intent(target).mentions[0] == catalogue.values[target, column] for _ in range(1000)]
    assert np.mean(said) == pytest.approx(0.12, abs=0.03)
