"""The marketplace as a source of the log, like any file."""

import datetime
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from onesearch.log.schema import SCHEMAS, Tables
from onesearch.log.sources.source import Raw, Source
from onesearch.simulate.catalogue import COLUMN, Catalogue, Floats, Ints, make_catalogue
from onesearch.simulate.judgments import Judgment, judge
from onesearch.simulate.marketplace import Marketplace
from onesearch.simulate.recommendations import Recommendations, recommend
from onesearch.simulate.sessions import Mall, Search
from onesearch.simulate.shoppers import AGES, PROVINCES, Shoppers, make_shoppers
from onesearch.simulate.vocabulary import TYPES, Vocabulary, load_vocabulary


class Simulator(Source):
    """A source that makes its log up, from a seed.

    Args:
        marketplace: its size, its shape and its seed; the default one when not given.
    """

    def __init__(self, marketplace: Marketplace | None = None) -> None:
        self.marketplace = marketplace or Marketplace()

    @property
    def settings(self) -> dict[str, Any]:
        """The marketplace's fields: they are all that the log, and the truth behind it, depends on."""
        return {**asdict(self.marketplace), "start": self.marketplace.start.isoformat()}

    def read(self) -> Raw:
        """Play the whole marketplace; equal settings give equal bytes."""
        return Raw(simulate(self.marketplace), notes=("This log is simulated: docs/simulator.md tells how.",))


def open_mall(config: Marketplace) -> Mall:
    """A marketplace before its first search."""
    vocabulary = load_vocabulary()
    catalogue = make_catalogue(vocabulary, config)
    shoppers = make_shoppers(vocabulary, catalogue, config)
    return Mall(vocabulary, catalogue, shoppers, recommend(catalogue, shoppers, config), config)


def simulate(config: Marketplace) -> Tables:
    """The five canonical tables of a simulated marketplace."""
    mall = open_mall(config)
    searches = mall.play()
    names = item_names(config)
    return {
        "items": _items(mall.vocabulary, mall.catalogue, names, config),
        "users": _users(mall.shoppers),
        "searches": searches_table(searches, config),
        "events": _events(mall.recommendations, names, config),
        "judgments": _judgments(judge(searches, mall.catalogue, mall.department, config), names),
    }


def item_names(config: Marketplace) -> pa.Array:
    """The ID of each item row."""
    return pa.array([f"i{row:06d}" for row in range(config.num_items)])


def _items(vocabulary: Vocabulary, catalogue: Catalogue, names: pa.Array, config: Marketplace) -> pa.Table:
    texts = np.array([text for _, text in vocabulary.values] + [None], object)[catalogue.values]
    attributes = [
        [(kind, [value]) for kind, value in zip(TYPES, row, strict=True) if value is not None] for row in texts
    ]
    for row, model in zip(attributes, catalogue.models, strict=True):
        if model:
            row.append(("Model", [model]))
    columns = [
        names,
        catalogue.titles,
        texts[:, COLUMN["Brand"]],
        texts[:, COLUMN["Anchor"]],
        [vocabulary.categories[c].path for c in catalogue.category],
        catalogue.price,
        attributes,
        catalogue.withdrawn > config.num_days,
    ]
    return _table("items", columns)


def _users(shoppers: Shoppers) -> pa.Table:
    count = len(shoppers.city)

    def recorded(values: Iterable[object]) -> list[object]:
        return [value if known else None for value, known in zip(values, shoppers.recorded, strict=True)]

    columns = [
        [_user(u) for u in range(count)],
        recorded(shoppers.gender.tolist()),
        recorded(AGES[age] for age in shoppers.age),
        ["China"] * count,
        recorded(list(PROVINCES)[province] for province in shoppers.province),
        recorded(shoppers.city),
    ]
    return _table("users", columns)


def searches_table(searches: list[Search], config: Marketplace) -> pa.Table:
    """What the log holds of searches in the order of time: their IDs are their places."""
    count, names = len(searches), item_names(config)
    columns = [
        [f"s{row:07d}" for row in range(count)],
        [_user(search.user) for search in searches],
        _times(np.array([search.second for search in searches]), config),
        [search.query.text for search in searches],
        pa.nulls(count, pa.string()),  # normalised by the log, like every source's
        pa.nulls(count, pa.string()),
        _lists([search.impressed for search in searches], names),
        _lists([search.clicked for search in searches], names),
        _lists([search.purchased for search in searches], names),
        pa.nulls(count, pa.string()),
    ]
    return _table("searches", columns)


def _events(feed: Recommendations, names: pa.Array, config: Marketplace) -> pa.Table:
    bought = np.flatnonzero(feed.purchased)
    rows = np.concatenate([np.arange(len(feed.user)), bought])
    second = np.concatenate([feed.second, feed.second[bought] + 90.0])  # a purchase takes a minute and a half
    action = np.array(["click"] * len(feed.user) + ["purchase"] * len(bought))
    order = np.argsort(second, kind="stable")
    columns = [
        [_user(u) for u in feed.user[rows][order]],
        names.take(pa.array(feed.item[rows][order])),
        _times(second[order], config),
        ["recommend"] * len(rows),
        action[order].astype(object),
    ]
    return _table("events", columns)


def _judgments(judgments: list[Judgment], names: pa.Array) -> pa.Table:
    items = names.take(pa.array([judgment.item for judgment in judgments], pa.int64()))
    return _table("judgments", [[j.query for j in judgments], items, [j.grade for j in judgments]])


def _table(name: str, columns: list[object]) -> pa.Table:
    schema = SCHEMAS[name]
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, type=field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.table(arrays, schema=schema)


def _lists(rows: list[Ints], names: pa.Array) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    items = np.concatenate([np.empty(0, np.int64), *rows])
    return pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(items)))


def _times(seconds: Floats, config: Marketplace) -> pa.Array:
    start = datetime.datetime.combine(config.start, datetime.time(), datetime.UTC)
    first = round(start.timestamp())
    return pa.array(np.round((first + seconds) * 1000).astype(np.int64) * 1000).cast(pa.timestamp("us", tz="UTC"))


def _user(user: int) -> str:
    return f"u{user:06d}"
