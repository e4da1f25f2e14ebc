"""Icecat's open product sheets → canonical items: what kind of product it is, and its attributes as shoppers name them.

A sheet has no category. Its title, though, is composed (supplier, name, kind, features), and the kind is written in
small letters: "Xerox 006R90321 toner cartridge Original Black". The kinds are learnt from these titles; a product whose
title gives none takes its product type, or the longest of the words in `icecat.json` that title or description hold.

Of thousands of attribute names, the frequent ones that a shopper would name are mapped to the 18 types by
`icecat.json`; sizes and weights of boxes and pallets are not. A number says nothing without its unit, and sheets name
none: only those are taken whose unit the titles of the same catalogue show (700 of 826 titles write the 15.6 of
"display_diagonal" as 15.6").
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from onesearch.log import convert
from onesearch.log.records import Row

_TABLE: dict[str, Any] = json.loads(files("onesearch.log.sources").joinpath("icecat.json").read_text("utf-8"))
TYPE_OF: dict[str, str] = {name: kind for kind, names in _TABLE["attributes"].items() for name in names}
"""Name of a text attribute, without its prefix -> attribute type."""

_ORDER = ("Brand", *_TABLE["attributes"])  # what tells items apart comes first: the encoder reads so many tokens only
_NOTHING = frozenset(_TABLE["nothing"])
_SMALL_WORD = re.compile(r"[a-z][a-z/&-]+")
_CUT = re.compile(r"\s*(?:,|;|\n|\\n|^- )\s*(?:- )?")
_FAMILY_END = re.compile(r"-\d*x{2,}$")  # a shopper says "Core i7" for "Core i7-10xxx"
_MEASURE = re.compile(r"[\d.,]+ ?(?:[KMGT]B|mm|cm|m|ft|in)\b.*")
_MIN_KIND = 3  # products that have a kind in their title: fewer are accidents of composition
_MAX_VALUES = 4  # of one attribute: a compatibility list runs to hundreds of printers
_MAX_LETTERS = 30  # longer values are sentences


class Catalogue:
    """What the sheets of a catalogue tell together: its brands, and the kinds of products by composed titles.

    Args:
        products: sheets with a name and a title.
    """

    def __init__(self, products: Sequence[Row]) -> None:
        self.brands = frozenset(str(product["supplier"]).casefold() for product in products if product.get("supplier"))
        counts = Counter(kind for product in products if (kind := " ".join(_small_words(product))))
        self.known = frozenset(kind for kind, count in counts.items() if count >= _MIN_KIND)
        self.meant = {kind: kind for kind in self.known if " " in kind} | _TABLE["kinds"]
        words = "|".join(re.escape(word) for word in sorted(self.meant, key=len, reverse=True))
        self._pattern = re.compile(rf"(?<!\w)(?:{words})(?![\w(])")  # "6 pc(s)" is no PC

    def kind_of(self, product: Row) -> str | None:
        """The kind of `product`, or None where nothing tells it."""
        return (
            self._composed(product)
            or self._found(str(product.get("attr_t_product_type", "")))
            or _signed(product)
            or self._found(str(product["title"]))
            or _supply(product)
            or self._found(str(product.get("short_description", "")))
        )

    def _composed(self, product: Row) -> str | None:
        words = _small_words(product)
        heads = (" ".join(words[:length]) for length in range(len(words), 0, -1))
        return next((head for head in heads if head in self.known), None)

    def _found(self, text: str) -> str | None:
        found = self._pattern.findall(text.casefold())
        return self.meant[max(reversed(found), key=len)] if found else None  # of equal ones the last: "for X, a Y"


def item(product: Row, catalogue: Catalogue) -> Row:
    """The canonical item of a sheet.

    Raises:
        RefusedError: a price that is no number.
    """
    kind = catalogue.kind_of(product)
    cents = convert.number(product.get("price"), "price")
    return {
        "item_id": str(product["id"]),
        "title": str(product["title"]).strip(),
        "brand": convert.text(product.get("supplier")),
        "category": [kind] if kind else [],
        "price": None if cents is None else cents / 100,
        "attributes": attributes(product, kind, catalogue.brands),
    }


def attributes(product: Row, kind: str | None, brands: Collection[str]) -> list[tuple[str, list[str]]]:
    """The values of each attribute type that has any, what tells items apart first.

    Args:
        product: a sheet.
        kind: what kind of product it is.
        brands: folded; a series or a printer it fits that is no more than a brand ("HP") is no value.
    """
    found: dict[str, dict[str, str]] = {type_: {} for type_ in _ORDER}  # folded value -> the value as first written
    for type_, value in [("Brand", product.get("supplier")), ("Model", _model(product)), ("Entity", kind)]:
        if value:
            found[type_][str(value).casefold()] = str(value)
    for field, value in product.items():
        prefix, _, name = field.removeprefix("attr_").partition("_")
        for type_, text in _values(prefix, name, value) if field.startswith("attr_") else ():
            if text.casefold() not in brands:
                found[type_].setdefault(text.casefold(), text)
    return [(type_, list(values.values())) for type_, values in found.items() if values]


def _values(prefix: str, name: str, value: Any) -> Iterable[tuple[str, str]]:
    """(attribute type, value) of one attribute; its prefix says text (t), number (n) or yes/no (b)."""
    if prefix == "n" and name in _TABLE["numbers"] and isinstance(value, (int, float)) and value > 0:
        yield "Specifications", _TABLE["numbers"][name].format(f"{value:g}")
    elif prefix == "b" and value is True and name in _TABLE["flags"]:
        yield "Function", _TABLE["flags"][name]
    elif prefix == "t" and (type_ := type_of(name)):
        parts = (_FAMILY_END.sub("", part) for part in _CUT.split(str(value).strip()))
        for text in list(filter(_tells, parts))[:_MAX_VALUES]:
            yield _TABLE["values"].get(text.casefold(), type_), text


def type_of(name: str) -> str | None:
    """The attribute type of a text attribute by its name, or None where it is not mapped."""
    suffixes: Mapping[str, str] = _TABLE["suffixes"]
    return TYPE_OF.get(name) or next((type_ for end, type_ in suffixes.items() if name.endswith(end)), None)


def _tells(text: str) -> bool:
    """Whether a value is one: no yes or no, no bare number, no sentence."""
    return (
        1 < len(text) <= _MAX_LETTERS and text.casefold() not in _NOTHING and any(letter.isalpha() for letter in text)
    )


def _model(product: Row) -> str | None:
    """The name where it is a model ("006R90321") and not a description of the product."""
    name = str(product.get("name", "")).strip()
    is_code = len(name.split()) <= 3 and any(letter.isdigit() for letter in name) and not _MEASURE.fullmatch(name)
    return name if is_code and _tells(name) else None


def _small_words(product: Row) -> list[str]:
    """The words in small letters that follow the name in the title."""
    title, name = str(product["title"]), str(product.get("name", "")).strip()
    place = title.casefold().find(name.casefold())
    words: list[str] = []
    for word in title[place + len(name) :].split() if name and place >= 0 else ():
        if not _SMALL_WORD.fullmatch(word):
            break
        words.append(word)
    return words


def _signed(product: Row) -> str | None:
    """The kind of a product that has all attributes of a sign: a processor, a pointing device and a display."""
    signs: list[tuple[list[str], str]] = _TABLE["signs"]
    return next((kind for fields, kind in signs if all(f"attr_{field}" in product for field in fields)), None)


def _supply(product: Row) -> str | None:
    """A printing supply: its sheet names the colours it prints and how."""
    technology = str(product.get("attr_t_print_technology", "")).casefold()
    if "attr_t_printing_colours" not in product:
        return None
    return "ink cartridge" if "inkjet" in technology else "toner cartridge" if "laser" in technology else None
