"""The baselines on real clicks, beside figures that a plain script without this package found on the same split."""

import datetime
import os
from pathlib import Path

import pytest

from onesearch.evaluate.baselines import baselines
from onesearch.evaluate.compare import compare
from onesearch.log.prepare import prepare
from onesearch.log.prepared import Log
from onesearch.log.sources import BestBuy
from onesearch.log.split import Split

REAL_DATA = os.environ.get("ONESEARCH_REAL_DATA")
BEST_BUY = Path(REAL_DATA or "") / "bestbuy"

pytestmark = pytest.mark.skipif(
    not REAL_DATA or not BEST_BUY.is_dir(), reason="ONESEARCH_REAL_DATA names no folder that holds bestbuy/"
)

PUBLISHED = {  # HR@10 of all searches, HR@10 of unseen queries, MRR@10 of all searches
    "popularity": (0.347, 0.323, 0.108),
    "lookup": (0.790, 0.000, 0.688),
    "bm25": (0.811, 0.495, 0.668),
    "cascade": (0.894, 0.649, 0.755),
}


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "log"
    prepare(BestBuy(BEST_BUY), folder, Split(test_from=datetime.date(2011, 9, 24)))
    log = Log.open(folder)
    rows = compare(baselines(log), log.contexts("test"), set(log.queries.column("query").to_pylist()), 20).rows
    return {(row.system, row.slice, row.metric): row for row in rows}


def test_the_searches_are_those_of_the_published_figures(figures):
    """6,887 test searches, less 35 that clicked only items outside the catalogue and 2 without a word; 920 unseen."""
    assert figures["lookup", "all", "HR@10"].num_searches == pytest.approx(6852, abs=10)
    assert figures["lookup", "unseen", "HR@10"].num_searches == pytest.approx(919, abs=10)


@pytest.mark.parametrize("system", ["popularity", "lookup"])
def test_click_baselines_agree(figures, system):
    """Within 0.005: the plain script also counted the 35 searches (0.5%) whose items are not in the catalogue."""
    found = [figures[system, *key].value for key in (("all", "HR@10"), ("unseen", "HR@10"), ("all", "MRR@10"))]
    assert found == pytest.approx(PUBLISHED[system], abs=0.005)


@pytest.mark.parametrize("system", ["bm25", "cascade"])
def test_text_baselines_are_at_least_as_strong(figures, system):
    """Better terms and better ties than the plain script's may lift them; nothing may lower them."""
    found = [figures[system, *key].value for key in (("all", "HR@10"), ("unseen", "HR@10"), ("all", "MRR@10"))]
    assert all(ours >= theirs for ours, theirs in zip(found, PUBLISHED[system], strict=True))
