"""`onesearch export`, from the command line to a folder that searches."""

import shutil

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer

from onesearch.artifacts import verify
from onesearch.decoding.beam import beam_search
from onesearch.log.prepared import Log
from onesearch.main import main
from onesearch.serve import onnx


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    """Folder of the graphs of the last stage, BART, as the verb wrote it."""
    folder = tmp_path_factory.mktemp("export") / "onnx"
    main(["export", "--run", str(tiny_run), "--folder", str(folder), "--num_checked", "5"])
    return folder


def test_a_run_is_exported_and_searched_with(exported, tiny_run, tiny_engine):
    """The lists are alike; that of a search without a user, too, which the verb did not check."""
    manifest = verify(exported, "onnx", [tiny_run / "sft_personalize"])
    assert manifest.facts["num_searches"] == manifest.facts["num_same_lists"] == 5
    assert manifest.facts["largest_difference"] < 1e-4
    assert AutoTokenizer.from_pretrained(exported)("red boots")["input_ids"]
    assert pq.read_table(exported / "items.parquet")["codes"].to_pylist() == tiny_engine.khqe.item_codes.tolist()
    contexts = [Log.open(tiny_run / "log").context(None, "red boots")]
    found = beam_search(onnx.OnnxGenerator(exported).scorer(tiny_engine.batch(contexts)), tiny_engine.trie, 64)
    assert torch.equal(found.codes, tiny_engine.beams(contexts).codes)


def test_what_was_compared_is_told(exported, tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx, "export_onnx", lambda _, folder: shutil.copytree(exported, folder, dirs_exist_ok=True))
    main(["export", "--run", str(tiny_run), "--folder", str(tmp_path / "onnx"), "--num_checked", "3"])
    assert "3 of 3 searches have the same list" in capsys.readouterr().out


def test_an_export_that_differs_is_not_kept(exported, tiny_run, tmp_path, monkeypatch, capsys):
    """What was there before stays."""
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "mine").touch()
    monkeypatch.setattr(onnx, "export_onnx", lambda _, folder: shutil.copytree(exported, folder, dirs_exist_ok=True))
    monkeypatch.setattr(onnx, "MOST_APART", -1.0)
    with pytest.raises(SystemExit):
        main(["export", "--run", str(tiny_run), "--folder", str(tmp_path / "onnx"), "--num_checked", "1"])
    assert "nothing was written" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["mine"]


def test_without_a_search_nothing_is_exported(exported, tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx, "export_onnx", lambda _, folder: shutil.copytree(exported, folder, dirs_exist_ok=True))
    with pytest.raises(SystemExit):
        main(["export", "--run", str(tiny_run), "--folder", str(tmp_path / "onnx"), "--num_checked", "0"])
    assert "There is no search to check the export by" in capsys.readouterr().err
    assert not (tmp_path / "onnx").exists()


def test_how_far_two_lists_are_apart():
    """Of SIDs in both the scores; of others how far they stand above the end of the list that has them not.

    (0, 1) differs by .1; (0, 2), which the other does not have, is .5 above its end, and (0, 3) 1.1 above this one's.
    """
    wanted = {(0, 1): -1.0, (0, 2): -2.0}
    assert onnx._apart(wanted, {(0, 1): -1.1, (0, 4): -2.5}) == pytest.approx(0.5)
    assert onnx._apart(wanted, {(0, 1): -1.1, (0, 2): -2.0}) == pytest.approx(0.1)
    assert onnx._apart(wanted, {(0, 1): -1.0, (0, 3): -0.9}) == pytest.approx(1.1)


def test_missing_packages_are_named(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(SystemExit):
        main(["export", "--run", str(tiny_run), "--folder", str(tmp_path / "onnx")])
    assert "ONNX needs onnxscript: install" in capsys.readouterr().err
    assert not (tmp_path / "onnx").exists()
