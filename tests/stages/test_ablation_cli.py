"""`onesearch ablate` on the handful's shop: two tokenizers, one budget, one table."""

import json

import pytest

from handful import in_this_process, overlays, recipe, write
from onesearch.ablation import Study, run_study
from onesearch.main import main
from onesearch.types import UserError


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """RQ alone and RQ-OPQ, each with a generator from fresh weights; the generator's overlay is shared."""
    folder = tmp_path_factory.mktemp("studies") / "tokens"
    small = overlays(0.1)["sft_align"]
    write(folder / "sft_align.yaml", small)
    write(folder / "quantizer.yaml", {"model": {"init_args": {"tagger": False}}})  # the run below has none
    write(folder / "1-rq" / "quantizer.yaml", {"model": {"init_args": {"codebook": {"init_args": {"opq_sizes": []}}}}})
    write(folder / "2-rq-opq" / "quantizer.yaml", {"model": {"init_args": {"stop_on_collapse": False}}})
    return Study(folder)


def test_a_study_knows_its_stages_and_variants(study):
    assert [path.name for path in study.variants] == ["1-rq", "2-rq-opq"]
    assert [step.name for step in study.steps] == ["quantizer", "sft_align"]


def test_variants_share_what_is_not_varied(study, quantizer_run, tmp_path, capsys):
    """Log and encoder are links to the run's own; each variant has its own tokenizer, judged on the test day."""
    from handful import copied

    run = copied(quantizer_run, tmp_path / "run")
    shop = recipe(tmp_path / "recipes" / "handful")
    with in_this_process():
        main(["ablate", "--run", str(run), "--recipe", str(shop), "--study", str(study.folder)])
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


def test_an_unknown_variant_is_refused(study, tmp_path):
    with pytest.raises(UserError, match="has no variant 9-none: 1-rq, 2-rq-opq"):
        run_study(tmp_path, tmp_path, study, ["9-none"], 10)
