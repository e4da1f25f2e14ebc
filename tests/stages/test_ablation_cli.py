"""`onesearch ablate` on the handful's shop: variants, one budget, one table."""

import json
import shutil

import pytest
from rich.console import Console

from handful import copied, facts, fingerprint, in_this_process, overlays, recipe, refusal, write
from onesearch.ablation.run import run_study
from onesearch.ablation.study import Study
from onesearch.artifacts import ArtifactError
from onesearch.main import main
from onesearch.report import tokenizers
from onesearch.report.terminal import study_tables
from onesearch.types import UserError

RQ = {"codebook": {"init_args": {"opq_sizes": []}}}


def rounded(rows):
    """Means of resamples differ in the last bit with how many variants are resampled together."""
    return json.loads(json.dumps(rows), parse_float=lambda figure: round(float(figure), 9))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A recipe that trains for an epoch a stage."""
    return recipe(tmp_path_factory.mktemp("recipes") / "handful")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """RQ alone and RQ-OPQ, each with a generator from fresh weights; the generator's overlay is shared."""
    folder = tmp_path_factory.mktemp("studies") / "tokens"
    small = overlays(0.0)["sft_align"]
    write(folder / "sft_align.yaml", small)
    write(folder / "quantizer.yaml", {"model": {"init_args": {"tagger": False}}})  # the run below has none
    write(folder / "1-rq" / "quantizer.yaml", {"model": {"init_args": RQ}})
    write(folder / "2-rq-opq" / "quantizer.yaml", {"model": {"init_args": {"stop_on_collapse": False}}})
    return folder


def test_a_study_knows_its_stages_and_variants(tokens, shop):
    study = Study.open(tokens, shop)
    assert [variant.name for variant in study.variants] == ["rq", "rq-opq"]
    assert [step.name for step in study.steps] == ["quantizer", "sft_align"]


def test_variants_are_compared_on_the_same_searches(tokens, shop, quantizer_run, tmp_path, capsys, monkeypatch):
    """Log and encoder are links to the run's own; each trial has its own tokenizer, judged on the test day.

    A figure is the mean of its seeds. A second run trains nothing, and answers no search again; other beams do. A
    variant whose overlay changes afterwards is no row of the table until it is trained again.
    """
    run = copied(quantizer_run, tmp_path / "run")
    arguments = ["ablate", "--run", str(run), "--recipe", str(shop), "--seeds", "[0,1]", "--study"]
    with in_this_process():
        main([*arguments, str(tokens)])
    out = capsys.readouterr().out
    assert "rq-opq" in out
    assert "Δ HR@10" in out
    table = run / "ablation" / "tokens.json"
    content = json.loads(table.read_text("utf-8"))
    first, second = content["rows"]
    assert (first["variant"], second["variant"]) == ("rq", "rq-opq")
    assert first["num_searches"] == 8
    assert first["seeds"] == [0, 1]
    assert "perplexity_l5" in second["figures"]
    assert "perplexity_l4" not in first["figures"]
    assert first["differences"] == {}
    for name, gain in second["differences"].items():
        ours, theirs = second["metrics"][name], first["metrics"][name]
        assert 0 <= ours["low"] <= ours["value"] <= ours["high"] <= 1
        assert ours["value"] == pytest.approx(sum(ours["seeds"]) / 2)
        assert gain["value"] == pytest.approx(ours["value"] - theirs["value"])
        assert gain["seeds"] == pytest.approx([a - b for a, b in zip(ours["seeds"], theirs["seeds"], strict=True)])
        assert gain["low"] <= gain["value"] <= gain["high"]
    assert sum(second["slices"][part]["num_searches"] for part in ("returning", "new") if part in second["slices"]) == 8
    assert "Means of 2 trainings" in content["note"]
    assert table.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    trials = run / "ablation" / "tokens" / "1-rq"
    assert (trials / "seed-0" / "encoder").is_symlink()
    assert fingerprint(trials, "seed-0/sft_align") != fingerprint(trials, "seed-1/sft_align")
    changed = shutil.copytree(tokens, tmp_path / "tokens")
    write(changed / "2-rq-opq" / "quantizer.yaml", {"model": {"init_args": {"min_pv": 2}}})
    monkeypatch.setattr("onesearch.ablation.answers.OneSearch", None)  # whoever asks it, fails
    with in_this_process() as launched:
        main([*arguments, str(changed), "--only", "[1-rq]"])
    assert launched == []
    later = json.loads(table.read_text("utf-8"))
    assert rounded(later["rows"]) == rounded([first])
    assert later["note"].endswith("Left out, since not trained as they stand now: 2-rq-opq.")
    assert "2-rq-opq" in capsys.readouterr().err
    assert not table.with_suffix(".png").exists()  # nothing to compare with
    with pytest.raises(TypeError):
        run_study(run, Study.open(tokens, shop), [0, 1], ["1-rq"], num_beams=3)


def test_a_stage_left_out_is_paid_back_to_the_last_one(shop, quantizer_run, tmp_path):
    """Alignment is handed on untrained, and co-occurrence left out: the last stage trains for their steps too.

    A stage that no later one starts from is not trained, and an overlay for it is refused.
    """
    run = copied(quantizer_run, tmp_path / "run", "quantizer")
    folder, alone = tmp_path / "stages", tmp_path / "stages" / "2-alone"
    write(folder / "study.yaml", {"stages": ["sft_align", "sft_cooccur", "sft_personalize"], "equal_steps": True})
    write(folder / "1-all" / "sft_personalize.yaml", {})
    write(alone / "sft_align.yaml", {"trainer": {"max_epochs": 0}})
    write(alone / "sft_personalize.yaml", {"model": {"init_args": {"init_from": "sft_align"}}})
    study = Study.open(folder, shop)
    with pytest.raises(ArtifactError, match="train 1-all first"), in_this_process():
        run_study(run, study, only=["2-alone"])
    with in_this_process():
        assert run_study(run, study, table=False) == []
    assert not (run / "ablation" / "stages.json").exists()
    with in_this_process() as launched:
        rows = run_study(run, study, num_beams=4)
    assert launched == []
    trials = [(found, run / "ablation" / "stages" / found.folder.name / "seed-0") for found in study.variants]
    all_steps, steps = (
        {step.name: facts(trial, step.name)["num_steps"] for step in variant.steps} for variant, trial in trials
    )
    assert all(all_steps.values())
    assert steps == {"sft_align": 0, "sft_personalize": sum(all_steps.values())}
    assert not (run / "ablation" / "stages" / "2-alone" / "seed-0" / "sft_cooccur").exists()
    assert [row["stage"] for row in rows] == ["sft_personalize"] * 2
    with in_this_process() as launched:
        run_study(run, study, num_beams=4)
    assert launched == []
    write(alone / "sft_cooccur.yaml", {"trainer": {"max_epochs": 9}})
    with pytest.raises(UserError, match=r"2-alone/sft_cooccur.yaml changes nothing: no later stage of this variant"):
        run_study(run, study, num_beams=4)


def test_tokenizers_alone_are_compared_by_their_figures(shop, quantizer_run, tmp_path, capsys):
    """Without a generator there are no metrics.

    A link in the way of what the trial writes goes, and the run's own quantizer, to which it led, stays what it was;
    a broken link is mended. A study that varies another stage later does not mistake the trial's quantizer.
    """
    run = copied(quantizer_run, tmp_path / "run", "quantizer")
    kept = fingerprint(run, "quantizer")
    folder = tmp_path / "tokenizers"
    write(folder / "1-rq" / "quantizer.yaml", {"model": {"init_args": RQ | {"tagger": False}}})
    trial = run / "ablation" / "tokenizers" / "1-rq" / "seed-0"
    trial.mkdir(parents=True)
    (trial / "quantizer").symlink_to(run / "quantizer", target_is_directory=True)
    (trial / "encoder").symlink_to(tmp_path / "gone", target_is_directory=True)
    with in_this_process():
        rows = run_study(run, Study.open(folder, shop))
    assert not (trial / "quantizer").is_symlink()
    assert fingerprint(run, "quantizer") == kept != fingerprint(trial, "quantizer")
    assert [(row["variant"], row["stage"], row["metrics"]) for row in rows] == [("rq", None, {})]
    Console().print(*study_tables(rows))
    assert f"{100 * facts(trial, 'quantizer')['quality']['icr_items']:.2f}" in capsys.readouterr().out
    html = tokenizers.section(run).html
    assert "rq</th>" in html
    assert "Metrics of" not in html
    shutil.move(folder / "1-rq" / "quantizer.yaml", folder / "1-rq" / "reward.yaml")
    with pytest.raises(UserError, match=f"{trial}/quantizer was trained when the study changed quantizer too"):
        run_study(run, Study.open(folder, shop))


def test_what_cannot_be_trained_is_refused(tokens, shop, tmp_path, capsys):
    arguments = ("ablate", "--run", str(tmp_path), "--recipe", str(shop), "--study", str(tokens))
    assert "has no variant 9-none: 1-rq, 2-rq-opq" in refusal(capsys, *arguments, "--only", "[9-none]")
    assert refusal(capsys, *arguments, "--seeds", "[1,1]").startswith("The seeds are [1, 1]")


@pytest.mark.parametrize(
    ("overlay", "content", "sentence"),
    [
        (None, {}, "study is missing"),
        ("quantizer.yaml", {}, "has no variant at all"),
        (
            "1-rq/quantiser.yaml",
            {},
            "1-rq/quantiser.yaml is the overlay of no stage .*: name it as one of encoder.yaml",
        ),
        ("1-rq/quantizer.yml", {}, "1-rq/quantizer.yml is the overlay of no stage"),
        ("1-rq/log.yaml", {}, "1-rq/log.yaml is the overlay of no stage that can be varied"),
        ("1-rq/notes.txt", {}, "study changes no stage"),
        ("1-large/encoder.yaml", {}, "study changes encoder but not the quantizer that reads it"),
        ("study.yaml", {"stage": ["reward"]}, "study.yaml: Key 'stage' not in 'Settings'"),
        ("study.yaml", {"equal_steps": "maybe"}, "study.yaml: Value 'maybe' is not a valid bool"),
        ("study.yaml", {"equal_steps": "${so}"}, "study.yaml: Interpolation key 'so' not found"),
        ("study.yaml", {"stages": {"reward": 1}}, "study.yaml: a list stands where names .* where a list belongs"),
        ("study.yaml", ["reward"], "study.yaml: a list stands where names with values belong"),
        ("study.yaml", {"stages": ["sft"]}, "study.yaml names no stage with 'sft': use some of encoder, tagger"),
    ],
)
def test_a_study_that_does_nothing_is_refused(overlay, content, sentence, shop, tmp_path):
    if overlay is not None:
        write(tmp_path / "study" / overlay, content)
        if overlay == "study.yaml":
            write(tmp_path / "study" / "1-rq" / "quantizer.yaml", {})
    with pytest.raises(UserError, match=sentence):
        Study.open(tmp_path / "study", shop)


def test_a_study_that_cannot_be_read_is_refused_with_file_and_line(shop, tmp_path):
    """Its settings; then an overlay, which is read when the variants' stages are asked for."""
    settings, overlay = tmp_path / "study.yaml", write(tmp_path / "1-rq" / "quantizer.yaml", {})
    settings.write_text("stages: [quantizer\n", "utf-8")
    with pytest.raises(UserError, match=r"study.yaml, line 2: did not find expected"):
        Study.open(tmp_path, shop)
    settings.unlink()
    overlay.write_text("model:\n\tinit_args: {}", "utf-8")
    with pytest.raises(UserError, match=r"1-rq/quantizer.yaml, line 2: found character"):
        run_study(tmp_path, Study.open(tmp_path, shop))
