"""The history and the counts once more, row by row in plain Python: the reference for `derive` and `counts`."""

from collections import Counter

from onesearch.log.prepared import Log

DAY = 86_400_000_000


def _us(time) -> int:
    return round(time.timestamp() * 1_000_000)


class Reference:
    def __init__(self, log: Log, max_history: int) -> None:
        self.k = max_history
        self.searches = log.searches.to_pylist()
        self.events = log.events.to_pylist()
        self.boundary = min(_us(row["time"]) for row in self.searches if row["split"] == "test")

    def _clicks(self, user, before, column, outside):
        found = [
            (_us(row["time"]), row["search_id"], position, item)
            for row in self.searches
            if row["user_id"] == user and _us(row["time"]) < before
            for position, item in enumerate(row[column] or [])
        ]
        action = "click" if column == "clicked" else "purchase"
        if outside:
            found += [
                (_us(row["time"]), row["item_id"], 0, row["item_id"])
                for row in self.events
                if row["user_id"] == user and _us(row["time"]) < before and row["action"] == action
            ]
        return [(item, us) for us, _, _, item in sorted(found)]

    def context(self, row) -> dict:
        user, us = row["user_id"], _us(row["time"])
        asked = sorted(
            (_us(other["time"]), other["search_id"], other["query_key"])
            for other in self.searches
            if user is not None and other["user_id"] == user and _us(other["time"]) < us
        )
        if user is None:
            recent = clicks = orders = []
        else:
            recent = self._clicks(user, us, "clicked", outside=False)[-20:]
            clicks = self._clicks(user, us, "clicked", outside=True)[-self.k :]
            orders = self._clicks(user, us, "purchased", outside=True)[-self.k :]
        return {
            "day": us // DAY,
            "recent_queries": [query for _, _, query in asked[-20:]],
            "recent_clicks": [item for item, _ in recent],
            "long_clicks": [item for item, _ in clicks],
            "long_click_days": [time // DAY for _, time in clicks],
            "long_orders": [item for item, _ in orders],
            "recent_query_times": [time for time, _, _ in asked[-20:]],
            "recent_click_times": [time for _, time in recent],
            "long_click_times": [time for _, time in clicks],
            "long_order_times": [time for _, time in orders],
            "cold_start": self.cold_start(row["query_key"], us // DAY),
        }

    def _past(self, day):
        return [row for row in self.searches if _us(row["time"]) < self.boundary and _us(row["time"]) // DAY < day]

    def cold_start(self, query, day) -> list[str]:
        clicks = Counter(item for row in self._past(day) if row["query_key"] == query for item in row["clicked"])
        return [item for item, _ in sorted(clicks.items(), key=lambda pair: (-pair[1], pair[0]))][:20]

    def counts(self, item, day, query=None) -> list[int]:
        past = [row for row in self._past(day) if query is None or row["query_key"] == query]
        shown = sum(item in (row["clicked"] if row["impressed"] is None else row["impressed"]) for row in past)
        clicks = sum(item in row["clicked"] for row in past)
        orders = sum(item in (row["purchased"] or []) for row in past)
        if query is None:
            orders += sum(
                row["item_id"] == item and row["action"] == "purchase"
                for row in self.events
                if _us(row["time"]) < self.boundary and _us(row["time"]) // DAY < day
            )
        return [shown, clicks, orders]
