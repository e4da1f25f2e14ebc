"""`onesearch predict` and `fit` of both DPO phases: lists from searches, then a generator that keeps to them."""

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from handful import CONFIGS, NUM_FIT, copied, facts, fingerprint, launch, logged, overlays, refusal
from onesearch.artifacts import verify
from onesearch.log.prepared import Log
from onesearch.metrics.preference_gate import LEARNT_FROM
from onesearch.tasks.preference import Preference

PHASES = ("dpo_hybrid", "dpo_logged")


@pytest.fixture(scope="module")
def lists(logged_run):
    return {phase: pq.read_table(logged_run / f"{phase}_lists" / "lists.parquet").to_pylist() for phase in PHASES}


@pytest.mark.parametrize("phase", PHASES)
def test_lists_put_the_best_above_other_items(logged_run, lists, phase):
    """What is chosen is the search's click, or what the reward model deems the best; all are distinct items."""
    log = Log.open(logged_run / "log")
    clicked = {context.search_id: log.item_ids[context.clicked[0]] for context in log.contexts("train", "validation")}
    told = facts(logged_run, f"{phase}_lists")
    assert told["num_searches"] == NUM_FIT == len(clicked)
    assert told["num_lists"] == len(lists[phase]) > 0
    for row in lists[phase]:
        assert len({row["chosen"], *row["rejected"]}) == 1 + len(row["rejected"]) > 1
        assert {row["chosen"], *row["rejected"]} <= set(log.item_ids)
        if row["shares"] is None:
            assert row["chosen"] == clicked[row["search_id"]]
        else:
            assert max(row["shares"]) == row["shares"][0] and sum(row["shares"]) == pytest.approx(1)
            assert len(row["shares"]) == 1 + len(row["rejected"])
        assert (row["shares"] is None) == (phase == "dpo_logged") == (row["weights"] is not None)
        assert len(row["rejected"]) == len(row["reference_rejected"])
        assert len(row["weights"] or row["rejected"]) == len(row["rejected"])


@pytest.mark.parametrize("phase", PHASES)
def test_training_starts_at_the_reference(logged_run, lists, phase):
    """Before the first step π = π_ref, so every reward r̂ is 0, all lists are one batch, and by the formula

    L = mean(softplus(log Σ_l n_l·exp(w_l·δ)) − α·log π_ref(i_w)), for δ = 0 mean(ln(1 + X) − α·log π_ref(i_w)), X
    rejected items, the SIDs of no item one more; of soft lists, mean(ln(1 + X + Y) − α·log Σ_i π_ref(i)), the sum
    over items, Y SIDs of no item.
    """
    settings = Preference()
    start = [
        math.log1p(len(row["rejected"]) + (len(row["invalid"]) if row["shares"] else bool(row["invalid"])))
        - settings.alpha * (_log_mass(row) if row["shares"] else row["reference_chosen"])
        for row in lists[phase]
    ]
    assert logged(logged_run, phase, "train/rewards/margins")[0] == pytest.approx(0, abs=1e-5)
    assert logged(logged_run, phase, "train/loss")[0] == pytest.approx(np.mean(start), rel=1e-4)


def _log_mass(row):
    return math.log(sum(math.exp(log) for log in (row["reference_chosen"], *row["reference_rejected"])))


@pytest.mark.parametrize(("phase", "share"), [("dpo_hybrid", 0.6), ("dpo_logged", 0.9)])
def test_training_learns_the_lists(logged_run, phase, share):
    """In most pairs the chosen item gains on the other, in hard lists in nine of ten; the artefact is of this run."""
    assert logged(logged_run, phase, "train/rewards/accuracies")[-1] > share
    assert logged(logged_run, phase, "train/rewards/margins")[-1] > 0
    loss = logged(logged_run, phase, "train/loss")
    assert loss[-1] < loss[0]
    parents = [logged_run / name for name in ("log", "quantizer", f"{phase}_lists")]
    verify(logged_run / phase, "generator", parents)


def test_phase_one_re_sorts_beams_by_a_reward_of_this_codebook(logged_run):
    """Its lists name reward model and generator; those of phase two need no reward model, and start from phase one."""
    lineage = {
        phase: json.loads((logged_run / f"{phase}_lists" / "manifest.json").read_text("utf-8"))["parents"]
        for phase in PHASES
    }
    assert lineage["dpo_hybrid"]["reward"] == fingerprint(logged_run, "reward")
    assert lineage["dpo_hybrid"]["generator"] == fingerprint(logged_run, "sft_personalize")
    assert lineage["dpo_logged"]["generator"] == fingerprint(logged_run, "dpo_hybrid")
    assert "reward" not in lineage["dpo_logged"]


@pytest.mark.parametrize("phase", PHASES)
def test_figures_of_searches_that_give_lists_are_called_seen(logged_run, phase):
    """The handful's lists are of both splits: what is measured on the validation day has been learnt from."""
    metrics = facts(logged_run, phase)["metrics"]
    assert "seen/hr@10" in metrics and not [metric for metric in metrics if metric.startswith("val/")]


def test_a_reward_model_that_has_learnt_from_validation_is_not_judged_by_it(hybrid_run):
    """The handful's reward model is fitted on both splits: its agreement is an upper bound, and is called so."""
    assert facts(hybrid_run, "reward")["validation"].startswith("learnt from")
    told = facts(hybrid_run, "dpo_hybrid_lists")
    assert told["judged_on"] == LEARNT_FROM and "validation" not in told["agreement"]


def test_a_reward_model_in_doubt_teaches_aloud(hybrid_run, tmp_path):
    """Of searches whose impressions are not known: `predict` says what re-sorting says."""
    run = copied(hybrid_run, tmp_path / "run", "quantizer", "sft_personalize", "reward")
    path = run / "reward" / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["facts"] |= {"negatives": "drawn", "num_drawn_searches": 1, "num_searches": 8}
    path.write_text(json.dumps(manifest), "utf-8")
    with pytest.warns(UserWarning, match="dpo_hybrid: The log behind .* shown in 12.5% of its searches"):
        launch(run, "predict", "dpo_hybrid", overlays()["dpo_hybrid"])


def test_searches_of_a_split_without_lists_judge_the_reward_model(hybrid_run, tmp_path, capsys):
    """Lists of the training days alone: the validation day's 8 searches are answered too, and their clicks count."""
    run = copied(hybrid_run, tmp_path / "run", "quantizer", "sft_personalize", "reward")
    launch(run, "predict", "dpo_hybrid", overlays()["dpo_hybrid"], "--data.init_args.splits", "[train]")
    told = facts(run, "dpo_hybrid_lists")
    days = {split: len(Log.open(run / "log").contexts(split)) for split in ("train", "validation")}
    assert days == {"train": NUM_FIT - 8, "validation": 8}
    assert (told["num_searches"], told["num_beams"]) == (NUM_FIT - 8, NUM_FIT)
    assert told["judged_on"] == LEARNT_FROM  # by the handful's reward model, which is fitted on both
    num_searches = {split: found["num_searches"] for split, found in told["agreement"].items()}
    assert num_searches == {"train": days["train"], LEARNT_FROM: days["validation"]}
    assert told["agreement"][LEARNT_FROM]["value"] > 0.9  # the reward model knows each shopper's colour
    assert "clicked above others, validation" in capsys.readouterr().out


def test_what_is_made_of_a_beam(hybrid_run, lists, tmp_path):
    """Twice the sharpness squares the odds of the same beams' shares; risen lists have weights in place of them."""
    run = copied(hybrid_run, tmp_path / "run", "quantizer", "sft_personalize", "reward")

    def written(*options):
        launch(run, "predict", "dpo_hybrid", overlays()["dpo_hybrid"], *options)
        return pq.read_table(run / "dpo_hybrid_lists" / "lists.parquet").to_pylist()

    setting = "--model.init_args.preference."
    sharp = {row["search_id"]: row for row in written(f"{setting}sharpness", "2")}
    assert facts(run, "dpo_hybrid_lists")["num_repeated_sids"] == 0  # else shares of items would have been summed
    for row in lists["dpo_hybrid"]:
        other, squares = sharp[row["search_id"]], np.square(row["shares"])
        assert [other["chosen"], *other["rejected"]] == [row["chosen"], *row["rejected"]]
        assert other["shares"] == pytest.approx(squares / squares.sum(), rel=1e-4)
    risen = written(f"{setting}labels", "risen")
    assert len(risen) > 0
    for row in risen:
        assert row["shares"] is None
        assert 1 <= len(row["weights"]) == len(row["rejected"]) <= Preference().num_rejected


def test_fit_without_lists_says_so(hybrid_run, tmp_path, capsys):
    run = copied(hybrid_run, tmp_path / "run", "quantizer", "sft_personalize", "reward")
    arguments = ("fit", "-c", str(CONFIGS / "dpo_hybrid.yaml"), "--run", str(run), "--trainer.accelerator", "cpu")
    assert refusal(capsys, *arguments).startswith(f"{run}/dpo_hybrid_lists holds no finished artefact")


def test_lists_of_another_reference_are_refused(logged_run, tmp_path, capsys):
    """The lists hold log-probabilities of their reference: another start must write its own."""
    folders = ("quantizer", "sft_cooccur", "sft_personalize", "reward", "dpo_hybrid_lists")
    run = copied(logged_run, tmp_path / "run", *folders)
    launch(run, "fit", "sft_personalize", overlays(0)["sft_personalize"])
    old, new = fingerprint(logged_run, "sft_personalize"), fingerprint(run, "sft_personalize")
    arguments = ("fit", "-c", str(CONFIGS / "dpo_hybrid.yaml"), "--run", str(run), "--trainer.accelerator", "cpu")
    assert f"generator {old}, but generator {new} is given" in refusal(capsys, *arguments)
