"""A catalogue that lives on, through the real command line: code new items, find them, go back."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from handful import CONFIGS
from onesearch.artifacts import read_manifest
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.main import main
from onesearch.serve.engine import SearchEngine
from onesearch.sid.versions import current_version, switch, versions
from onesearch.types import UserError


def arrive(run, rows, option="items"):
    path = run / f"new_{option}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
    config = str(CONFIGS / "quantizer.yaml")
    main(["predict", "-c", config, "--run", str(run), f"--data.init_args.{option}", str(path), *quiet])


@pytest.fixture
def run(tiny_run_copy):
    return tiny_run_copy


def test_new_items_get_the_sids_of_the_frozen_codebook(run, tiny_khqe, tiny_log):
    """A copy of item 3 under another ID gets the SID that item 3 is encoded to; the items of the fit keep theirs."""
    title = tiny_log.items["title"][3].as_py()
    twin = {**tiny_log.items.slice(3, 1).to_pylist()[0], "item_id": "twin", "attributes": None, "available": True}
    arrive(run, [twin, {"item_id": "other", "title": "a thing nobody has seen"}])
    khqe = Khqe.open(run, with_added=True)
    num_fitted = len(tiny_khqe.item_ids)
    assert list(khqe.item_ids[num_fitted:]) == ["twin", "other"]
    assert np.array_equal(khqe.item_codes[:num_fitted], tiny_khqe.item_codes)
    again = khqe.codebook.encode(khqe.item_embeddings[num_fitted:]).numpy()
    assert np.array_equal(khqe.item_codes[num_fitted:], again)
    assert khqe.added_items["title"].to_pylist() == [title, "a thing nobody has seen"]
    assert num_fitted in khqe.table.bucket(khqe.table.sid_rows(khqe.item_codes[num_fitted : num_fitted + 1])[0])


def test_a_new_item_can_be_found(run):
    """With as many beams as SIDs every item is in the list, the new one with its own title."""
    arrive(run, [{"item_id": "other", "title": "a thing nobody has seen", "price": 3.0}])
    engine = SearchEngine.open(run, num_beams=200)
    log = Log.open(run / "log").with_items(engine.khqe.added_items)
    hits = engine.search(log, "thing", k=1000)
    assert ("other", "a thing nobody has seen") in {(hit.item_id, hit.title) for hit in hits}


def test_versions_hold_everything_since_the_fit(run, capsys):
    """Two arrivals, two versions: the second holds both items. Going back to 1 and to 0 takes them away again."""
    arrive(run, [{"item_id": "one", "title": "first"}])
    arrive(run, [{"item_id": "one", "title": "first again"}, {"item_id": "two", "title": "second"}])
    assert "1 items have a SID already, and keep it." in capsys.readouterr().out
    num_fitted = len(Log.open(run / "log").item_ids)
    assert (versions(run), current_version(run)) == ([0, 1, 2], 2)
    for version in (2, 1, 0):
        switch(run, version)
        assert len(Khqe.open(run, with_added=True).item_ids) - num_fitted == version
    main(["catalogue", "--run", str(run), "--version", "1"])
    assert "→ version 1" in capsys.readouterr().out
    drift = json.loads((run / "catalogue" / "0002" / "drift.json").read_text("utf-8"))
    assert (drift["version"], drift["num_items"], drift["figures"]["num_added"]) == (2, 2, 2)


def test_new_queries_are_known_afterwards(run):
    arrive(run, [{"query": "Brand New  Query"}], "queries")
    khqe = Khqe.open(run, with_added=True)
    assert khqe.knows("brand new query")  # not encoded on demand
    assert pq.read_table(run / "catalogue" / "0001" / "queries.parquet")["query"].to_pylist() == ["brand new query"]
    assert khqe.sid_of("brand new query") == khqe.codebook.encode(khqe.encoder.embed(["brand new query"])).tolist()[0]


def test_mistakes_are_sentences(run, tiny_log):
    known = tiny_log.item_ids[0]
    with pytest.raises(UserError, match="All 1 items and 0 queries have a SID already"):
        _arrive_raising(run, [{"item_id": known, "title": "again"}])
    assert len(Khqe.open(run).item_ids) == len(tiny_log.item_ids)
    with pytest.raises(UserError, match="no version 5 of its catalogue: use one of 0"):
        switch(run, 5)
    with pytest.raises(UserError, match="name a file of new items"):
        _predict_raising(run)


def test_another_fit_begins_with_its_own_catalogue(run):
    """The pointer belongs to a codebook: with another fingerprint the version is 0, and the folder stays."""
    arrive(run, [{"item_id": "one", "title": "first"}])
    pointer = json.loads((run / "catalogue" / "current.json").read_text("utf-8"))
    assert pointer == {"version": 1, "quantizer": read_manifest(run / "quantizer").fingerprint}
    (run / "catalogue" / "current.json").write_text(json.dumps({**pointer, "quantizer": "another"}), "utf-8")
    assert current_version(run) == 0
    assert (run / "catalogue" / "0001").is_dir()


def _arrive_raising(run, rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONESEARCH_TRACEBACK", "1")
        arrive(run, rows)


def _predict_raising(run):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONESEARCH_TRACEBACK", "1")
        main(["predict", "-c", str(CONFIGS / "quantizer.yaml"), "--run", str(run)])
