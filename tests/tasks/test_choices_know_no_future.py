"""Whatever the views choose, nothing later than a search enters its prompt, over the SIDs of a trained run."""

import datetime as dt

import pytest

from onesearch.behavior.memory import NOTHING_HIDDEN
from onesearch.khqe import Khqe
from onesearch.log.prepare import prepare
from onesearch.log.prepared import Log
from onesearch.log.schema import table_of
from onesearch.log.sources.source import Raw, Source
from onesearch.log.split import Split
from onesearch.tasks.prompt import Views

VIEWS = {
    "published": Views(num_trending=5, popular_for_all=True),
    "by category and centroids": Views(
        relevant_by="category", user_id_by="centroids", cold_start="sequences", cold_user_id=True, fold_sids=True
    ),
}
SPLIT = Split(test_share=0.2, validation_share=0.2)


class Planted(Source):
    """The tiny shop, with behaviour of its busiest shopper and of everybody else, at one time."""

    def __init__(self, shop: Source, time: dt.datetime) -> None:
        self.shop, self.time = shop, time

    def read(self) -> Raw:
        """Shopper u1 searches for boots, and clicks and buys what nobody else wants; so do five others."""
        tables = dict(self.shop.read().tables)
        searches = [
            {
                "search_id": f"planted{number}",
                "user_id": f"u{number}",
                "time": self.time,
                "query": query,
                "impressed": ["i35"],
                "clicked": ["i35"],
                "purchased": ["i35"],
            }
            for number, query in enumerate(("red boots", "boots", "blue kettle", "rug", "lamp", "green teapot"))
        ]
        events = [
            {"user_id": f"u{number}", "item_id": "i34", "time": self.time, "scene": "live", "action": action}
            for number in range(6)
            for action in ("click", "purchase")
        ]
        for name, rows in (("searches", searches), ("events", events)):
            tables[name] = table_of(name, [*tables[name].to_pylist(), *rows])
        return Raw(tables)


def prompts(log, run, views, elders, tokenizer):
    """The prompts of some searches, as shown, slid, misspelt, hidden, and remembered as of three days ago."""
    khqe = Khqe.open(run)
    khqe.remember(log)
    writer = khqe.writer(tokenizer, views)
    found = {}
    for context in log.contexts("train", "validation", "test"):
        if context.search_id in elders:
            older = writer.evidence.as_remembered(context, context.day - 3)
            found[context.search_id] = [
                writer.search(context),
                writer.search(context, shift=2),
                writer.search(context, "erd boots"),
                writer.search(context, hidden_from=0.8),
                writer.search(older, hidden_from=NOTHING_HIDDEN),
            ]
    return found


@pytest.fixture(scope="module")
def middle(tiny_log):
    """A search in the middle of the training period, and all that are not later."""
    contexts = tiny_log.contexts("train")
    target = contexts[100]
    times = dict(zip(tiny_log.searches["search_id"].to_pylist(), tiny_log.searches["time"].to_pylist(), strict=True))
    time = times[target.search_id]
    return time, {name for name, at in times.items() if at <= time}


@pytest.mark.parametrize("name", VIEWS)
def test_a_planted_future_changes_no_earlier_prompt(name, middle, tiny_shop, tiny_log, tiny_run, tiny_engine, tmp_path):
    """Planted at the very time of the latest of them, which is not earlier than itself."""
    time, elders = middle
    prepare(Planted(tiny_shop, time), tmp_path / "log", SPLIT)
    tokenizer = tiny_engine.writer.tokenizer
    before = prompts(tiny_log, tiny_run, VIEWS[name], elders, tokenizer)
    after = prompts(Log.open(tmp_path / "log"), tiny_run, VIEWS[name], elders, tokenizer)
    assert len(before) > 90
    assert after == before


@pytest.mark.parametrize("name", VIEWS)
def test_a_planted_past_does_change_prompts(name, middle, tiny_shop, tiny_log, tiny_run, tiny_engine, tmp_path):
    """The counterpart: the same behaviour five days earlier is seen by many, so that the test above can fail."""
    time, elders = middle
    prepare(Planted(tiny_shop, time - dt.timedelta(days=5)), tmp_path / "log", SPLIT)
    tokenizer = tiny_engine.writer.tokenizer
    before = prompts(tiny_log, tiny_run, VIEWS[name], elders, tokenizer)
    after = prompts(Log.open(tmp_path / "log"), tiny_run, VIEWS[name], elders, tokenizer)
    changed = [name for name in before if after[name] != before[name]]
    assert len(changed) > 10
