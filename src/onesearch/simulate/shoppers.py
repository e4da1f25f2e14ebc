"""Who buys: demographics, activity, and long-lived tastes that fit the demographics.

utility of item i for shopper u:   t(u, i) = s_u · Σ_{a in TASTES} w_a · [value of i for a is a favourite of u]
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onesearch.simulate.catalogue import COLUMN, Catalogue, Floats, Ints
from onesearch.simulate.marketplace import Marketplace
from onesearch.simulate.vocabulary import PRICE_BANDS, Vocabulary

TASTES = {"Brand": 1.7, "Color": 1.1, "Style": 1.2, "Price": 1.0, "Material": 0.7, "Pattern": 0.5, "Anchor": 1.0}
"""Weight w_a of each attribute type that a shopper can have favourites in: brand loyalty first, as panels report."""

TASTE_COLUMNS = np.array([COLUMN[kind] for kind in TASTES])
AGES = ("18-24", "25-30", "31-40", "41-50", "51-60", "60+")
AGE_SHARES = (0.18, 0.24, 0.28, 0.16, 0.09, 0.05)
PROVINCES = {
    "Zhejiang": ("Hangzhou", "Ningbo", "Wenzhou"), "Guangdong": ("Guangzhou", "Shenzhen", "Foshan"),
    "Sichuan": ("Chengdu", "Mianyang"), "Hebei": ("Shijiazhuang", "Tangshan"), "Jiangsu": ("Nanjing", "Suzhou"),
    "Heilongjiang": ("Harbin", "Daqing"), "Hubei": ("Wuhan", "Yichang"), "Yunnan": ("Kunming", "Dali"),
}  # fmt: skip
ACTIVITY = 1.3  # tail index of the Pareto activity: few shoppers make most searches
UNRECORDED = 0.12  # share of shoppers whose demographics the log does not hold


@dataclass(frozen=True)
class Shoppers:
    """Shoppers as arrays, [U]."""

    gender: NDArray[np.str_]  # "F" or "M"
    age: Ints  # index into AGES
    province: Ints  # index into PROVINCES
    city: list[str]
    recorded: NDArray[np.bool_]  # whether the log holds the demographics
    cold: NDArray[np.bool_]  # first appears in the last tenth of the time
    activity: Floats  # expected share of the searches, up to a factor
    categories: Floats  # [U, leaf categories] probability that an intent is in this category
    taste: NDArray[np.float32]  # [U, values + 1] utility of each value; the last column, for absent values, is 0

    def liking(self, user: int, values: Ints) -> NDArray[np.float32]:
        """Taste utility t(u, i) of items with these `values` [n, 18] -> [n]."""
        liking: NDArray[np.float32] = self.taste[user][values[:, TASTE_COLUMNS]].sum(1)
        return liking


def make_shoppers(vocabulary: Vocabulary, catalogue: Catalogue, config: Marketplace) -> Shoppers:
    """Draw shoppers with tastes over the values of a catalogue.

    Args:
        vocabulary: the words.
        catalogue: says how many values there are.
        config: the marketplace.
    """
    rng = config.chance("shoppers")
    num_users = config.num_users
    gender = rng.choice(["F", "M"], num_users, p=[0.58, 0.42])
    age = rng.choice(len(AGES), num_users, p=AGE_SHARES)
    province = rng.integers(len(PROVINCES), size=num_users)
    cities = list(PROVINCES.values())
    strength = config.taste * np.minimum(rng.gamma(4.0, 0.25, num_users), 2.0)  # mean 1
    strength[rng.random(num_users) < config.indifferent] = 0.0
    return Shoppers(
        gender=gender,
        age=age,
        province=province,
        city=[str(rng.choice(cities[p])) for p in province],
        recorded=rng.random(num_users) >= UNRECORDED,
        cold=rng.permutation(num_users) < round(config.cold_users * num_users),
        activity=rng.pareto(ACTIVITY, num_users).clip(0.05, 60),
        categories=_category_interest(vocabulary, gender, age, rng),
        taste=_tastes(vocabulary, age, province, strength, catalogue.absent, rng),
    )


def _category_interest(vocabulary: Vocabulary, gender: NDArray[np.str_], age: Ints, rng: np.random.Generator) -> Floats:
    """Two to four departments a shopper, inside them a few leaves; what is made for the other gender is rare."""
    leaves = vocabulary.categories
    department = np.array([leaf.department for leaf in leaves])
    audience = np.array([leaf.audience for leaf in leaves])
    demand = np.array([leaf.demand for leaf in leaves])
    kids = np.isin(audience, ["kids", "baby"])
    interest = np.empty((len(gender), len(leaves)))
    for user in range(len(gender)):
        fit = np.where(audience == ("men" if gender[user] == "F" else "women"), 0.06, 1.0)
        fit = fit * np.where(kids & ~np.isin(age[user], [1, 2]), 0.2, 1.0)
        share = np.bincount(department, demand * fit)
        favourites = rng.choice(len(share), rng.integers(2, 5), replace=False, p=share / share.sum())
        weight = demand * fit * rng.gamma(0.6, 1.0, len(leaves)) * np.where(np.isin(department, favourites), 1.0, 0.05)
        interest[user] = weight / weight.sum()
    return interest


def _tastes(
    vocabulary: Vocabulary, age: Ints, province: Ints, strength: Floats, absent: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    # People of an age and of a place like the same things more often: that is what demographics can tell an engine.
    by_age = rng.gumbel(size=(len(AGES), absent)) * 0.8
    by_place = rng.gumbel(size=(len(PROVINCES), absent)) * 0.4
    taste = np.zeros((len(age), absent + 1), np.float32)
    bands = np.array([vocabulary.number["Price", band] for band in PRICE_BANDS])
    groups = _choice_groups(vocabulary)
    for user in range(len(age)):
        appeal = by_age[age[user]] + by_place[province[user]] + rng.gumbel(size=absent)
        for kind, choices, count in groups:
            favourites = choices[np.argsort(-appeal[choices])[:count]]
            taste[user, favourites] = strength[user] * TASTES[kind]
        band = rng.choice(bands, p=[0.35, 0.4, 0.25])  # the purse
        taste[user, band] = strength[user] * TASTES["Price"]
    return taste


def _choice_groups(vocabulary: Vocabulary) -> list[tuple[str, Ints, int]]:
    """(attribute type, values to choose from, number of favourites): brands and materials are chosen by department."""
    shared = (("Color", 2), ("Style", 2), ("Pattern", 1), ("Anchor", 3))
    groups = [(kind, np.array(vocabulary.choices(kind, 0)), count) for kind, count in shared]
    for department in range(len(vocabulary.departments)):
        groups.append(("Brand", np.array(vocabulary.choices("Brand", department)), 2))
        groups.append(("Material", np.array(vocabulary.choices("Material", department)), 1))
    return groups
