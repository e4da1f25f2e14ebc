"""A small random log with everything that can go wrong in time: equal times, several clicks, outside events."""

import datetime as dt
from pathlib import Path

import numpy as np

from onesearch.log.prepare import prepare
from onesearch.log.prepared import Log
from onesearch.log.schema import Tables, table_of
from onesearch.log.sources import Raw, Source
from onesearch.log.split import Split

START = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)


class Given(Source):
    """A source that holds its tables."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def read(self) -> Raw:
        return Raw(self.tables)


def at(hours: float) -> dt.datetime:
    return START + dt.timedelta(hours=hours)


def items(num: int) -> list[dict]:
    return [{"item_id": f"i{number}", "title": f"item {number}"} for number in range(num)]


def search(number: int, user: str | None, time: dt.datetime, query: str, **lists: list[str] | None) -> dict:
    return {"search_id": f"s{number:04d}", "user_id": user, "time": time, "query": query, "clicked": [], **lists}


def random_tables(seed: int, num_searches: int = 150, num_items: int = 12, num_users: int = 6) -> Tables:
    """Times are whole quarters of a day, so that many are equal; some users and impressions are null."""
    rng = np.random.default_rng(seed)

    def some(high: int) -> list[str]:
        return [f"i{row}" for row in rng.permutation(num_items)[: rng.integers(0, high)]]

    searches = []
    for number in range(num_searches):
        shown = some(8)
        clicked = shown[: rng.integers(0, 3)]
        user = None if rng.random() < 0.1 else f"u{rng.integers(num_users)}"
        lists = {"impressed": shown if rng.random() < 0.7 else None, "clicked": clicked}
        lists["purchased"] = clicked[:1] if rng.random() < 0.3 else (None if rng.random() < 0.3 else [])
        searches.append(search(number, user, at(6 * int(rng.integers(80))), f"q {rng.integers(5)}", **lists))
    events = [
        {
            "user_id": f"u{rng.integers(num_users)}",
            "item_id": f"i{rng.integers(num_items)}",
            "time": at(6 * int(rng.integers(80))),
            "scene": "recommend",
            "action": "click" if rng.random() < 0.6 else "purchase",
        }
        for _ in range(num_searches // 2)
    ]
    users = [{"user_id": f"u{user}", "gender": "F", "province": "Zhejiang"} for user in range(num_users - 1)]
    rows = {"items": items(num_items), "users": users, "searches": searches, "events": events}
    return {name: table_of(name, found) for name, found in rows.items()}


def prepared(tables: Tables, folder: Path, split: Split | None = None, max_history: int = 200) -> Log:
    prepare(Given(tables), folder / "log", split or Split(test_share=0.2, validation_share=0.2), max_history)
    return Log.open(folder / "log")
