"""`onesearch compare` on a whole run: every stage and every baseline, on disk and on screen."""

import json
import shutil
from pathlib import Path

import pytest

from handful import copied, refusal
from onesearch.evaluate.compare import ANONYMOUS, METRICS, SLICES
from onesearch.evaluate.onesearch import RERANKED, steps, system_of, trained_stages
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.main import main
from onesearch.serve.engine import STAGES

SYSTEMS = [system_of(stage) for stage in STAGES]
WITHOUT_USERS = "onesearch-dpo-logged" + ANONYMOUS
LAST = "onesearch-dpo-logged"
OURS = {*SYSTEMS, WITHOUT_USERS, RERANKED}
BASELINES = {"popularity", "lookup", "bm25", "cascade", "dense"}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def run(whole_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of its own: the comparison is written into it."""
    stages = ("quantizer", "reward", *STAGES)
    return copied(whole_run, tmp_path_factory.mktemp("compared") / "run", *stages)


@pytest.fixture(scope="module")
def compared(run: Path) -> Path:
    main(["compare", "--run", str(run), "--num_beams", "8", "--batch_size", "4"])
    return run


def test_every_system_stands_in_every_slice(compared):
    """Five baselines, five stages, and the last one without its users and re-sorted by the reward model.

    All eight test searches ask what was asked before, by shoppers who were there.
    """
    rows = json.loads((compared / "compare.json").read_text("utf-8"))["rows"]
    assert {row["system"] for row in rows} == BASELINES | OURS
    assert len(SYSTEMS) == 5
    assert {row["slice"] for row in rows} == {"all", "returning"} <= set(SLICES)
    assert len(rows) == 12 * 2 * len(METRICS)  # nobody buys on the test day: no metric of orders
    assert {row["num_searches"] for row in rows} == {8}


def test_figures_are_shares_inside_their_intervals(compared):
    """0 ≤ low ≤ value ≤ high ≤ 1, and a longer list finds no less."""
    rows = json.loads((compared / "compare.json").read_text("utf-8"))["rows"]
    for row in rows:
        assert set(row) == {"system", "slice", "metric", "value", "low", "high", "num_searches"}
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1, row
    value = {(row["system"], row["slice"], row["metric"]): row["value"] for row in rows}
    for system, name, _ in value:
        first, five, ten = (value[system, name, f"HR@{k}"] for k in (1, 5, 10))
        assert first <= value[system, name, "MRR@10"] <= ten
        assert first <= five <= ten


def test_differences_are_against_the_best_baseline(compared):
    """value = value(system) − max over baselines, for each stage, slice and metric.

    Beside them each stage less the one before, the last one less itself without users, and re-sorted less as it was.
    """
    written = json.loads((compared / "compare.json").read_text("utf-8"))
    value = {(row["system"], row["slice"], row["metric"]): row["value"] for row in written["rows"]}
    steps = [row for row in written["differences"] if row["baseline"] not in BASELINES]
    stages = SYSTEMS
    pairs = {*zip(stages[1:], stages, strict=False), (LAST, WITHOUT_USERS), (RERANKED, LAST)}
    assert {(row["system"], row["baseline"]) for row in steps} == pairs
    assert len(steps) == 6 * 2 * len(METRICS)
    assert len(written["differences"]) == 7 * 2 * len(METRICS) + len(steps)
    for row in written["differences"]:
        other = value[row["baseline"], row["slice"], row["metric"]]
        best = max(value[name, row["slice"], row["metric"]] for name in BASELINES)
        assert row in steps or other == best
        gain = value[row["system"], row["slice"], row["metric"]] - other
        assert row["value"] == pytest.approx(gain)
        assert row["low"] <= row["value"] <= row["high"]


def test_the_lookup_is_as_good_as_chance_allows(compared):
    """Every query is a bare thing, clicked in all four colours before: the lookup has the answer in its first four.

    Its HR@5 is 1, and popularity, which knows no query, cannot reach that.
    """
    rows = json.loads((compared / "compare.json").read_text("utf-8"))["rows"]
    value = {(row["system"], row["metric"]): row["value"] for row in rows if row["slice"] == "all"}
    assert value["lookup", "HR@5"] == 1
    assert value["popularity", "HR@5"] < 1


def test_it_prints_tables_and_draws_a_figure(compared, capsys, monkeypatch):
    """Run again: the same figures to the byte, a table a slice, a picture."""
    before = (compared / "compare.json").read_bytes()
    (compared / "compare.png").unlink()
    monkeypatch.setenv("COLUMNS", "160")
    main(["compare", "--run", str(compared), "--num_beams", "8", "--batch_size", "64"])
    out = capsys.readouterr().out
    assert "all: 8 searches" in out
    assert "returning: 8 searches" in out
    assert "new:" not in out
    for system in BASELINES | OURS:
        assert system in out
    assert "what each step adds: all searches" in out
    assert (compared / "compare.png").read_bytes().startswith(PNG)
    assert json.loads(before)["rows"] == json.loads((compared / "compare.json").read_text("utf-8"))["rows"]


def test_only_finished_stages_are_compared(whole_run, tmp_path):
    """A run that was stopped after its second stage has two systems, and both answer with known items."""
    run = copied(whole_run, tmp_path / "run", "quantizer", "sft_align", "sft_cooccur")
    systems = trained_stages(run, Khqe.open(run), num_beams=4, batch_size=3)
    assert [system.name for system in systems] == ["onesearch-align", "onesearch-cooccur"]
    assert steps(systems)[0] == ("onesearch-cooccur", "onesearch-align")
    contexts = Log.open(run / "log").contexts("test")
    for system in systems:
        answers = system.rank(contexts, 4)
        assert len(answers) == len(contexts)
        assert all(len(set(items)) == len(items) == 4 for items in answers)
        assert all(0 <= item < 16 for items in answers for item in items)


def test_stages_of_another_codebook_are_not_compared(whole_run, tmp_path, capsys):
    """The quantizer's folder goes, and the way out is told."""
    run = copied(whole_run, tmp_path / "run", "sft_align")
    sentence = refusal(capsys, "compare", "--run", str(run))
    assert sentence.startswith(f"{run}/quantizer holds no finished artefact")
    shutil.rmtree(run)
