"""Chorus: the electronics catalogue of Icecat's Open Content, with queries that people graded.

Zip files of JSON lists hold the product sheets (read by `icecat`), `Broad_Query_Set_rated.csv` one (query, docid,
rating) a line. Ratings are whole numbers from 0 to 3, the same four steps as our grades, so they are taken as they are;
prices are whole numbers of cents (4995: they end in 95), of a currency that is named nowhere.

There is no behaviour in it: no shopper, no click, no time. What fills the table of searches are pseudo-searches, made
from grades and product sheets in the way of the academic product-search sets, and labelled as such in `entrance`. They
let the stages be trained and tested; they tell nothing of what shoppers do.
"""

import json
import random
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from onesearch.log import convert
from onesearch.log.records import Reader, RefusedError, Row
from onesearch.log.report import FileCount, LogError, Rejected
from onesearch.log.schema import GRADES, table_of
from onesearch.log.sources import icecat
from onesearch.log.sources.source import Raw, Source
from onesearch.log.text import normalize_query

RATINGS = "Broad_Query_Set_rated.csv"
"""The file of graded queries."""

GRADED, STRUCTURED = "pseudo: graded query", "pseudo: brand and category"
"""The entrance of a pseudo-search says what it was made from."""

_DAYS = {part: datetime(2024, 1, 2 + place, tzinfo=UTC) for place, part in enumerate(("train", "validation", "test"))}
_STRUCTURED_DAY = datetime(2024, 1, 1, tzinfo=UTC)
_CLICKED_GRADE = 2


class Chorus(Source):
    """The catalogue and the graded queries of o19s/chorus.

    Args:
        folder: holds the zip files of products and Broad_Query_Set_rated.csv.
        pseudo_searches: whether each graded query becomes a search that shows its rated items, of which those of grade
            2 or 3 count as clicked. No behaviour: its day is made up, so that a split by time keeps queries apart.
        structured_queries: whether each brand and category ("xerox toner cartridge") becomes a search of the first day
            in which all items of that brand and category count as clicked. No behaviour either; it reaches every item.
        test_share: share of the graded queries that are the test; half of that is the validation.
        seed: of the choice of these queries.
    """

    def __init__(
        self,
        folder: Path,
        pseudo_searches: bool = True,
        structured_queries: bool = True,
        test_share: float = 0.2,
        seed: int = 0,
    ) -> None:
        if not 0 < test_share < 0.6:
            raise LogError(f"source.test_share is {test_share}: give a share between 0 and 0.6.")
        self.folder = Path(folder)
        self.pseudo_searches = pseudo_searches
        self.structured_queries = structured_queries
        self.test_share = test_share
        self.seed = seed

    def read(self) -> Raw:
        """Read all zip files and the graded queries."""
        reader, findings = Reader(), Counter[str]()
        products = _once(_read_products(self.folder, reader), findings)
        catalogue = icecat.Catalogue(products)
        items = [icecat.item(product, catalogue) for product in products]
        _tell_apart(items, products, findings)
        judgments = reader.read(self.folder / RATINGS, _judgment, ("query", "docid", "rating"))
        searches = self._structured(items, judgments) if self.structured_queries else []
        searches += self._graded(judgments) if self.pseudo_searches else []
        rows = {"items": items, "searches": searches, "judgments": judgments}
        tables = {name: table_of(name, found) for name, found in rows.items()}
        notes = ("Chorus records no behaviour: its searches are pseudo-searches, made from grades and product sheets.",)
        return Raw(tables, tuple(reader.rejected), reader.files, dict(findings), notes)

    def _graded(self, judgments: Sequence[Row]) -> Iterator[Row]:
        """Each graded query on the day of its part."""
        queries: dict[str, list[Row]] = {}
        for judgment in judgments:
            queries.setdefault(normalize_query(judgment["query"]), []).append(judgment)
        keys = sorted(queries)
        random.Random(self.seed).shuffle(keys)
        num_test = round(len(keys) * self.test_share)
        for place, key in enumerate(keys):
            part = "test" if place < num_test else "validation" if place < num_test * 1.5 else "train"
            rated = queries[key]
            clicked = [judgment["item_id"] for judgment in rated if judgment["grade"] >= _CLICKED_GRADE]
            search = _search(GRADED, rated[0]["query"], _DAYS[part] + timedelta(minutes=place), part, clicked)
            yield search | {"impressed": [judgment["item_id"] for judgment in rated]}

    def _structured(self, items: Sequence[Row], judgments: Sequence[Row]) -> list[Row]:
        """One search a brand and category; what people graded is left to them."""
        graded = {normalize_query(judgment["query"]) for judgment in judgments}
        clicked: dict[str, list[str]] = {}
        for item in items:
            query = normalize_query(" ".join(filter(None, [item["brand"], *item["category"]])))
            if query and query not in graded:
                clicked.setdefault(query, []).append(item["item_id"])
        return [
            _search(STRUCTURED, query, _STRUCTURED_DAY + timedelta(seconds=place), "train", found)
            for place, (query, found) in enumerate(sorted(clicked.items()))
        ]


def _search(entrance: str, query: str, time: datetime, split: str, clicked: list[str]) -> Row:
    return {
        "search_id": f"{entrance}: {normalize_query(query)}",
        "time": time,
        "query": query,
        "entrance": entrance,
        "clicked": clicked,
        "split": split,
    }


def _judgment(values: Row) -> Row:
    grade = convert.number(values["rating"], "rating")
    if grade not in GRADES:
        raise RefusedError("rating is not 0, 1, 2 or 3")
    item, query = convert.identity(values["docid"], "docid"), convert.identity(values["query"], "query")
    return {"query": query, "item_id": item, "grade": int(grade)}


def _read_products(folder: Path, reader: Reader) -> Iterator[Row]:
    archives = sorted(folder.glob("*.zip"))
    if not archives:
        raise LogError(f"{folder} holds no .zip of products: name the folder with Chorus' 1.zip to 4.zip.")
    for archive in archives:
        count = reader.files.setdefault(archive.name, FileCount())
        for number, product in enumerate(_products(archive), 1):
            try:
                yield _usable(product)
                count.accepted += 1
            except RefusedError as refusal:
                count.rejected += 1
                reader.rejected.append(Rejected(archive.name, number, str(refusal), json.dumps(product).encode()))


def _products(archive: Path) -> Iterator[object]:
    try:
        with zipfile.ZipFile(archive) as opened:
            for name in opened.namelist():
                products = json.loads(opened.read(name))
                if not isinstance(products, list):
                    raise LogError(f"{archive}, {name}: not a JSON list of products: fetch the file again.")
                yield from products
    except (zipfile.BadZipFile, ValueError) as error:
        if isinstance(error, LogError):
            raise
        raise LogError(f"{archive} is no zip of JSON ({error}): fetch the file again.") from error


def _usable(product: object) -> Row:
    if not isinstance(product, dict):
        raise RefusedError("not a JSON object")
    convert.number(product.get("price"), "price")
    identity, title = convert.identity(product.get("id"), "id"), convert.identity(product.get("title"), "title")
    return product | {"id": identity, "title": title}


def _once(products: Iterator[Row], findings: Counter[str]) -> list[Row]:
    """The first sheet of each ID."""
    first: dict[str, Row] = {}
    for product in products:
        findings["products listed more than once: the first is kept"] += (
            first.setdefault(product["id"], product) is not product
        )
    return list(first.values())


def _tell_apart(items: Sequence[Row], products: Sequence[Row], findings: Counter[str]) -> None:
    """A title that several items share ("flat screen desk mount") takes the short description of each behind it."""
    shared = Counter(item["title"] for item in items)
    for item, product in zip(items, products, strict=True):
        description = convert.text(product.get("short_description"))
        if shared[item["title"]] > 1 and description and description not in item["title"]:
            findings["items whose title others have too: their short description is added to it"] += 1
            item["title"] += f", {description}"
