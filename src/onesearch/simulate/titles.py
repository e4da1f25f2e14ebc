"""Titles as merchants write them: stuffed, repeated, shuffled, and not always true."""

import numpy as np
from numpy.typing import NDArray

from onesearch.simulate.vocabulary import TYPES, Vocabulary

NAMED = {
    "Brand": 0.8, "Series": 0.7, "Style": 0.45, "Color": 0.6, "Material": 0.55, "Modifier": 0.55, "Function": 0.5,
    "Pattern": 0.5, "Season": 0.4, "Audience": 0.6, "Scene": 0.4, "Specifications": 0.5, "Location": 0.6,
    "Marketing": 0.8,
}  # fmt: skip
"""How often a recorded attribute stands in the title."""

PADDING = (
    "new",
    "hot",
    "2025",
    "quality",
    "official",
    "original",
    "top",
    "best price",
    "fashion",
    "popular",
    "must have",
)


def write_title(
    vocabulary: Vocabulary, category: int, values: NDArray[np.int64], model: str, rng: np.random.Generator
) -> str:
    """One noisy title.

    Args:
        vocabulary: the words.
        category: number of the leaf category.
        values: [18] value numbers of the item.
        model: model number, "" for none.
        rng: chance.
    """
    leaf = vocabulary.categories[category]
    told = [
        vocabulary.values[value][1]
        for kind, value in zip(TYPES, values, strict=True)
        if value < len(vocabulary.values) and rng.random() < NAMED.get(kind, 0.0)
    ]
    if model and rng.random() < 0.6:
        told.append(model)
    if rng.random() < 0.2:  # a value that is not the item's own, to be found by more queries
        told.append(
            str(rng.choice(vocabulary.shared[str(rng.choice(["Color", "Style", "Season", "Scene", "Pattern"]))]))
        )
    if rng.random() < 0.06:  # another department's product: "dress ... matching handbag"
        told.append(vocabulary.categories[rng.integers(len(vocabulary.categories))].entity)
    told += [str(word) for word in rng.choice(PADDING, rng.integers(0, 4), replace=False)]
    if rng.random() < 0.25:
        told.append(leaf.entity)  # said twice
    if rng.random() < 0.7:
        told = [told[i] for i in rng.permutation(len(told))]
    told.insert(int(rng.integers(len(told) // 2, len(told) + 1)), leaf.entity)
    return " ".join(word if any(c.isupper() for c in word) else word.title() for word in told)
