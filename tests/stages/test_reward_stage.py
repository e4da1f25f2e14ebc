"""The reward stage with a real Trainer on a log written here: 8 items, 72 searches, two tastes.

Shoppers of taste 0 click even items, those of taste 1 odd ones, whatever the query: only history tells them apart,
since each item is clicked as often as any other.
"""

import datetime
import json
from types import SimpleNamespace

import lightning
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from onesearch.artifacts import verify, write_json, writing
from onesearch.data.reward import RewardData
from onesearch.log.prepare import prepare
from onesearch.log.schema import table_of
from onesearch.log.sources.source import Raw, Source
from onesearch.metrics.list_metrics import ListMetrics
from onesearch.models.reward import load_reward
from onesearch.models.reward_towers import RewardSize
from onesearch.stages.reward import RewardStage
from onesearch.stages.stage import Optimization
from onesearch.types import UserError

NUM_ITEMS, NUM_USERS, NUM_DAYS = 8, 6, 12


class TwoTastes(Source):
    """Each user searches once a day; four items are shown, two of each taste; clicks of odd days are orders."""

    def __init__(self, recorded: bool) -> None:
        self.recorded = recorded  # whether impressions and orders are

    def read(self) -> Raw:
        items = [{"item_id": f"i{row}", "title": f"item {row}", "category": ["all"]} for row in range(NUM_ITEMS)]
        users = [{"user_id": f"u{user}"} for user in range(NUM_USERS)]
        searches = [self.search(user, day) for day in range(NUM_DAYS) for user in range(NUM_USERS)]
        tables = {"items": items, "users": users, "searches": searches}
        return Raw({name: table_of(name, rows) for name, rows in tables.items()})

    def search(self, user: int, day: int) -> dict[str, object]:
        time = datetime.datetime(2025, 1, 1 + day, user, tzinfo=datetime.UTC)
        shown = [f"i{(2 * (day + user) + offset) % NUM_ITEMS}" for offset in range(4)]
        clicked = [shown[user % 2 + 2 * (day % 2)]]
        search = {
            "search_id": f"{user}/{day}",
            "user_id": f"u{user}",
            "time": time,
            "query": "item",
            "clicked": clicked,
        }
        orders = {"impressed": shown, "purchased": clicked if day % 2 else []}
        return search | (orders if self.recorded else {})


def make_run(run, recorded=True):
    prepare(TwoTastes(recorded), run / "log")
    codes = pa.array([[row // 4, row % 2, row % 4] for row in range(NUM_ITEMS)], pa.list_(pa.int32()))
    with writing(run / "quantizer", "quantizer", [run / "log"]) as folder:
        pq.write_table(
            pa.table({"item_id": [f"i{row}" for row in range(NUM_ITEMS)], "codes": codes}), folder / "items.parquet"
        )
        pq.write_table(pa.table({"query": ["item"], "codes": codes[:1]}), folder / "queries.parquet")
        embeddings = {"items": torch.eye(NUM_ITEMS), "queries": torch.full((1, NUM_ITEMS), NUM_ITEMS**-0.5)}
        save_file(embeddings, folder / "embeddings.safetensors")
        write_json(folder / "spec.json", {"rq_sizes": [2, 2], "opq_sizes": [4]})
    return run


def fit(run, epochs, **options):
    lightning.seed_everything(0)
    stage = RewardStage(run, optimization=Optimization(lr=5e-3), **options)
    data = RewardData(run, batch_size=16, num_drawn=4)
    trainer = silent(run, epochs)
    trainer.fit(stage, data)
    return stage, trainer


def silent(run, epochs=1):
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run,
    )


def test_learns_tastes_and_hands_them_on(tmp_path):
    """72 searches of 4 exposures, 10% test and 10% of the rest validation: GAUC 1 needs history, popularity gives ½."""
    run = make_run(tmp_path)
    stage, trainer = fit(run, epochs=25)
    manifest = verify(run / "reward", "reward", [run / "log", run / "quantizer"])
    assert trainer.callback_metrics["val/ctr_gauc"] > 0.95
    assert manifest.facts["towers"] == ["ctr", "cvr", "ctcvr"]
    assert manifest.facts["negatives"] == "shown"
    assert manifest.facts["num_exposures"] == 4 * manifest.facts["num_searches"]
    assert manifest.facts["num_clicks"] == manifest.facts["num_searches"]
    assert 0 < manifest.facts["num_orders"] < manifest.facts["num_clicks"]
    batch = next(iter(ready_data(run).val_dataloader()))
    again, model = load_reward(run / "reward"), stage.model.eval()
    assert torch.equal(again.score(again(batch.inputs)), model.score(model(batch.inputs)))


def ready_data(run, split="fit"):
    data = RewardData(run)
    data.setup(split)
    return data


def test_a_log_without_impressions_and_orders_says_so(tmp_path):
    """Negatives are drawn, two towers have no labels, and the artefact tells both."""
    run = make_run(tmp_path, recorded=False)
    stage, _ = fit(run, epochs=1)
    facts = json.loads((run / "reward" / "manifest.json").read_text())["facts"]
    assert (facts["towers"], facts["negatives"], facts["num_orders"]) == (["ctr"], "drawn", 0)
    assert facts["num_exposures"] > facts["num_clicks"] > 0
    assert not stage.model.orders_known


@pytest.mark.parametrize("architecture", ["popularity", "dcnv2"])
def test_what_it_is_compared_with_has_a_folder_of_its_own(tmp_path, architecture):
    """Popularity has nothing to step with; both are judged on the test split by what they handed on."""
    run = make_run(tmp_path)
    stage, _ = fit(run, epochs=2, name=f"reward_{architecture}", size=RewardSize(architecture=architecture))
    facts = verify(run / f"reward_{architecture}", "reward", [run / "log", run / "quantizer"]).facts
    assert facts["architecture"] == architecture
    assert facts["validation"] == "held out"
    assert (len(list(stage.parameters())) == 0) is (architecture == "popularity")
    assert not (run / "reward").exists()
    silent(run).test(stage, RewardData(run), verbose=False)
    told = json.loads((run / f"reward_{architecture}_test.json").read_text())
    assert told["architecture"] == architecture
    assert (run / f"reward_{architecture}_test.png").read_bytes().startswith(b"\x89PNG")
    searches = ready_data(run, "test").examples["test"]
    ctr = told["towers"]["ctr"]
    assert ctr["num"] == (searches.candidates >= 0).sum() == 4 * len(searches.queries)
    assert ctr["positives"] == searches.clicked.sum()
    assert sum(told["reliability"]["ctr"]["num"]) == ctr["num"]


def test_one_process_tests(tmp_path):
    """Several would repeat searches, and count what they hold themselves beside what all do."""
    stage = RewardStage(tmp_path)
    stage._trainer = SimpleNamespace(world_size=2)
    with pytest.raises(UserError, match=r"reward is tested by one process: set 'trainer.devices'"):
        stage.on_test_start()


def test_list_metrics_by_hand():
    """Lists .9 .1 | .6 .8 with clicks on .9 and .6: AUC 3/4, GAUC ½; nothing is said where one class is missing.

    A wider list pads the others.
    """
    metrics = ListMetrics()
    metrics.update(torch.tensor([[0.9, 0.1]]), torch.tensor([[1.0, 0.0]]), torch.ones(1, 2).bool())
    metrics.update(torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 0.0]]), torch.ones(1, 2).bool())
    values = metrics.compute()
    assert values["auc"].item() == pytest.approx(0.75)
    assert values["gauc"].item() == pytest.approx(0.5)
    want = -(torch.tensor([0.9, 0.9, 0.6, 0.2]).log().mean())
    assert values["log_loss"].item() == pytest.approx(want.item())
    metrics.update(torch.tensor([[0.5, 0.6, 0.7]]), torch.zeros(1, 3), torch.tensor([[True, True, False]]))
    lists = metrics.lists()
    assert lists.mask.tolist() == [[True, True, False]] * 3
    assert lists.probabilities.tolist() == pytest.approx([0.9, 0.1, 0.6, 0.8, 0.5, 0.6])
    metrics.reset()
    metrics.update(torch.rand(1, 2), torch.zeros(1, 2), torch.ones(1, 2).bool())
    assert metrics.compute() == {}
