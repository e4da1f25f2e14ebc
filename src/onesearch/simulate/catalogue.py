"""The items of the marketplace: attributes, prices, quality, and a popularity that follows a power law and drifts.

    popularity of item i in week t:   log p_t(i) = -a·log(rank_i) + Σ_{s<=t} ε_s,   ε ~ N(0, σ²)

a = 0.8 lies inside the range that e-commerce logs show; σ is small, so that best-sellers change over months, not days.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onesearch.simulate.marketplace import Marketplace
from onesearch.simulate.titles import write_title
from onesearch.simulate.vocabulary import PRICE_BANDS, TYPES, Vocabulary

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

WEEK = 7  # days
POWER = 0.8
DRIFT = 0.12
RECORDED = {
    "Modifier": 0.7, "Brand": 0.93, "Material": 0.85, "Style": 0.9, "Function": 0.7, "Location": 0.25, "Color": 0.97,
    "Scene": 0.6, "Specifications": 0.6, "Anchor": 1.0, "Series": 0.4, "Marketing": 0.5, "Season": 0.6, "Pattern": 0.6,
}  # fmt: skip
"""How often an attribute is recorded: merchants fill in what sells and leave out the rest."""

MARK_UP = np.array([0.6, 1.0, 2.1])  # of a brand's price band
COLUMN = {kind: column for column, kind in enumerate(TYPES)}


@dataclass(frozen=True)
class Catalogue:
    """Items as arrays. `values[i, COLUMN[kind]]` is the number of item i's value, `absent` where it has none."""

    titles: list[str]
    models: list[str]  # model number, "" for none
    category: Ints  # [N]
    values: Ints  # [N, 18]
    absent: int  # one past the last value number, so that tables indexed by value need one more column
    price: Floats  # [N]
    quality: Floats  # [N] standard normal: what photos, reviews and service tell
    popularity: Floats  # [weeks, N] log
    listed: Ints  # [N] first day on sale
    withdrawn: Ints  # [N] first day no longer on sale

    def on_sale(self, items: Ints, day: int) -> Ints:
        """Those of `items` that can be shown on `day`."""
        return items[(self.listed[items] <= day) & (day < self.withdrawn[items])]


def make_catalogue(vocabulary: Vocabulary, config: Marketplace) -> Catalogue:
    """Draw a catalogue.

    Args:
        vocabulary: the words.
        config: the marketplace.
    """
    rng = config.chance("catalogue")
    category = _categories(vocabulary, config.num_items, rng)
    values = _values(vocabulary, category, rng)
    price = _prices(vocabulary, category, values, rng)
    _name_price_bands(vocabulary, category, values, price)
    models = [_model(rng) if rng.random() < 0.4 else "" for _ in category]
    listed, withdrawn = _life(config, rng)
    return Catalogue(
        titles=[
            write_title(vocabulary, c, row, model, rng) for c, row, model in zip(category, values, models, strict=True)
        ],
        models=models,
        category=category,
        values=values,
        absent=len(vocabulary.values),
        price=price,
        quality=rng.normal(size=len(category)),
        popularity=_popularity(len(category), config.num_days, rng),
        listed=listed,
        withdrawn=withdrawn,
    )


def _categories(vocabulary: Vocabulary, num_items: int, rng: np.random.Generator) -> Ints:
    demand = np.array([category.demand for category in vocabulary.categories])
    # Every leaf has a few items; above that supply follows demand.
    floor = np.repeat(np.arange(len(demand)), max(1, num_items // (4 * len(demand))))[:num_items]
    rest = rng.choice(len(demand), num_items - len(floor), p=demand / demand.sum())
    return rng.permutation(np.concatenate([floor, rest]))


def _values(vocabulary: Vocabulary, category: Ints, rng: np.random.Generator) -> Ints:
    values = np.full((len(category), len(TYPES)), len(vocabulary.values), np.int64)
    for c, leaf in enumerate(vocabulary.categories):
        rows = np.flatnonzero(category == c)
        values[rows, COLUMN["Entity"]] = vocabulary.number["Entity", leaf.entity]
        values[rows, COLUMN["Audience"]] = vocabulary.number["Audience", leaf.audience]
        for kind, share in RECORDED.items():
            choices = np.array(vocabulary.choices(kind, leaf.department))
            # Each category has its own common and rare values, as jeans are mostly blue and mugs mostly white.
            weight = rng.dirichlet(np.full(len(choices), 0.9))
            recorded = rows[rng.random(len(rows)) < share]
            values[recorded, COLUMN[kind]] = rng.choice(choices, len(recorded), p=weight)
    return values


def _prices(vocabulary: Vocabulary, category: Ints, values: Ints, rng: np.random.Generator) -> Floats:
    median = np.array([vocabulary.categories[c].price for c in category])
    brands = values[:, COLUMN["Brand"]]
    band = np.zeros(len(category), np.int64)  # no brand sells at the price of a cheap one
    for row in np.flatnonzero(brands < len(vocabulary.values)):
        band[row] = vocabulary.band(vocabulary.categories[category[row]].department, brands[row])
    price: Floats = median * MARK_UP[band] * rng.lognormal(0, 0.3, len(category))
    return np.asarray(np.maximum(np.round(price) - 0.01, 0.99))


def _name_price_bands(vocabulary: Vocabulary, category: Ints, values: Ints, price: Floats) -> None:
    """Cheap and dear are said within a category: lowest third, middle, highest quarter."""
    names = [vocabulary.number["Price", band] for band in PRICE_BANDS]
    for c in np.unique(category):
        rows = np.flatnonzero(category == c)
        cuts = np.quantile(price[rows], [1 / 3, 3 / 4])
        values[rows, COLUMN["Price"]] = np.array(names)[np.searchsorted(cuts, price[rows])]


def _model(rng: np.random.Generator) -> str:
    letters = "".join(rng.choice(list("ABCDEFGHKLMNPRSTVX"), 2))
    return f"{letters}-{rng.integers(100, 1000)}"


def _life(config: Marketplace, rng: np.random.Generator) -> tuple[Ints, Ints]:
    num_items, num_days = config.num_items, config.num_days
    new = rng.random(num_items) < config.cold_items
    listed = np.where(new, rng.integers(1, num_days, num_items), 0)
    ends = rng.random(num_items) < 0.05
    withdrawn = np.where(ends, listed + rng.integers(num_days // 3, num_days, num_items), 2 * num_days)
    return listed, withdrawn


def _popularity(num_items: int, num_days: int, rng: np.random.Generator) -> Floats:
    rank = rng.permutation(num_items) + 1
    steps = rng.normal(0, DRIFT, (num_days // WEEK + 2, num_items))
    popularity: Floats = -POWER * np.log(rank) + np.cumsum(steps, axis=0)
    # Centred on the logarithm of a middling item, so that other weights mean the same in any size of catalogue.
    return popularity - np.median(popularity)
