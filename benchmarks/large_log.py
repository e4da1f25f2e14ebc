"""Logs of any size for benchmarks: the same items and queries, the more searches the more users and days.

A user's activity is drawn from a heavy tail, cut at 600 expected searches; half as many clicks again come from outside
search, so that the busiest users have about a thousand. Queries follow Zipf's law; each has items of its own, ten of
which a search shows. Everything is drawn column by column.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from onesearch.log.schema import TIME, Tables
from onesearch.log.sources.source import Raw, Source

NUM_ITEMS, NUM_QUERIES, ITEMS_OF_QUERY = 20_000, 5000, 40
SEARCHES_A_DAY, SEARCHES_A_USER, MOST_SEARCHES = 3333, 20, 600
SHOWN = 10
START = 19_000 * 86_400_000_000  # microseconds since 1970
WORDS = 1500

Int64 = npt.NDArray[np.int64]


class LargeLog(Source):
    """A log of `num_searches`, the same whenever it is read."""

    def __init__(self, num_searches: int) -> None:
        self.num_searches = num_searches

    def read(self) -> Raw:
        """Draw it."""
        return Raw(draw(self.num_searches))


def draw(num_searches: int) -> Tables:
    """The canonical tables."""
    rng = np.random.default_rng(0)
    num_users = num_searches // SEARCHES_A_USER
    activity = rng.lognormal(0, 1.3, num_users)
    activity = np.minimum(activity / activity.mean(), MOST_SEARCHES / SEARCHES_A_USER)
    users = _texts("u", np.arange(num_users))
    length = num_searches / SEARCHES_A_DAY * 86_400_000_000
    return {
        "items": pa.table({"item_id": _texts("i", np.arange(NUM_ITEMS)), "title": _phrases(NUM_ITEMS, 5, rng)}),
        "users": pa.table({"user_id": users, "gender": _texts("g", np.arange(num_users) % 2)}),
        "searches": _searches(num_searches, users, activity, length, rng),
        "events": _events(num_searches, users, activity, length, rng),
    }


def _searches(
    count: int, users: pa.StringArray, activity: npt.NDArray[np.float64], length: float, rng: np.random.Generator
) -> pa.Table:
    queries = _phrases(NUM_QUERIES, 2, rng)
    wanted = rng.integers(NUM_ITEMS, size=(NUM_QUERIES, ITEMS_OF_QUERY))
    asked = _drawn(1 / np.arange(1, NUM_QUERIES + 1), count, rng)
    # Some of a query's items are liked more; none is shown twice.
    places = np.argsort(rng.random((count, ITEMS_OF_QUERY), np.float32) * np.arange(1, ITEMS_OF_QUERY + 1), axis=1)
    shown = wanted[asked[:, None], places[:, :SHOWN]]
    clicked = rng.binomial(3, 0.4, count)
    return pa.table(
        {
            "search_id": _texts("s", np.arange(count)),
            "user_id": users.take(pa.array(_drawn(activity, count, rng))),
            "time": _times(length, count, rng),
            "query": queries.take(pa.array(asked)),
            "impressed": _lists(shown, np.full(count, SHOWN)),
            "clicked": _lists(shown, clicked),
            "purchased": _lists(shown, np.minimum(clicked, rng.random(count) < 0.3)),
        }
    )


def _events(
    num_searches: int, users: pa.StringArray, activity: npt.NDArray[np.float64], length: float, rng: np.random.Generator
) -> pa.Table:
    count = num_searches // 2
    actions = pa.array(["click", "purchase"]).take(pa.array((rng.random(count) < 0.2).astype(np.int64)))
    columns = {
        "user_id": users.take(pa.array(_drawn(activity, count, rng))),
        "item_id": _texts("i", rng.integers(NUM_ITEMS, size=count)),
        "time": _times(length, count, rng),
        "action": actions,
    }
    return pa.table(columns)


def _drawn(weights: npt.NDArray[np.float64], count: int, rng: np.random.Generator) -> Int64:
    ends = np.cumsum(weights)
    return np.asarray(np.searchsorted(ends, rng.random(count) * ends[-1]).clip(max=len(weights) - 1), np.int64)


def _times(length: float, count: int, rng: np.random.Generator) -> "pa.Array[Any]":
    return pa.array(START + np.sort(rng.random(count) * length).astype(np.int64)).cast(TIME)


def _texts(prefix: str, numbers: Int64) -> pa.StringArray:
    return pa.array(np.char.add(prefix, np.char.zfill(numbers.astype(str), 8)))


def _phrases(count: int, num_words: int, rng: np.random.Generator) -> pa.StringArray:
    """Distinct: the last word is a number."""
    words = np.array(["".join(rng.choice(list("aeioubdfgklmnprstvz"), 6)) for _ in range(WORDS)])
    drawn = words[rng.integers(WORDS, size=(count, num_words))]
    return pa.array([" ".join([*row, str(number)]) for number, row in enumerate(drawn.tolist())])


def _lists(rows: Int64, lengths: Int64) -> "pa.ListArray[Any]":
    """The first items of each row, [R, X] and [R]."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    kept = np.arange(rows.shape[1]) < lengths[:, None]
    return pa.ListArray.from_arrays(pa.array(offsets), _texts("i", np.arange(NUM_ITEMS)).take(pa.array(rows[kept])))
