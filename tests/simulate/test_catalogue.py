"""Items: all attribute types, power-law popularity, prices that follow the brand, titles that cannot be trusted."""

import numpy as np
import pytest

from onesearch.simulate.catalogue import COLUMN, POWER, Catalogue, make_catalogue
from onesearch.simulate.marketplace import Marketplace
from onesearch.simulate.vocabulary import TYPES, load_vocabulary

CONFIG = Marketplace(num_items=1_500)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return make_catalogue(load_vocabulary(), CONFIG)


def test_every_listed_attribute_occurs(catalogue: Catalogue) -> None:
    """The model number lies in `models`; the other 17 types in `values`."""
    present = (catalogue.values < catalogue.absent).any(0)
    assert {kind for kind in TYPES if present[COLUMN[kind]]} == set(TYPES) - {"Model"}
    assert 0.3 < np.mean([bool(model) for model in catalogue.models]) < 0.5


def test_every_category_is_stocked(catalogue: Catalogue) -> None:
    counts = np.bincount(catalogue.category, minlength=len(load_vocabulary().categories))
    assert counts.min() >= 5
    assert counts.max() > 5 * np.median(counts)  # supply follows a steep demand


def test_popularity_is_a_power_law(catalogue: Catalogue) -> None:
    """Before any drift the sorted log popularity is -POWER·log(rank): the fitted slope is -POWER up to the noise."""
    first = np.sort(catalogue.popularity[0])[::-1]
    slope = np.polyfit(np.log(np.arange(1, len(first) + 1)), first, 1)[0]
    assert slope == pytest.approx(-POWER, abs=0.05)


def test_popularity_drifts_mildly(catalogue: Catalogue) -> None:
    """13 weeks of steps of 0.12 add a deviation of 0.12·√13 = 0.43, against one of about 0.8 between the items."""
    assert np.std(catalogue.popularity[13] - catalogue.popularity[0]) == pytest.approx(0.12 * np.sqrt(13), rel=0.1)


def test_premium_brands_cost_more(catalogue: Catalogue) -> None:
    """Mark-ups are 0.6 and 2.1, the noise of the log price is 0.3: within a leaf the premium median is far above."""
    vocabulary = load_vocabulary()
    leaf = int(np.argmax(np.bincount(catalogue.category)))
    department = vocabulary.categories[leaf].department
    by_band: dict[int, list[float]] = {0: [], 2: []}
    for row in np.flatnonzero((catalogue.category == leaf) & (catalogue.values[:, COLUMN["Brand"]] < catalogue.absent)):
        band = vocabulary.band(department, catalogue.values[row, COLUMN["Brand"]])
        by_band.setdefault(band, []).append(catalogue.price[row])
    assert np.median(by_band[2]) > 2 * np.median(by_band[0])


def test_titles_name_the_product_and_are_noisy(catalogue: Catalogue) -> None:
    """The product word always stands; the own colour mostly does not alone decide: some titles name another one."""
    vocabulary = load_vocabulary()
    colours = {text for kind, text in vocabulary.values if kind == "Color"}
    wrong = 0
    for title, row in zip(catalogue.titles, catalogue.values, strict=True):
        words = title.lower()
        assert vocabulary.values[row[COLUMN["Entity"]]][1] in words
        own = vocabulary.values[row[COLUMN["Color"]]][1] if row[COLUMN["Color"]] < catalogue.absent else ""
        wrong += bool(colours & set(words.split()) - {own})
    assert 0.02 < wrong / len(catalogue.titles) < 0.2


def test_items_come_and_go(catalogue: Catalogue) -> None:
    """A quarter is listed after the first day; `on_sale` keeps what is listed and not withdrawn."""
    assert np.mean(catalogue.listed > 0) == pytest.approx(CONFIG.cold_items, abs=0.04)
    assert (catalogue.withdrawn > catalogue.listed).all()
    items = np.arange(CONFIG.num_items)
    day = 45
    expected = [i for i in items if catalogue.listed[i] <= day < catalogue.withdrawn[i]]
    assert catalogue.on_sale(items, day).tolist() == expected
    assert 0 < len(expected) < CONFIG.num_items
