"""KuaiSearch: items, users, recall, rank and relevance as JSON lines (full and lite; arXiv 2602.11518).

- recall: one line a search with impressed, clicked and purchased lists and its own split: the searches.
- rank: one line an exposure: adds the entrance and purchases where the search lacks them, and prices of items.
- relevance: grades by item title, not ID: a title that belongs to exactly one item is joined, the others are counted.

`recently_clicked_item_ids` and `recently_purchased_item_ids` of rank have no times, so they become no events: a made-up
time could lie after a search that they would then explain.
"""

import datetime
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from onesearch.log import convert
from onesearch.log.records import Reader, RefusedError, Row
from onesearch.log.report import LogError
from onesearch.log.schema import MICROSECONDS_OF_DAY, table_of
from onesearch.log.sources.source import Raw, Source

NULLS = convert.NULL_WORDS | {"无品牌"}
"""无品牌 is "no brand"."""

_UNIT = {"second": 1_000_000, "minute": 60_000_000, "hour": 3_600_000_000}
_SPLITS = {"train": "train", "valid": "validation", "val": "validation", "dev": "validation"}


class KuaiSearch(Source):
    """The authors' public data.

    Args:
        folder: holds items, users, recall, rank and relevance, each .jsonl or .json; items and recall must be there.
        time_unit: of `time_index`, a whole number whose unit is published nowhere. Order, and with it histories and the
            split, hold for any unit; days, and with them the age of a behaviour, do not.
        first_day: the day on which `time_index` is 0; not published either.
    """

    def __init__(
        self,
        folder: Path,
        time_unit: Literal["second", "minute", "hour"] = "second",
        first_day: datetime.date = datetime.date(2025, 1, 1),
    ) -> None:
        self.folder = Path(folder)
        self.time_unit = time_unit
        self.first_day = first_day

    def read(self) -> Raw:
        """Read all five files."""
        reader, findings = Reader(), Counter[str]()
        items = self._read(reader, "items", _item, ("item_id", "item_title"))
        users = self._read(reader, "users", _user, ("user_id",), needed=False)
        searches = self._read(reader, "recall", self._search, ("user_id", "session_id", "time_index", "query"))
        exposures = self._read(reader, "rank", self._exposure, ("target_item_id",), needed=False)
        grades = self._read(reader, "relevance", _grade, ("query", "item_title", "score"), needed=False)
        _number_repeats(searches)
        _add_exposures(searches, items, exposures, findings)
        judgments = _join_titles(grades, items, findings)
        rows = {"items": items, "users": users, "searches": searches, "judgments": judgments}
        tables = {name: table_of(name, found) for name, found in rows.items()}
        return Raw(tables, tuple(reader.rejected), reader.files, dict(findings), tuple(self._notes(searches, items)))

    def _read(
        self, reader: Reader, name: str, row: Callable[[Row], Row], columns: tuple[str, ...], needed: bool = True
    ) -> list[Row]:
        for path in (self.folder / f"{name}.jsonl", self.folder / f"{name}.json"):
            if path.is_file():
                return reader.read(path, row, columns)
        if needed:
            raise LogError(f"{self.folder} holds no {name}.jsonl: name the folder with the five files of KuaiSearch.")
        return []

    def _search(self, values: Row) -> Row:
        return {
            "search_id": _search_key(values),
            "user_id": convert.text(values["user_id"]),
            "time": self._time(values["time_index"]),
            "query": str(values["query"] or ""),
            "impressed": convert.strings(values.get("impressed_item_ids")),
            "clicked": convert.strings(values.get("clicked_item_ids")),
            "purchased": convert.strings(values.get("purchased_item_ids")),
            "split": _split(values.get("split")),
        }

    def _exposure(self, values: Row) -> Row:
        return {
            "search_id": _search_key(values),
            "item_id": convert.identity(values["target_item_id"], "target_item_id"),
            "price": convert.number(values.get("target_item_price"), "target_item_price"),
            "purchased": convert.flag(values.get("is_purchased"), "is_purchased"),
            "entrance": convert.text(values.get("search_entrance")),
        }

    def _time(self, value: Any) -> datetime.datetime:
        start = (self.first_day - datetime.date(1970, 1, 1)).days * MICROSECONDS_OF_DAY
        found = convert.number(value, "time_index")
        if found is None:
            raise RefusedError("no time_index")
        return convert.from_microseconds(start + round(found * _UNIT[self.time_unit]))

    def _notes(self, searches: list[Row], items: list[Row]) -> list[str]:
        known = {item["item_id"] for item in items}
        clicked = [item for search in searches for item in search["clicked"] or []]
        missing = sum(item not in known for item in clicked)
        notes = [f"time_index is read as {self.time_unit}s since {self.first_day}: its unit is not published."]
        if missing:
            notes.append(
                f"{missing:,} of {len(clicked):,} clicked items are not in items.jsonl"
                + (
                    ": the IDs of these files do not join; the log shows the format, not quality."
                    if missing == len(clicked)
                    else "."
                )
            )
        return notes


def _item(values: Row) -> Row:
    levels = [convert.text(values.get(f"category_level{level}_name"), NULLS) for level in (1, 2, 3)]
    brand, seller = (convert.text(values.get(name), NULLS) for name in ("brand_name", "seller_name"))
    attributes = {"Brand": brand, "Anchor": seller}  # the seller is the live-streamer or shop: the type Anchor
    return {
        "item_id": convert.identity(values["item_id"], "item_id"),
        "title": convert.identity(values["item_title"], "item_title"),
        "brand": brand,
        "seller": seller,
        "category": [level for level in levels if level],
        "attributes": [(kind, [value]) for kind, value in attributes.items() if value],
    }


def _user(values: Row) -> Row:
    names = {"gender": "gender", "age_bucket": "age_bucket", "country": "fre_country", "province": "fre_province"}
    row: Row = {ours: convert.text(values.get(theirs), NULLS) for ours, theirs in {**names, "city": "fre_city"}.items()}
    return row | {"user_id": convert.identity(values["user_id"], "user_id")}


def _grade(values: Row) -> Row:
    grade = convert.number(values["score"], "score")
    if grade not in (0, 1, 2, 3):
        raise RefusedError("score is not 0, 1, 2 or 3")
    title = convert.identity(values["item_title"], "item_title")
    return {"query": convert.identity(values["query"], "query"), "title": title, "grade": int(grade)}


def _search_key(values: Row) -> str:
    parts = (values.get(name) for name in ("user_id", "session_id", "time_index"))
    return "-".join(str(part) for part in parts) + f"-{values.get('query')}"


def _split(value: Any) -> str | None:
    name = convert.text(value)
    return None if name is None else _SPLITS.get(name.casefold(), name.casefold())


def _number_repeats(searches: list[Row]) -> None:
    """The same query at the same time, as when a page is turned, is another search: it gets a number."""
    seen = Counter[str]()
    for search in searches:
        key = search["search_id"]
        seen[key] += 1
        if seen[key] > 1:
            search["search_id"] = f"{key}#{seen[key]}"


def _add_exposures(searches: list[Row], items: list[Row], exposures: list[Row], findings: Counter[str]) -> None:
    by_id = {search["search_id"]: search for search in searches}
    bought: dict[str, list[str]] = {}
    prices: dict[str, float] = {}
    for exposure in exposures:
        search = by_id.get(exposure["search_id"])
        findings["rank lines whose search is not in recall: only their price is used"] += search is None
        if exposure["price"] is not None:
            prices[exposure["item_id"]] = exposure["price"]
        if search is not None:
            search["entrance"] = exposure["entrance"]
            if exposure["purchased"]:
                bought.setdefault(exposure["search_id"], []).append(exposure["item_id"])
    for search_id, purchased in bought.items():
        if by_id[search_id]["purchased"] is None:
            by_id[search_id]["purchased"] = purchased
    for item in items:
        item["price"] = prices.get(item["item_id"])


def _join_titles(grades: list[Row], items: list[Row], findings: Counter[str]) -> list[Row]:
    owners: dict[str, list[str]] = {}
    for item in items:
        owners.setdefault(item["title"], []).append(item["item_id"])
    judgments = []
    for grade in grades:
        found = owners.get(grade["title"], [])
        if len(found) == 1:
            judgments.append({"query": grade["query"], "item_id": found[0], "grade": grade["grade"]})
        else:
            findings[f"grades whose title belongs to {'no item' if not found else 'several items'}: left out"] += 1
    return judgments
