"""`onesearch ablate` on the handful's shop: two tokenizers, one budget, one table."""

import json
import shutil

import pytest
from rich.console import Console

from handful import copied, facts, fingerprint, in_this_process, overlays, recipe, write
from onesearch.ablation import Study, run_study
from onesearch.main import main
from onesearch.report import tokenizers
from onesearch.report.terminal import study_table
from onesearch.types import UserError

RQ = {"codebook": {"init_args": {"opq_sizes": []}}}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """RQ alone and RQ-OPQ, each with a generator from fresh weights; the generator's overlay is shared."""
    folder = tmp_path_factory.mktemp("studies") / "tokens"
    small = overlays(0.1)["sft_align"]
    write(folder / "sft_align.yaml", small)
    write(folder / "quantizer.yaml", {"model": {"init_args": {"tagger": False}}})  # the run below has none
    write(folder / "1-rq" / "quantizer.yaml", {"model": {"init_args": RQ}})
    write(folder / "2-rq-opq" / "quantizer.yaml", {"model": {"init_args": {"stop_on_collapse": False}}})
    return Study(folder)


def test_a_study_knows_its_stages_and_variants(study):
    assert [path.name for path in study.variants] == ["1-rq", "2-rq-opq"]
    assert [step.name for step in study.steps] == ["quantizer", "sft_align"]


def test_variants_share_what_is_not_varied(study, quantizer_run, tmp_path, capsys):
    """Log and encoder are links to the run's own; each variant has its own tokenizer, judged on the test day.

    A variant whose overlay changes afterwards is no row of the table until it is trained again.
    """
    run = copied(quantizer_run, tmp_path / "run")
    shop = recipe(tmp_path / "recipes" / "handful")
    arguments = ["ablate", "--run", str(run), "--recipe", str(shop), "--study"]
    with in_this_process():
        main([*arguments, str(study.folder)])
    table = json.loads((run / "tokens.json").read_text("utf-8"))
    first, second = table["rows"]
    assert (first["variant"], second["variant"]) == ("rq", "rq-opq")
    assert first["num_searches"] == 8
    assert "perplexity_l5" in second["figures"]
    assert "perplexity_l4" not in first["figures"]
    for row in table["rows"]:
        figure = row["metrics"]["recall@10"]
        assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
    assert (run / "ablation" / "tokens" / "1-rq" / "encoder").is_symlink()
    assert "rq-opq" in capsys.readouterr().out
    changed = shutil.copytree(study.folder, tmp_path / "tokens")
    write(changed / "2-rq-opq" / "quantizer.yaml", {"model": {"init_args": {"stop_on_collapse": False, "seed": 1}}})
    with in_this_process() as launched:
        main([*arguments, str(changed), "--only", "[1-rq]"])
    assert launched == []
    later = json.loads((run / "tokens.json").read_text("utf-8"))
    assert later["rows"] == [first]
    assert later["note"].endswith("Left out, since not trained as they stand now: 2-rq-opq.")
    assert "2-rq-opq" in capsys.readouterr().err


def test_tokenizers_alone_are_compared_by_their_figures(quantizer_run, tmp_path, capsys):
    """Without a generator there are no metrics.

    A link in the way of what the variant writes goes, and the run's own quantizer, to which it led, stays what it was;
    a broken link is mended. A study that varies another stage later does not mistake the variant's quantizer.
    """
    run = copied(quantizer_run, tmp_path / "run", "quantizer")
    kept = fingerprint(run, "quantizer")
    write(tmp_path / "tokenizers" / "1-rq" / "quantizer.yaml", {"model": {"init_args": RQ | {"tagger": False}}})
    variant = run / "ablation" / "tokenizers" / "1-rq"
    variant.mkdir(parents=True)
    (variant / "quantizer").symlink_to(run / "quantizer", target_is_directory=True)
    (variant / "encoder").symlink_to(tmp_path / "gone", target_is_directory=True)
    with in_this_process():
        rows = run_study(run, recipe(tmp_path / "recipes" / "handful"), Study(tmp_path / "tokenizers"), [], 10)
    assert not (variant / "quantizer").is_symlink()
    assert fingerprint(run, "quantizer") == kept != fingerprint(variant, "quantizer")
    assert [(row["variant"], row["stage"], row["metrics"]) for row in rows] == [("rq", None, {})]
    Console().print(study_table(rows))
    assert f"{100 * facts(variant, 'quantizer')['quality']['icr_items']:.2f}" in capsys.readouterr().out
    html = tokenizers.section(run).html
    assert "rq</th>" in html
    assert "Metrics of" not in html
    shutil.move(tmp_path / "tokenizers" / "1-rq" / "quantizer.yaml", tmp_path / "tokenizers" / "1-rq" / "reward.yaml")
    with pytest.raises(UserError, match=f"{variant}/quantizer was trained when the study changed quantizer too"):
        run_study(run, tmp_path / "recipes" / "handful", Study(tmp_path / "tokenizers"), [], 10)


def test_an_unknown_variant_is_refused(study, tmp_path):
    with pytest.raises(UserError, match="has no variant 9-none: 1-rq, 2-rq-opq"):
        run_study(tmp_path, tmp_path, study, ["9-none"], 10)


@pytest.mark.parametrize(
    ("overlay", "sentence"),
    [
        (None, "study is missing"),
        ("quantizer.yaml", "has no variant at all"),
        ("1-rq/quantiser.yaml", "1-rq/quantiser.yaml is the overlay of no stage: name it as one of log.yaml, encoder"),
        ("1-rq/quantizer.yml", "1-rq/quantizer.yml is the overlay of no stage"),
        ("1-rq/notes.txt", "study changes no stage"),
        ("1-large/encoder.yaml", "study changes encoder but not the quantizer that reads it"),
    ],
)
def test_a_study_that_does_nothing_is_refused(overlay, sentence, tmp_path):
    if overlay is not None:
        write(tmp_path / "study" / overlay, {})
    with pytest.raises(UserError, match=sentence):
        run_study(tmp_path, tmp_path, Study(tmp_path / "study"), [], 10)
