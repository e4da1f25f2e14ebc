"""Shoppers: tastes of a few favourites, interests that fit the demographics, activity with a long tail."""

import numpy as np
import pytest

from onesearch.simulate.catalogue import COLUMN, Catalogue, make_catalogue
from onesearch.simulate.marketplace import Marketplace
from onesearch.simulate.shoppers import TASTES, Shoppers, make_shoppers
from onesearch.simulate.vocabulary import load_vocabulary

CONFIG = Marketplace(num_items=300, num_users=800, num_searches=2_000)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return make_catalogue(load_vocabulary(), CONFIG)


@pytest.fixture(scope="module")
def shoppers(catalogue: Catalogue) -> Shoppers:
    return make_shoppers(load_vocabulary(), catalogue, CONFIG)


def test_shares(shoppers: Shoppers) -> None:
    """Exactly 15% are cold; about 10% have no taste; interests are probabilities."""
    assert shoppers.cold.mean() == pytest.approx(0.15)
    assert np.mean((shoppers.taste == 0).all(1)) == pytest.approx(0.1, abs=0.04)
    assert np.allclose(shoppers.categories.sum(1), 1)


def test_favourites_are_few(shoppers: Shoppers) -> None:
    """Two brands in each of 10 departments, two colours, one price band."""
    vocabulary = load_vocabulary()
    user = int(np.flatnonzero((shoppers.taste > 0).any(1))[0])
    liked = [vocabulary.values[v][0] for v in np.flatnonzero(shoppers.taste[user])]
    assert {kind: liked.count(kind) for kind in ("Brand", "Color", "Price")} == {"Brand": 20, "Color": 2, "Price": 1}


def test_liking_sums_the_favourite_values(shoppers: Shoppers, catalogue: Catalogue) -> None:
    """t(u, i) against a plain loop over the attribute types; an absent value adds nothing."""
    assert (shoppers.taste[:, catalogue.absent] == 0).all()
    for item in range(20):
        expected = sum(shoppers.taste[3, catalogue.values[item, COLUMN[kind]]] for kind in TASTES)
        assert shoppers.liking(3, catalogue.values[item : item + 1])[0] == pytest.approx(expected)


def test_interests_follow_gender(shoppers: Shoppers) -> None:
    leaves = load_vocabulary().categories
    of_men = np.array([leaf.audience == "men" for leaf in leaves])
    share = shoppers.categories[:, of_men].sum(1)
    assert share[shoppers.gender == "M"].mean() > 4 * share[shoppers.gender == "F"].mean()


def test_activity_has_a_long_tail(shoppers: Shoppers) -> None:
    """Pareto with tail index 1.3: the busiest tenth does far more than a tenth."""
    busiest = np.sort(shoppers.activity)[::-1]
    assert busiest[: len(busiest) // 10].sum() > 0.35 * busiest.sum()


def test_taste_can_be_switched_off(catalogue: Catalogue) -> None:
    alike = make_shoppers(load_vocabulary(), catalogue, Marketplace(num_items=300, num_users=20, taste=0.0))
    assert not alike.taste.any()
