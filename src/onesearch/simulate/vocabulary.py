"""The words of the marketplace: departments, categories and values of the 18 attribute types, from vocabulary.json."""

import functools
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

TYPES = (
    "Entity",
    "Modifier",
    "Brand",
    "Material",
    "Style",
    "Function",
    "Location",
    "Audience",
    "Color",
    "Scene",
    "Specifications",
    "Price",
    "Model",
    "Anchor",
    "Series",
    "Marketing",
    "Season",
    "Pattern",
)
"""The 18 attribute types in the order of `onesearch.types.ATTRIBUTE_TYPES`, here without its import of torch."""

PRICE_BANDS = ("budget", "mid-range", "premium")
BY_DEPARTMENT = ("Material", "Modifier", "Function", "Specifications")


class Category(NamedTuple):
    """A leaf of the category tree."""

    path: tuple[str, ...]  # coarse to fine
    department: int
    entity: str  # what a shopper calls it; two categories may share it ("sneakers")
    synonyms: tuple[str, ...]  # other words for it, which never stand in a title
    audience: str
    price: float  # median
    demand: float  # share of the market, up to a factor


@dataclass(frozen=True)
class Vocabulary:
    """All words. Values are numbered: `values[v]` is (attribute type, text)."""

    categories: tuple[Category, ...]
    departments: tuple[dict[str, Any], ...]
    shared: dict[str, list[str]]
    synonyms: dict[str, list[str]]  # of attribute values
    values: tuple[tuple[str, str], ...]
    number: dict[tuple[str, str], int]  # the inverse of `values`

    def choices(self, kind: str, department: int) -> list[int]:
        """Numbers of the values of an attribute type that a department's items can have."""
        if kind == "Brand":
            texts = [brand for band in PRICE_BANDS for brand in self.departments[department]["brands"][band]]
        elif kind in BY_DEPARTMENT:
            texts = self.departments[department][kind]
        else:
            texts = self.shared[kind]
        return [self.number[kind, text] for text in texts]

    def band(self, department: int, brand: int) -> int:
        """Price band of a brand: 0 budget, 1 mid-range, 2 premium."""
        brands = self.departments[department]["brands"]
        return next(i for i, band in enumerate(PRICE_BANDS) if self.values[brand][1] in brands[band])


@functools.cache
def load_vocabulary() -> Vocabulary:
    """Read the vocabulary that ships with the package."""
    content = json.loads(resources.files("onesearch.simulate").joinpath("vocabulary.json").read_text("utf-8"))
    departments = content["departments"]
    categories = tuple(
        Category(
            path=(department["name"], *leaf["path"]),
            department=index,
            synonyms=tuple(leaf["synonyms"]),
            demand=leaf["demand"] ** 2,  # the file tells how departments compare, the square how steep demand is
            **{name: leaf[name] for name in ("entity", "audience", "price")},
        )
        for index, department in enumerate(departments)
        for leaf in department["categories"]
    )
    values = dict.fromkeys((kind, text) for kind, texts in content["shared"].items() for text in texts)
    values |= dict.fromkeys((kind, text) for department in departments for kind, text in _own_values(department))
    values |= dict.fromkeys(("Entity", category.entity) for category in categories)
    values |= dict.fromkeys(("Audience", category.audience) for category in categories)
    number = {value: index for index, value in enumerate(values)}
    return Vocabulary(categories, tuple(departments), content["shared"], content["synonyms"], tuple(values), number)


def _own_values(department: dict[str, Any]) -> list[tuple[str, str]]:
    brands = [("Brand", brand) for band in PRICE_BANDS for brand in department["brands"][band]]
    return brands + [(kind, text) for kind in BY_DEPARTMENT for text in department[kind]]
