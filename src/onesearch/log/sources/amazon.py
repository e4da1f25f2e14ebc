"""Amazon's reviews as purchase sequences, in the two JSON files of sequential recommendation.

`NAME.inter.json` lists the items of each user in their order; a review stands for a purchase. `NAME.item.json` gives
title, description, brand and category path of each item. Neither queries nor times were kept, so both are made:

    query(i) = the last two names of i's category path, each word once
    day(j)   = D − (n − j) for the j-th of a user's n purchases

Every purchase is a search for the bought item's category, as in the academic product-search sets; `entrance` says so.
Counted from the end, everybody's last purchase lies on day D, the test, and the one before it on the day before, the
validation. What one user did before the other, and what was popular when, is therefore of our making; who bought what,
and in which order, is real.
"""

import html
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from onesearch.log import convert
from onesearch.log.records import RefusedError, Row
from onesearch.log.report import FileCount, LogError, Rejected
from onesearch.log.schema import table_of
from onesearch.log.sources.source import Raw, Source
from onesearch.log.text import normalize_query

CATEGORY_PATH = "pseudo: category path"
"""The entrance of a pseudo-search says what it was made from."""
NO_QUERY = "no category, no query"
"""The scene of a purchase that nothing could be asked for."""

_LAST_DAY = datetime(2018, 10, 1, tzinfo=UTC)  # the reviews end in that month
_LEVEL = re.compile(r",(?! )")  # names hold commas, too, followed by a space: "Tapes, Adhesives & Sealants"
_DEEPEST = 5  # levels of the category tree below its root


class Amazon(Source):
    """Real users' purchase sequences, with pseudo-queries.

    Args:
        folder: holds NAME.inter.json and NAME.item.json.
        name: of the category of products.
        query_depth: to which level below the root a query follows the category path. The whole path nearly names the
            item; the coarser the query, the more is left to be told by who asks.
    """

    def __init__(self, folder: Path, name: str = "Scientific", query_depth: int = 5) -> None:
        if query_depth < 1:
            raise LogError(f"source.query_depth is {query_depth}: a query needs at least one name of the path.")
        self.folder = Path(folder)
        self.name = name
        self.query_depth = query_depth

    def read(self) -> Raw:
        """Read both files."""
        files: dict[str, FileCount] = {}
        rejected: list[Rejected] = []
        items = _entries(self.folder / f"{self.name}.item.json", _item, files, rejected)
        users = _entries(self.folder / f"{self.name}.inter.json", _user, files, rejected)
        findings = Counter[str]()
        _without_bullets(items, findings)
        items = [item | {"attributes": _attributes(item)} for item in items]
        queries = {item["item_id"]: _query(item["category"][: self.query_depth]) for item in items}
        findings["items without a category path"] = sum(not query for query in queries.values())
        searches, events = _behaviour(users, queries, findings)
        rows = {"items": items, "users": users, "searches": searches, "events": events}
        tables = {name: table_of(name, found) for name, found in rows.items()}
        notes = (
            "Amazon's purchases are real, their queries are not: each is made from the bought item's category path.",
            "Only the order of a user's purchases is known: days are counted back from one made-up last day.",
        )
        return Raw(tables, tuple(rejected), files, dict(findings), notes)


def _behaviour(users: Sequence[Row], queries: dict[str, str], findings: Counter[str]) -> tuple[list[Row], list[Row]]:
    """The searches, and as events the purchases for which there is no query."""
    searches: list[Row] = []
    events: list[Row] = []
    for user in users:
        for before_last, item in enumerate(reversed(user["bought"])):
            query, time = queries.get(item, ""), _LAST_DAY - timedelta(days=before_last)
            if query:
                number = len(user["bought"]) - before_last
                searches.append(_search(user["user_id"], number, time, query, item, before_last))
                continue
            bought = {"user_id": user["user_id"], "item_id": item, "time": time, "scene": NO_QUERY}
            events += [{**bought, "action": action} for action in ("click", "purchase")]
            findings["purchases of an item without a category path: kept as events outside search"] += 1
            findings["users whose last purchase is such an event: not among the test searches"] += not before_last
    return sorted(searches, key=_time), sorted(events, key=_time)


def _time(row: Row) -> datetime:
    time: datetime = row["time"]
    return time


def _search(user: str, number: int, time: datetime, query: str, item: str, before_last: int) -> Row:
    return {
        "search_id": f"{user}#{number}",
        "user_id": user,
        "time": time,
        "query": query,
        "entrance": CATEGORY_PATH,
        "clicked": [item],
        "purchased": [item],
        "split": {0: "test", 1: "validation"}.get(before_last, "train"),
    }


def _query(category: Sequence[str]) -> str:
    """A word that comes again stays where it came last: "Fittings", "Pipe Fittings" → "pipe fittings"."""
    words = normalize_query(" ".join(category[-2:])).split()
    return " ".join(reversed(dict.fromkeys(reversed(words))))


def _without_bullets(items: Sequence[Row], findings: Counter[str]) -> None:
    """Some sheets run on from the path into bullets ("5 pack", whole sentences): names that no ordinary path holds."""
    known = {name for item in items if len(item["category"]) <= _DEEPEST for name in item["category"]}
    for item in items:
        if len(item["category"]) > _DEEPEST:
            kept = [name for name in item["category"] if name in known]
            findings["bullets of a product sheet in its category path: dropped"] += len(item["category"]) - len(kept)
            item["category"] = kept


def _entries(
    path: Path, convert_entry: Callable[[str, Any], Row], files: dict[str, FileCount], rejected: list[Rejected]
) -> list[Row]:
    """The entries of one JSON object, each accepted or refused on its own."""
    count = files.setdefault(path.name, FileCount())
    rows: list[Row] = []
    for number, (identity, values) in enumerate(_object(path).items(), 1):
        try:
            rows.append(convert_entry(identity, values))
            count.accepted += 1
        except RefusedError as refusal:
            count.rejected += 1
            rejected.append(Rejected(path.name, number, str(refusal), json.dumps({identity: values}).encode()))
    return rows


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise LogError(f"{path} does not exist: check the folder, and the name before .inter.json and .item.json.")
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise LogError(f"{path} is not JSON ({error}): fetch the file again.") from error
    if not isinstance(content, dict):
        raise LogError(f"{path} is no JSON object of one entry an ID: fetch the file again.")
    return content


def _item(identity: str, values: Any) -> Row:
    if not isinstance(values, dict):
        raise RefusedError("not a JSON object")
    return {
        "item_id": identity,
        "title": convert.identity(_text(values.get("title")), "title").removesuffix("."),  # every title got one
        "brand": _text(values.get("brand")),
        "category": _LEVEL.split(_text(values.get("categories")) or "")[1:],  # without the root, which all share
    }


def _attributes(item: Row) -> list[tuple[str, list[str]]]:
    """The brand, and what kind of thing it is: the finest category."""
    values = {"Brand": [item["brand"]] if item["brand"] else [], "Entity": item["category"][-1:]}
    return [(kind, found) for kind, found in values.items() if found]


def _user(identity: str, values: Any) -> Row:
    if not isinstance(values, list) or not values:
        raise RefusedError("not a list of items")
    return {"user_id": identity, "bought": [convert.identity(item, "item") for item in values]}


def _text(value: Any) -> str | None:
    return convert.text(html.unescape(value) if isinstance(value, str) else value)
