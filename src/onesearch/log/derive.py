"""What was known at each search's own time: pure Ibis expressions, Table → Table, on the embedded DuckDB.

    history(s)    = behaviours b of s.shopper with time(b) < time(s), latest k      (an equal time is not earlier)
    statistics(s) = what happened on days < day(s) and before the test boundary     (frozen for the whole test period)

A click or an order of a search happens at the search's time. Where impressions are not recorded, the clicked items
count as exposed.

A shopper's behaviours are written once, in the order of their time. A search holds how many of them are earlier: its
history are the last k of the first n, so the size of the result does not depend on k.

All tables are those of `coded.Coded`.
"""

import ibis
from ibis import Table, _

from onesearch.log.schema import COLD_START, COUNTS, KINDS, NEVER


def queries(searches: Table, boundary: int) -> Table:
    """Queries before the test boundary: (query, pv, clicks).

    Args:
        searches: all searches.
        boundary: the test's start in microseconds since 1970.
    """
    past = searches.filter(_.us < boundary)
    return past.group_by("query").agg(pv=_.count(), clicks=_.clicked.length().sum())


def named_queries(counted: Table, names: Table) -> Table:
    """The result of `queries` by text, most viewed first."""
    named = counted.join(names, "query").select("pv", "clicks", query="text")
    return named.order_by(ibis.desc("pv"), "query")


def daily_counts(searches: Table, boundary: int) -> Table:
    """What happened to (query, item) inside search on each day before the test boundary."""
    past = searches.filter(_.us < boundary)
    shown = past.mutate(impressed=_.impressed.fill_null(_.clicked))
    parts = [
        shown.select("day", "query", item=_[column].unnest()).mutate(**{name: _int(name == kind) for name in COUNTS})
        for column, kind in (("impressed", "exposures"), ("clicked", "clicks"), ("purchased", "orders"))
    ]
    return _summed(ibis.union(*parts), ["query", "item", "day"])


def query_item_days(daily: Table) -> Table:
    """Running totals of (query, item) inside search at the end of each day on which they changed.

    Args:
        daily: the result of `daily_counts`.
    """
    return _running(daily, ["query", "item"])


def item_days(daily: Table, events: Table, boundary: int) -> Table:
    """Running totals of items; purchases outside search count as orders, clicks outside it do not count.

    Args:
        daily: the result of `daily_counts`.
        events: all events.
        boundary: the test's start in microseconds since 1970.
    """
    bought = events.filter(_.us < boundary, _.action == "purchase")
    outside = bought.select("item", "day", exposures=_int(0), clicks=_int(0), orders=_int(1))
    inside = daily.select("item", "day", *COUNTS)
    return _running(_summed(inside.union(outside), ["item", "day"]), ["item"])


def _summed(increments: Table, keys: list[str]) -> Table:
    return increments.group_by(keys).agg(**{name: _[name].sum().cast("int64") for name in COUNTS})


def _running(daily: Table, keys: list[str]) -> Table:
    until_now = ibis.window(group_by=keys, order_by="day", preceding=None, following=0)
    return daily.select(*keys, "day", **{name: _[name].sum().over(until_now).cast("int64") for name in COUNTS})


def behaviours(searches: Table, events: Table) -> dict[str, Table]:
    """All behaviours of each of `KINDS`, shopper by shopper in the order of their time: (query or item, us)."""
    known, outside = searches.filter(_.shopper.notnull()), events.filter(_.shopper.notnull())
    asked = known.select("shopper", "us", "query", "place", position=_int(0))
    clicked, ordered = (_entries(known, column) for column in ("clicked", "purchased"))
    kinds = {
        "queries": asked,
        "search_clicks": clicked,
        "clicks": clicked.union(_of(outside, "click")),
        "orders": ordered.union(_of(outside, "purchase")),
    }
    return {kind: found.order_by("shopper", "us", "place", "position") for kind, found in kinds.items()}


def shoppers(searches: Table, events: Table, users: Table, names: Table) -> Table:
    """A row a shopper: ID, profile, and how many behaviours of each kind other shoppers have before (`first_KIND`)."""
    totals = _steps(searches, events).group_by("shopper").agg(**{kind: _[kind].sum() for kind in KINDS})
    until_here = ibis.window(order_by="shopper", preceding=None, following=0)
    starts = {f"first_{kind}": _[kind].sum().over(until_here) - _[kind] for kind in KINDS}
    found = totals.select("shopper", **starts).join(names, "shopper").left_join(_profiles(users), "user_id")
    return found.select("shopper", "user_id", *starts, profile=_.profile.fill_null("")).order_by("shopper")


def contexts(searches: Table, events: Table, query_items: Table, items: Table) -> Table:
    """A row a search, in time order: how many behaviours are earlier (`num_KIND`), cold start and answer.

    Args:
        searches: all searches.
        events: all events.
        query_items: the result of `query_item_days`.
        items: all items.
    """
    rows = searches.left_join(_earlier(searches, events), "number", rname="{name}_counted")
    rows = rows.left_join(_cold_start(searches, query_items, items), ["query", "day"], rname="{name}_cold")
    counts = {f"num_{kind}": _[f"num_{kind}"].fill_null(0) for kind in KINDS}
    chosen = rows.select(
        "search_id", "place", "us", "query", "day", "split", "cold_start", "clicked", "purchased", "impressed",
        shopper=_.shopper.fill_null(-1), **counts,
    )  # fmt: skip
    # The time alone does not order equal times: without the ID two runs could differ.
    return chosen.order_by("us", "place")


def _steps(searches: Table, events: Table) -> Table:
    """By how much the number of a shopper's behaviours of each kind grows at a time, a row a search or event."""
    inside = searches.filter(_.shopper.notnull()).select(
        "shopper", "us",
        queries=_int(1),
        search_clicks=_.clicked.length(),
        clicks=_.clicked.length(),
        orders=_.purchased.length().fill_null(0),
    )  # fmt: skip
    outside = events.filter(_.shopper.notnull()).select(
        "shopper", "us",
        queries=_int(0),
        search_clicks=_int(0),
        clicks=(_.action == "click").cast("int64"),
        orders=(_.action == "purchase").cast("int64"),
    )  # fmt: skip
    return inside.union(outside)


def _earlier(searches: Table, events: Table) -> Table:
    """How many behaviours of each kind are strictly earlier than a search: (number, num_KIND).

    One pass over behaviours and searches together, where a search sorts before behaviours of its own time.
    """
    asked = searches.filter(_.shopper.notnull()).select("shopper", "us", "number", **dict.fromkeys(KINDS, _int(0)))
    steps = _steps(searches, events).mutate(number=ibis.null("int64"), after=_int(1))
    names = ("shopper", "us", "number", "after", *KINDS)
    marks = steps.select(*names).union(asked.mutate(after=_int(0)).select(*names))
    so_far = ibis.window(group_by="shopper", order_by=["us", "after"], preceding=None, following=0)
    counted = marks.select("number", **{f"num_{kind}": _[kind].sum().over(so_far) for kind in KINDS})
    return counted.filter(_.number.notnull())


def _cold_start(searches: Table, query_items: Table, items: Table) -> Table:
    """Per query and day, the items most clicked for it until the end of the day before, best first.

    Counts never fall: the clicks that an item has at a day are the most of those that it had on earlier days. So one
    pass in the order of days tells them, over the changes and the days asked about together, where a day that is asked
    about sorts before its own change. A join of the two would grow with the square of the days.
    """
    changes = query_items.filter(_.clicks > 0).select("query", "item", "day", "clicks", after=_int(1))
    clicked = changes.group_by("query", "item").agg(since=_.day.min())
    asked = searches.select("query", "day").distinct().join(clicked, "query").filter(_.day > _.since)
    marks = changes.union(asked.select("query", "item", "day", clicks=ibis.null("int64"), after=_int(0)))
    until_now = ibis.window(group_by=["query", "item"], order_by=["day", "after"], preceding=None, following=0)
    known = marks.select("query", "item", "day", "after", clicks=_.clicks.max().over(until_now))
    valid = known.filter(_.after == 0).join(items, "item")
    best = ibis.window(group_by=["query", "day"], order_by=[ibis.desc("clicks"), "place"])
    top = valid.mutate(rank=ibis.row_number().over(best)).filter(_.rank < COLD_START)
    return top.group_by("query", "day").agg(cold_start=_.item.collect(order_by="rank"))


def _profiles(users: Table) -> Table:
    known = ibis.array([_.gender, _.age_bucket, _.province]).filter(lambda part: part.notnull())
    return users.select("user_id", profile=known.join(" "))


def _entries(searches: Table, column: str) -> Table:
    """One row for each entry of a list column, in its order."""
    rows = searches.select("shopper", "us", "place", item=column).unnest("item", offset="position")
    return rows.select("shopper", "us", "item", "place", position=_.position.cast("int64"))


def _of(outside: Table, action: str) -> Table:
    return outside.filter(_.action == action).select("shopper", "us", "item", "place", position=_int(0))


def stamped(totals: Table, stamp: ibis.Value) -> Table:
    """Running totals in the order of one number that stands for key and day; see `counts`."""
    return totals.select(*COUNTS, stamp=stamp).order_by("stamp")


def _int(value: int) -> ibis.expr.types.IntegerScalar:
    return ibis.literal(int(value), "int64")


def first_days(query_items: Table, names: Table) -> Table:
    """Every query with the first day on which it was answered; `NEVER` where that was not before the test boundary."""
    first = query_items.group_by("query").agg(first_day=_.day.min())
    found = names.left_join(first, "query")
    # Under a null lies what happened to be in memory: a file would differ from one preparation to the next.
    return found.select("query", "text", first_day=_.first_day.fill_null(NEVER)).order_by("query")
