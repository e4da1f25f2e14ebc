"""oNDCG@10 by the truth and by logged orders, against scikit-learn."""

import json

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from onesearch.evaluate.orders import LoggedOrders, TrueOrders, orders_of
from onesearch.log.prepare import prepare
from onesearch.log.prepared import Log
from onesearch.metrics.ranking import pad
from onesearch.simulate import Marketplace, Simulator

TINY = Marketplace(num_items=150, num_users=40, num_searches=200, num_recommendations=60, num_judgments=40)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated") / "log"
    prepare(Simulator(TINY), folder)
    return Log.open(folder)


def test_the_truth_judges_every_search_over_all_items_on_sale(log):
    """As scikit-learn says of all 150 gains; a list by falling gain is perfect, one of items not on sale is worth 0."""
    orders, searches = orders_of(log), log.contexts("test")
    assert isinstance(orders, TrueOrders)
    truth, rng = orders._truth, np.random.default_rng(0)
    gains = np.stack([truth.orders(context.search_id, np.arange(150)) for context in searches])
    lists = [rng.permutation(150)[:10].tolist() for _ in searches]
    scores = np.zeros_like(gains)
    for row, ranked in zip(scores, lists, strict=True):
        row[ranked] = np.arange(10, 0, -1)
    expected = [
        ndcg_score(gain[None], row[None], k=10, ignore_ties=True) for gain, row in zip(gains, scores, strict=True)
    ]
    np.testing.assert_allclose(orders.judge(pad(lists, 10), searches), expected)
    best = np.argsort(-gains, axis=1)
    np.testing.assert_allclose(orders.judge(best[:, :10], searches), 1.0)
    gone = [np.flatnonzero(row == 0).tolist() for row in gains]
    assert any(gone)
    np.testing.assert_array_equal(orders.judge(pad(gone, 10), searches), 0.0)


def test_logged_orders_judge_the_searches_that_led_to_one(make_search):
    """{3} was bought, at place 2: 1/log2 3. Nothing was: not judged. {1, 2} were, 1 stands first: 1/(1 + 1/log2 3)."""
    searches = [
        make_search("a", (3, 4), purchased=(3,)),
        make_search("b", (4,)),
        make_search("c", (1, 2), purchased=(1, 2)),
    ]
    figures = LoggedOrders().judge(pad([[4, 3], [4], [1, 0]], 10), searches)
    second = 1 / np.log2(3)
    np.testing.assert_allclose(figures, [second, np.nan, 1 / (1 + second)])


def test_what_a_log_knows_decides(log, tiny_log, make_search, capsys):
    """Recorded orders; the truth; orders again where this version would draw another log, which is said; or nothing."""
    assert isinstance(orders_of(tiny_log), LoggedOrders)
    path = log.folder / "manifest.json"
    written = path.read_text("utf-8")
    manifest = json.loads(written)
    manifest["config"]["settings"]["seed"] = 1
    path.write_text(json.dumps(manifest), "utf-8")
    assert isinstance(orders_of(Log.open(log.folder)), LoggedOrders)
    assert "another version" in capsys.readouterr().err
    path.write_text(written, "utf-8")

    class Unsold(Log):
        def contexts(self, *splits):
            return super().contexts(*splits)[:0]

    assert orders_of(Unsold(tiny_log.folder, tiny_log.manifest)) is None
