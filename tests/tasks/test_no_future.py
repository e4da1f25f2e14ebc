"""No prompt knows what happened later: a log with and without a planted event, written into prompts as they are served.

What a log itself derives is held against a brute force in `tests/log/test_derive.py`; here it has gone all the way,
through the memory of clicks too.
"""

import datetime as dt

import numpy as np
import pytest
import torch

from onesearch.behavior.memory import ClickMemory
from onesearch.log.prepare import prepare
from onesearch.log.prepared import Log
from onesearch.log.schema import table_of
from onesearch.log.sources.source import Raw, Source
from onesearch.log.split import Split
from onesearch.sid.spec import SidSpec
from onesearch.sid.vocabulary import Vocabulary
from onesearch.tasks.evidence import Evidence
from onesearch.tasks.prompt import MARKERS, Views
from onesearch.tasks.prompt_writer import PromptWriter

SPLIT = Split(test_from=dt.date(2024, 4, 5), validation_from=dt.date(2024, 4, 1))
SPEC = SidSpec((6, 6, 6), (4, 4))
CODES = np.random.default_rng(0).integers(0, SPEC.sizes, (36, 5))  # of the tiny shop's items
ITEM_EMBEDDINGS = torch.nn.functional.normalize(torch.randn(36, 16, generator=torch.Generator().manual_seed(0)), dim=1)
VIEWS = [
    Views(num_trending=3, popular_for_all=True),
    Views(num_trending=3, fold_sids=True, num_recent_clicks=3),
]


class Planted(Source):
    """The tiny shop and, at `time`, searches of `user` that led to one item, and a click and order of another."""

    def __init__(self, shop: Source, user: str, time: dt.datetime, *queries: str) -> None:
        self.shop = shop
        bought = {"user_id": user, "time": time, "impressed": ["i35", "i00"], "clicked": ["i35"], "purchased": ["i35"]}
        outside = {"user_id": user, "item_id": "i34", "time": time, "scene": "recommend"}
        self.rows = {
            "searches": [{"search_id": f"planted {query}", "query": query, **bought} for query in queries],
            "events": [outside | {"action": action} for action in ("click", "purchase")],
        }

    def read(self) -> Raw:
        tables = dict(self.shop.read().tables)
        for name, rows in self.rows.items():
            tables[name] = table_of(name, tables[name].to_pylist() + rows)
        return Raw(tables)


def embedding(text: str) -> torch.Tensor:
    """Texts of common words lie near each other."""
    words = [torch.randn(16, generator=torch.Generator().manual_seed(sum(word.encode()))) for word in text.split()]
    return torch.nn.functional.normalize(torch.stack(words).sum(0), dim=0)


def relevant(query: str, items, k: int) -> list[int]:
    near = ITEM_EMBEDDINGS[list(items)] @ embedding(query)
    return [items[place] for place in sorted(near.topk(min(k, len(items))).indices.tolist())]


@pytest.fixture(scope="module")
def prompts_of(task_tokenizer, tmp_path_factory):
    """`prompts_of(source)`: search ID → its prompts, plain and as augmentation writes them, under each of `VIEWS`."""
    vocabulary = Vocabulary(len(task_tokenizer), SPEC, MARKERS)

    def sid_of(query):
        return [sum(query.encode()) % size for size in SPEC.sizes]

    def write(source):
        folder = tmp_path_factory.mktemp("log") / "log"
        prepare(source, folder, SPLIT)
        log = Log.open(folder)
        memory = ClickMemory(log.clicked_items, embedding, log.pair_counts, log.item_counts, len(log.item_ids))
        writers = [
            PromptWriter(task_tokenizer, vocabulary, CODES, sid_of, Evidence(v, CODES, relevant, memory)) for v in VIEWS
        ]
        return {
            context.search_id: [
                prompt
                for writer in writers
                for prompt in (
                    writer.search(context),
                    writer.search(context, shift=1, hidden_from=0.9),
                    writer.search(writer.evidence.as_remembered(context, context.day - 2)),
                )
            ]
            for context in log.contexts("train", "validation", "test")
        }

    return write


@pytest.fixture(scope="module")
def searches(tiny_shop):
    """The shop's searches in time order."""
    return sorted(tiny_shop.read().tables["searches"].to_pylist(), key=lambda row: (row["time"], row["search_id"]))


@pytest.fixture(scope="module")
def target(searches):
    """A search of the middle by somebody whom the log knows."""
    return next(row for row in searches[120:] if row["user_id"])


@pytest.fixture(scope="module")
def before(tiny_shop, prompts_of):
    """The prompts without any planted event."""
    return prompts_of(tiny_shop)


@pytest.mark.parametrize("later", [dt.timedelta(0), dt.timedelta(days=1)])
def test_the_future_changes_no_prompt(tiny_shop, searches, target, before, prompts_of, later):
    """Planted at the target's own time or later, its query and one like it that nobody asked: all until then stay."""
    time = target["time"] + later
    after = prompts_of(Planted(tiny_shop, target["user_id"], time, target["query"], f"{target['query']} now"))
    elders = [row["search_id"] for row in searches if row["time"] <= time]
    assert target["search_id"] in elders
    assert len(elders) > 120
    for search_id in elders:
        assert after[search_id] == before[search_id]


def test_the_shoppers_own_past_changes_the_prompt(tiny_shop, target, before, prompts_of):
    """The counterpart: the day before, the same behaviours are in tokens, long sequences and lists of every prompt."""
    past = target["time"] - dt.timedelta(days=1)
    after = prompts_of(Planted(tiny_shop, target["user_id"], past, target["query"]))
    plain, folded = after[target["search_id"]][0], after[target["search_id"]][3]
    assert plain.tokens != before[target["search_id"]][0].tokens
    assert {34, 35} <= set(plain.history[0])
    assert {34, 35} <= set(plain.history[1])
    assert 35 in {listed.row for listed in folded.listed} - {
        listed.row for listed in before[target["search_id"]][3].listed
    }


def test_the_past_of_others_changes_the_prompt_through_the_memory(tiny_shop, target, before, prompts_of):
    """Somebody else's click for a query like the target's shows among <similar>, and nowhere in its history."""
    past = target["time"] - dt.timedelta(days=1)
    after = prompts_of(Planted(tiny_shop, "stranger", past, f"{target['query']} now"))
    old, new = before[target["search_id"]][3], after[target["search_id"]][3]
    assert 35 in {listed.row for listed in new.listed} - {listed.row for listed in old.listed}
    assert new.history == old.history
