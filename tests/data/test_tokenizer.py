"""The run's tokenizer is trained once, and again only when it would be another one."""

import pytest

from onesearch.artifacts import ArtifactError, read_manifest, writing
from onesearch.bpe_dropout import draw_segmentation
from onesearch.data.tokenizer import ensure_tokenizer, open_tokenizer


@pytest.fixture
def run(tiny_log, tmp_path):
    (tmp_path / "log").symlink_to(tiny_log.folder)
    return tmp_path


def stamp(run):
    return (run / "tokenizer" / "manifest.json").stat().st_mtime_ns


def test_trained_once(run):
    """A second call leaves the file alone; it speaks the words of titles and of queries."""
    ensure_tokenizer(run, 350)
    first = stamp(run)
    ensure_tokenizer(run, 350)
    assert stamp(run) == first
    tokenizer = open_tokenizer(run, None)
    assert len(tokenizer) == 350
    assert len(tokenizer("kettle", add_special_tokens=False)["input_ids"]) < len("kettle")


def test_another_size_is_trained_anew(run):
    ensure_tokenizer(run, 350)
    ensure_tokenizer(run, 300)
    assert len(open_tokenizer(run, None)) == 300


def test_another_log_is_trained_anew(run):
    """The tokenizer stands there, made from a log of another fingerprint."""
    with writing(run / "other", "log") as folder:
        (folder / "x").write_text("x", "utf-8")
    with writing(run / "tokenizer", "tokenizer", [run / "other"], {"vocab_size": 300}) as folder:
        (folder / "x").write_text("x", "utf-8")
    ensure_tokenizer(run, 300)
    assert read_manifest(run / "tokenizer").parents["log"] == read_manifest(run / "log").fingerprint
    assert len(open_tokenizer(run, None)) == 300


def test_a_damaged_tokenizer_is_refused(run):
    ensure_tokenizer(run, 300)
    (run / "tokenizer" / "tokenizer.json").write_text("{}", "utf-8")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json"):
        ensure_tokenizer(run, 300)


def test_by_name_and_with_dropout(run):
    """A folder given by name is read instead; dropout is that tokenizer's own affair."""
    ensure_tokenizer(run, 350)
    named, plain = open_tokenizer(run / "nowhere", str(run / "tokenizer"), 0.5), open_tokenizer(run, None)
    once = plain("red kettle boots")["input_ids"]
    seen = set()
    for number in range(20):
        for tokenizer in (named, plain):
            draw_segmentation(tokenizer, str(number))
        seen.add(tuple(named("red kettle boots")["input_ids"]))
        assert plain("red kettle boots")["input_ids"] == once
    assert len(seen) > 1
