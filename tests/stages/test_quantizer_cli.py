"""`onesearch fit` of the quantizer: 16 items on a codebook of 4·4·4 residual and 4·4 product codes."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from handful import COLORS, THINGS, copied, facts, launch, logged, overlay, overlays
from onesearch.artifacts import read_manifest, verify
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.quantize.codebooks import load_codebook
from onesearch.types import UserError


@pytest.fixture(scope="module")
def codes(quantizer_run):
    return np.array(pq.read_table(quantizer_run / "quantizer" / "items.parquet")["codes"].to_pylist())


def test_every_item_has_codes_of_every_layer(quantizer_run, codes):
    """Rows stand in the order of the log's items; 16 items fill 4 codes a layer, and 1,024 SIDs leave each its own."""
    table = pq.read_table(quantizer_run / "quantizer" / "items.parquet")
    assert table["item_id"].to_pylist() == Log.open(quantizer_run / "log").item_ids
    assert codes.shape == (16, 5)
    assert codes.min() == 0
    assert codes.max() == 3
    assert len({tuple(row) for row in codes.tolist()}) == 16
    assert facts(quantizer_run, "quantizer")["quality"]["icr_items"] == 1


def test_first_codes_are_the_nearest_centroids(quantizer_run, codes):
    """c_1 = argmin_k ‖e° − μ_k‖², recomputed in float64 from what was written."""
    embeddings = load_file(quantizer_run / "quantizer" / "embeddings.safetensors")["items"].astype(np.float64)
    centroids = load_codebook(quantizer_run / "quantizer" / "codebook.safetensors").level_centroids(0).double().numpy()
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    distances = ((embeddings[:, None] - centroids[None]) ** 2).sum(-1)
    assert codes[:, 0].tolist() == distances.argmin(1).tolist()


def test_core_keywords_are_the_shops_words(quantizer_run):
    """Each colour (an attribute of items) and each thing (which shoppers type) is a keyword, and nothing else is."""
    khqe = Khqe.open(quantizer_run)
    assert set(khqe.encoder.matcher.values) == {*COLORS, *THINGS}


def test_the_artefact_encodes_as_the_stage_did(quantizer_run):
    """A query that was stored keeps its SID when the reopened encoder and codebook meet it as a new text."""
    stored = pq.read_table(quantizer_run / "quantizer" / "queries.parquet").to_pydict()
    khqe = Khqe.open(quantizer_run)
    again = khqe.codebook.encode(khqe.encoder.embed(stored["query"])).tolist()
    assert sorted(stored["query"]) == sorted(THINGS)
    assert again == stored["codes"] == [khqe.sid_of(query) for query in stored["query"]]


def test_lineage_and_log(quantizer_run):
    """It names log and encoder as its parents; its quality stands in Lightning's log too."""
    verify(quantizer_run / "quantizer", "quantizer", [quantizer_run / "log", quantizer_run / "encoder"])
    quality = facts(quantizer_run, "quantizer")["quality"]
    assert logged(quantizer_run, "quantizer", "codebook/icr_items") == [quality["icr_items"]]


def test_validation_examines_the_codebook(quantizer_run, tmp_path, capsys):
    """It encodes all again and finds the same SIDs, fits another codebook on half of the texts, and says a verdict."""
    run = copied(quantizer_run, tmp_path / "run", "quantizer")
    launch(run, "validate", "quantizer", overlays()["quantizer"])
    found = json.loads((run / "doctor.json").read_text("utf-8"))
    assert found["figures"]["reproduced"] == 1
    assert found["figures"]["icr_items"] == facts(run, "quantizer")["quality"]["icr_items"]
    assert "stability_l1" in found["figures"]
    assert "The tokenizer is" in capsys.readouterr().out


def test_a_collapse_stops_the_stage(encoder_run, tmp_path, monkeypatch):
    """One code a layer for 16 items: nobody is alone, so nothing is handed on and the verdict is the message."""
    run = copied(encoder_run, tmp_path / "run")
    config = overlays()["quantizer"]
    config["model"]["init_args"]["codebook"]["init_args"] = {"rq_sizes": [1, 1, 1], "opq_sizes": [1, 1]}
    monkeypatch.setenv("ONESEARCH_TRACEBACK", "1")
    with pytest.raises(UserError, match=r"The tokenizer is collapsed\. Only 0\.0% .*stop_on_collapse"):
        launch(run, "fit", "quantizer", config)
    assert not (run / "quantizer").exists()


def test_what_is_examined_is_what_was_fitted(quantizer_run, tmp_path):
    """The shipped sizes stand in the configuration, the artefact's recipe is used: all SIDs are reproduced."""
    run = copied(quantizer_run, tmp_path / "run", "quantizer")
    launch(run, "validate", "quantizer", overlay(1))
    found = json.loads((run / "doctor.json").read_text("utf-8"))
    assert found["figures"]["reproduced"] == 1
    assert found["quantizer"] == read_manifest(run / "quantizer").fingerprint


def test_a_pass_that_misses_texts_is_refused(quantizer_run, tmp_path, monkeypatch):
    """Only half of five batches of 4 texts are allowed; a rehearsal of one batch fits nothing and hands nothing on."""
    run = copied(quantizer_run, tmp_path / "run", "quantizer")
    config = overlays()["quantizer"]
    config["data"]["init_args"]["batch_size"] = 4
    monkeypatch.setenv("ONESEARCH_TRACEBACK", "1")
    with pytest.raises(UserError, match="saw 8 of 20 texts"):
        launch(run, "validate", "quantizer", config, "--trainer.limit_val_batches", "0.5")
    before = read_manifest(run / "quantizer")
    launch(run, "fit", "quantizer", config, "--trainer.fast_dev_run", "true")
    assert read_manifest(run / "quantizer") == before
