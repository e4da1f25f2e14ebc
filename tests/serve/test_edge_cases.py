"""Shoppers and queries at the edge of what a log holds, from the raw log to the trained model's answer."""

import copy
import datetime
import math
import random
from typing import NamedTuple

import pytest
import torch

from onesearch.data.alignment import AlignmentData
from onesearch.data.catalogue import CatalogueData
from onesearch.data.sft import SftData, build_corpus
from onesearch.log.prepare import prepare
from onesearch.log.prepared import Log
from onesearch.log.schema import table_of
from onesearch.log.sources.source import Raw, Source
from onesearch.log.split import Split
from onesearch.models.generator import FreshGenerator
from onesearch.models.text_encoder import FreshEncoder
from onesearch.quantize.rq_opq import RqOpqRecipe
from onesearch.serve.engine import SearchEngine
from onesearch.stages.encoder import EncoderStage
from onesearch.stages.quantizer import QuantizerStage
from onesearch.stages.sft import SftStage
from onesearch.tasks.collation import collate_prompts
from onesearch.tasks.personalize import SearchToItem
from onesearch.tasks.prompt import Views


class Edge(NamedTuple):
    """A search, and how many earlier clicks of its shopper the models are to know of."""

    user: str | None
    query: str
    num_clicks: int


EDGES = {
    "no history": Edge(None, "red boots", 0),
    "1,000 events": Edge("collector", "blue kettle", 1000),
    "items that left the catalogue": Edge("regular", "green rug", 2),
    "500 words": Edge("talker", " ".join(f"word{number}" for number in range(500)), 0),
    "emoji alone": Edge("silent", "👢❤️", 0),
}
SOLD_OUT, GONE = "i05", "i99"
"""One is in the catalogue as not available, the other is not in it at all."""

FIRST_DAY = datetime.datetime(2024, 3, 1, tzinfo=datetime.UTC)  # as the tiny shop's


class EdgeShop(Source):
    """The tiny shop, where a week after its first day each search of `EDGES` led to a click.

    Until then the collector clicked 1,200 times, and bought at every other click; the regular clicked an item that is
    sold out, one that is gone, and one that is there.
    """

    def __init__(self, shop: Source) -> None:
        self.shop = shop

    def read(self) -> Raw:
        tables = dict(self.shop.read().tables)
        events = [self.event("collector", f"i{minute % 36:02d}", minute) for minute in range(1200)]
        events += [self.event("regular", item, minute) for minute, item in enumerate((SOLD_OUT, GONE, "i07"))]
        events += [event | {"action": "purchase"} for event in events[::2]]
        searches = [self.search(number, *edge) for number, edge in enumerate(EDGES.values())]
        for name, more in (("searches", searches), ("events", events)):
            tables[name] = table_of(name, tables[name].to_pylist() + more)
        return Raw(tables)

    def search(self, number: int, user: str | None, query: str, _: int) -> dict[str, object]:
        shown = ["i20", GONE, f"i{number:02d}"]
        asked = {"user_id": user, "time": FIRST_DAY + datetime.timedelta(days=7), "query": query}
        return {"search_id": f"edge {number}", **asked, "impressed": shown, "clicked": shown[1:]}

    def event(self, user: str, item: str, minute: int) -> dict[str, object]:
        time = FIRST_DAY + datetime.timedelta(minutes=minute)
        return {"user_id": user, "item_id": item, "time": time, "scene": "recommend", "action": "click"}


VIEWS = {
    "written anew": Views(max_history=1000, num_trending=2),
    "copied": Views(max_history=1000, fold_sids=True, popular_for_all=True),
}
"""By how a generator writes its answers."""


@pytest.fixture(scope="module")
def run(tiny_shop, fit_stage, tmp_path_factory):
    """log, encoder, quantizer and a generator for each of `VIEWS`, which have seen every search of `EDGES` once."""
    run = tmp_path_factory.mktemp("edge") / "run"
    prepare(EdgeShop(tiny_shop), run / "log", Split(test_share=0.2, validation_share=0.2))
    encoder = EncoderStage(run, FreshEncoder(hidden=32, layers=1, heads=2), dim=16)
    fit_stage(encoder, AlignmentData(run, batch_size=32, vocab_size=400))
    fit_stage(QuantizerStage(run, RqOpqRecipe((8, 6, 4), (4, 4)), min_pv=1), CatalogueData(run))
    small = FreshGenerator(hidden=32, encoder_layers=1, decoder_layers=1, heads=2)
    for name, views in VIEWS.items():
        stage = SftStage(run, name, "search", backbone=small, views=views, copying=name == "copied")
        fit_stage(stage, SftData(run, [SearchToItem()], 32, views, vocab_size=400, num_validation=1))
    return run


@pytest.fixture(scope="module")
def log(run):
    return Log.open(run / "log")


@pytest.fixture(scope="module", params=VIEWS)
def engine(run, request):
    (run / "sft_personalize").unlink(missing_ok=True)
    (run / "sft_personalize").symlink_to(run / request.param)
    return SearchEngine.open(run)


@pytest.fixture(scope="module")
def known(log):
    """The searches of `EDGES` as examples to learn from."""
    found = {context.search_id: context for context in log.contexts("train")}
    return {name: found[f"edge {number}"] for number, name in enumerate(EDGES)}


@pytest.mark.parametrize("form", ["search", "sid", "cooccur"])
@pytest.mark.parametrize("name", EDGES)
def test_it_is_answered(engine, log, name, form):
    """Ten items of the catalogue, none twice, by falling log-probability."""
    asked = copy.copy(engine)
    asked.form = form
    hits = asked.search(log, EDGES[name].query, EDGES[name].user, k=10)
    assert len({hit.item_id for hit in hits}) == len(hits) == 10
    assert {hit.item_id for hit in hits} <= set(log.item_ids)
    scores = [hit.score for hit in hits]
    assert all(math.isfinite(score) and score <= 0 for score in scores)
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("name", EDGES)
def test_it_is_learnt_from(engine, log, known, name):
    """Sixteen examples ask for the click that is there, and a small step down their gradient lowers their loss."""
    corpus = build_corpus(log, engine.khqe, [known[name]], num_typos=2, num_fragments=1, seed=0)
    task = SearchToItem(typo_rate=0.5, unknown_rate=0.5, unreadable_rate=0.2)
    samples = [task.sample(corpus, engine.writer, 0, random.Random(number)) for number in range(16)]
    number = list(EDGES).index(name)
    assert all(sample.answer == engine.khqe.item_codes[number].tolist() for sample in samples)
    pad = engine.writer.tokenizer.pad_token_id
    prompts = collate_prompts([sample.prompt for sample in samples], engine.khqe.item_codes, pad)
    codes = torch.tensor([[sample.answer] for sample in samples])
    generator = copy.deepcopy(engine.generator).eval()
    losses = []
    for _ in range(2):
        losses.append(-generator.sid_log_probs(generator.encode(prompts), codes).mean())
        generator.zero_grad()
        losses[-1].backward()
        torch.optim.SGD(generator.parameters(), lr=1e-2).step()
    assert math.isfinite(losses[0])
    assert losses[1] < losses[0]


@pytest.mark.parametrize("name", EDGES)
def test_the_models_see_the_history_that_is_in_the_catalogue(engine, log, known, name):
    """Of 1,200 clicks the latest 1,000; of three items the one that is gone is not there, the one sold out is."""
    clicks = known[name].long_clicks
    assert len(clicks) == EDGES[name].num_clicks
    assert tuple(engine.writer.search(known[name]).history[0])[: len(clicks)] == clicks
    if name == "1,000 events":
        assert [log.item_ids[row] for row in clicks] == [f"i{minute % 36:02d}" for minute in range(200, 1200)]
        assert len(known[name].long_orders) == 600
    if name == "items that left the catalogue":
        assert [log.item_ids[row] for row in clicks] == [SOLD_OUT, "i07"]
