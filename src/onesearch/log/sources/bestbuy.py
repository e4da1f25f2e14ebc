"""Best Buy's hackathon log: a CSV of clicks and an XML of products.

A search is (user, query time): the log holds clicked searches only, one line a click. Impressions and purchases are not
recorded (null). Each product is listed twice in the XML; the copies are equal.
"""

import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

from onesearch.log import convert
from onesearch.log.records import Reader, RefusedError, Row
from onesearch.log.report import FileCount, LogError, Rejected
from onesearch.log.schema import table_of
from onesearch.log.sources.source import Raw, Source

_CLICK_COLUMNS = ("user", "sku", "category", "query", "click_time", "query_time")
_ROOT_CATEGORY = "Best Buy"
_SOLD = {"Available", "PreOrder", "ComingSoon"}
_ATTRIBUTES = {
    "Brand": ("manufacturer",),
    "Model": ("modelNumber",),
    "Specifications": ("platform", "format"),
}
"""Attribute type -> tags of the XML. Genre, from <details>, is the Style."""


class BestBuy(Source):
    """The log of the ACM SF chapter hackathon.

    Args:
        folder: holds clicks.csv and products.xml.
        availability: whether to believe `orderable`. The product file was taken in July 2012, ten months after the
            clicks: a quarter of the clicks are on items that could not be ordered then, so it tells nothing of 2011.
    """

    def __init__(self, folder: Path, availability: bool = False) -> None:
        self.folder = Path(folder)
        self.availability = availability

    def read(self) -> Raw:
        """Read both files."""
        reader = Reader()
        items, num_copies = _read_products(self.folder / "products.xml", reader)
        if not self.availability:
            items = [{**item, "available": None} for item in items]
        clicks = reader.read(self.folder / "clicks.csv", _click, _CLICK_COLUMNS)
        searches, num_renamed = _searches(clicks)
        users = [{"user_id": user} for user in dict.fromkeys(str(search["user_id"]) for search in searches)]
        tables = {
            name: table_of(name, rows) for name, rows in (("items", items), ("users", users), ("searches", searches))
        }
        return Raw(
            tables,
            tuple(reader.rejected),
            reader.files,
            {
                "equal copies of a product merged": num_copies,
                "clicks whose query text differs from the first of their search": num_renamed,
            },
            ("Best Buy records neither impressions nor purchases: these columns are null.",),
        )


def _click(values: Row) -> Row:
    return {
        "user_id": convert.identity(values["user"], "user"),
        "item_id": convert.identity(values["sku"], "sku"),
        "query": values["query"].strip(),
        "click_time": convert.time(values["click_time"]),
        "time": convert.time(values["query_time"]),
    }


def _searches(clicks: list[Row]) -> tuple[list[Row], int]:
    searches: dict[tuple[Any, Any], Row] = {}
    num_renamed = 0
    for click in sorted(clicks, key=lambda click: click["click_time"]):
        key = (click["user_id"], click["time"])
        search = searches.setdefault(
            key,
            {
                "search_id": f"{click['user_id']}@{click['time']:%Y-%m-%dT%H:%M:%S.%f}",
                "user_id": click["user_id"],
                "time": click["time"],
                "query": click["query"],
                "clicked": [],
            },
        )
        num_renamed += search["query"] != click["query"]
        search["clicked"].append(click["item_id"])
    for search in searches.values():
        search["clicked"] = list(dict.fromkeys(search["clicked"]))
    return sorted(searches.values(), key=lambda search: search["time"]), num_renamed


def _read_products(path: Path, reader: Reader) -> tuple[list[Row], int]:
    if not path.is_file():
        raise LogError(f"{path} does not exist: check the folder and the file name.")
    count = reader.files.setdefault(path.name, FileCount())
    items: dict[str, Row] = {}
    copies: Counter[str] = Counter()
    try:
        for number, product in enumerate(ET.parse(path).getroot().iter("product"), 1):
            try:
                item = _item(product)
            except RefusedError as refusal:
                count.rejected += 1
                reader.rejected.append(Rejected(path.name, number, str(refusal), ET.tostring(product)))
                continue
            count.accepted += 1
            identity = str(item["item_id"])
            if items.get(identity) == item:
                copies[identity] += 1
            else:  # another item under the same ID is left for validation to count
                items.setdefault(identity if identity not in items else f"{identity} {number}", item)
    except ET.ParseError as error:
        line = error.position[0]
        raise LogError(f"{path}, line {line}: not well-formed XML ({error}): fetch the file again.") from error
    return list(items.values()), copies.total()


def _item(product: ET.Element) -> Row:
    category = [name for name in _texts(product, "categoryPath/category/name") if name != _ROOT_CATEGORY]
    genres = [
        value
        for detail in product.iterfind("details/detail")
        if detail.findtext("name") == "Genre"
        for value in _texts(detail, "value")
    ]
    values = {kind: [found for tag in tags for found in _texts(product, tag)] for kind, tags in _ATTRIBUTES.items()}
    values["Audience"] = [rating.partition("=")[2] or rating for rating in _texts(product, "esrbRating")]  # "M=Mature"
    values["Style"] = genres
    return {
        "item_id": convert.identity(product.findtext("sku"), "sku"),
        "title": convert.identity(product.findtext("name"), "name"),
        "brand": convert.text(product.findtext("manufacturer")),
        "category": category + genres[:1],
        "price": convert.number(product.findtext("salePrice"), "salePrice"),
        "attributes": [(kind, found) for kind, found in values.items() if found],
        "available": _available(convert.text(product.findtext("orderable"))),
    }


def _available(orderable: str | None) -> bool | None:
    return None if orderable is None else orderable in _SOLD


def _texts(element: ET.Element, path: str) -> list[str]:
    return [found for child in element.iterfind(path) if (found := convert.text(child.text)) is not None]
