"""Clicks and purchases in the recommendation feed: no query, long-lived taste alone."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onesearch.simulate.catalogue import COLUMN, Catalogue, Floats, Ints
from onesearch.simulate.marketplace import DAY, Marketplace
from onesearch.simulate.shoppers import Shoppers

PURCHASE_BIAS = -3.4  # a feed is looked at, a search is bought from: conversion lies below that of search


class Recommendations(NamedTuple):
    """Clicks in the feed by time, [E]."""

    user: Ints
    second: Floats
    item: Ints
    purchased: NDArray[np.bool_]

    def by_user(self, num_users: int) -> list[list[tuple[float, int]]]:
        """(second, item) of each shopper's clicks, by time."""
        clicks: list[list[tuple[float, int]]] = [[] for _ in range(num_users)]
        for user, second, item in zip(self.user, self.second, self.item, strict=True):
            clicks[user].append((float(second), int(item)))
        return clicks


def recommend(catalogue: Catalogue, shoppers: Shoppers, config: Marketplace) -> Recommendations:
    """Draw the feed's clicks.

    Args:
        catalogue: the items.
        shoppers: the shoppers.
        config: the marketplace.
    """
    rng = config.chance("recommendations")
    user = np.sort(rng.choice(len(shoppers.activity), config.num_recommendations, p=_share(shoppers)))
    begin = np.where(shoppers.cold[user], config.late, 0.0)
    second = begin + rng.random(len(user)) * (config.seconds - begin)
    item = np.concatenate([np.empty(0, np.int64), *_chosen(catalogue, shoppers, user, rng)])
    day = (second // DAY).astype(np.int64)
    shown = (catalogue.listed[item] <= day) & (day < catalogue.withdrawn[item])
    purse = shoppers.taste[user, catalogue.values[item, COLUMN["Price"]]]
    chance = 1 / (1 + np.exp(-(PURCHASE_BIAS + purse + 0.7 * catalogue.quality[item])))
    purchased = rng.random(len(item)) < chance
    order = np.flatnonzero(shown)[np.argsort(second[shown], kind="stable")]
    return Recommendations(user[order], second[order], item[order], purchased[order])


def _share(shoppers: Shoppers) -> Floats:
    weight = np.where(shoppers.cold, 0.05, shoppers.activity)  # newcomers have hardly seen a feed
    share: Floats = weight / weight.sum()
    return share


def _chosen(catalogue: Catalogue, shoppers: Shoppers, user: Ints, rng: np.random.Generator) -> list[Ints]:
    popularity = 0.6 * catalogue.popularity.mean(0)
    chosen = []
    for shopper, count in zip(*np.unique(user, return_counts=True), strict=True):
        interest = np.log(shoppers.categories[shopper] / np.bincount(catalogue.category).clip(1) + 1e-9)
        utility = popularity + shoppers.liking(shopper, catalogue.values) + interest[catalogue.category]
        probability = np.exp(utility - utility.max())
        chosen.append(rng.choice(len(utility), count, p=probability / probability.sum()))
    return chosen
