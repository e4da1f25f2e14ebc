"""List-wise DPO on the tiny shop: its gate, its alarm, what it logs, a second round, a decoder alone."""

import json
import logging
import math
import warnings

import lightning
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from onesearch.data.preferences import PreferenceData
from onesearch.data.sft import SftData
from onesearch.losses import list_kl
from onesearch.metrics.chosen_fall import Alarm
from onesearch.metrics.preference_gate import Gate
from onesearch.models.generator import FreshDecoder
from onesearch.serve.engine import SearchEngine, trained
from onesearch.stages.dpo import LoggedDpo
from onesearch.stages.sft import SftStage
from onesearch.stages.stage import Optimization
from onesearch.tasks.personalize import SearchToItem
from onesearch.tasks.preference import Levels, Preference
from onesearch.types import UserError

ITEMS_ALONE = Preference(num_invalid=0)


def stage_of(run, name="dpo_logged", init_from="sft_personalize", lr=1e-3, preference=ITEMS_ALONE, **options):
    return LoggedDpo(run, name, init_from, preference, num_beams=4, optimization=Optimization(lr=lr), **options)


def data_of(stage, batch_size=64, **options):
    return PreferenceData(
        stage.run, stage.name, stage.init_from, batch_size, num_searches=40, num_validation=4, num_judged=4, **options
    )


def write_lists(stage):
    """`onesearch predict`."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(accelerator="cpu", default_root_dir=stage.run, **quiet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.predict(stage, data_of(stage), return_predictions=False)


@pytest.fixture
def run(tiny_run_copy):
    """The tiny run with logged lists of `sft_personalize`."""
    write_lists(stage_of(tiny_run_copy))
    return tiny_run_copy


class Noted(lightning.Callback):
    """What was logged at each step, and the batch that it is of."""

    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, trainer, stage, outputs, batch, index):
        self.steps.append(({name: float(value) for name, value in trainer.callback_metrics.items()}, batch))


def test_lists_that_fall_short_are_kept_and_not_learnt_from(tiny_run_copy, fit_stage):
    """`predict` writes everything, then stops; `fit` stops too, until the gate asks for less."""
    strict = Gate(min_chosen_log_prob=0.0)
    with pytest.raises(UserError, match=r"dpo_logged: the chosen items have a mean log-probability of -\d+"):
        write_lists(stage_of(tiny_run_copy, gate=strict))
    folder = tiny_run_copy / "dpo_logged_lists"
    figures = json.loads((folder / "gate.json").read_text("utf-8"))
    assert figures["num_lists"] == len(pq.read_table(folder / "lists.parquet")) > 10
    assert figures == json.loads((folder / "manifest.json").read_text("utf-8"))["facts"]
    stage = stage_of(tiny_run_copy, gate=strict)
    with pytest.raises(UserError, match="below min_chosen_log_prob 0"):
        fit_stage(stage, data_of(stage))
    assert not (tiny_run_copy / "dpo_logged").exists()
    stage = stage_of(tiny_run_copy)
    fit_stage(stage, data_of(stage))
    assert (tiny_run_copy / "dpo_logged" / "manifest.json").is_file()


def test_no_two_candidates_of_a_list_share_a_sid(tiny_run_copy, tiny_khqe, monkeypatch):
    """Nor is one rejected whose SID another positive has: one of a bucket here, all others being proposed."""
    sids = list(map(tuple, tiny_khqe.item_codes.tolist()))
    twin = next(row for row, sid in enumerate(sids) if sids.count(sid) > 1)
    everything, of_log, positives = set(range(len(sids))), Levels.positives, {}

    def all_others(levels, context, *_):
        positives[context.search_id] = levels.positives(context)
        return sorted(everything - {*positives[context.search_id]})

    monkeypatch.setattr(
        Levels, "positives", lambda levels, context: list(dict.fromkeys([*of_log(levels, context), twin]))
    )
    monkeypatch.setattr(Levels, "negatives", all_others)
    write_lists(stage_of(tiny_run_copy))
    sid_of = dict(zip(tiny_khqe.item_ids, sids, strict=True))
    rows = rows_of(tiny_run_copy)
    assert len(rows) > 10
    for found in rows:
        rejected = [sid_of[item] for item in found["rejected"]]
        wrong = {*sids} - {sids[item] for item in positives[found["search_id"]]}
        assert len(rejected) == len(wrong) and {*rejected} == wrong


def test_logged_figures(run, fit_stage):
    """Each of them anew from the batch and the weights of that step: the rate is 0, the reference moved by hand."""
    stage, noted = stage_of(run, lr=0.0, preference=Preference(beta=0.5, alpha=0.3)), Noted()
    data = data_of(stage)
    data.setup("fit")
    data.lists = [row._replace(reference=[row.reference[0] - 1.5, *row.reference[1:]]) for row in data.lists]
    data.setup = lambda stage: None
    fit_stage(stage, data, callbacks=[noted], limit_val_batches=0)
    (got, batch), *_ = noted.steps
    with torch.no_grad():
        policy = stage.generator.sid_log_probs(stage.generator.encode(batch.prompt), batch.codes).sum(-1)
    losses, pairs, chosen_rewards = [], [], []
    for logs, reference, weights, mask in zip(policy, batch.reference, batch.weights, batch.mask, strict=True):
        reward = [0.5 * float(log - ref) for log, ref in zip(logs, reference, strict=True)]
        inside = [(w, r) for w, r, is_in in zip(weights.tolist(), reward[1:], mask.tolist(), strict=True) if is_in]
        losses.append(math.log1p(sum(math.exp(w * (r - reward[0])) for w, r in inside)))
        pairs += [reward[0] - r for _, r in inside]
        chosen_rewards.append(reward[0])
    weightless = [not (weights * mask).any() for weights, mask in zip(batch.weights, batch.mask, strict=True)]
    exists = torch.cat([torch.ones(len(policy), 1, dtype=torch.bool), batch.mask], 1)
    want = {
        "preference_loss": np.mean(losses),
        "nll_loss": -policy[:, 0].mean(),
        "loss": np.mean(losses) - 0.3 * policy[:, 0].mean(),
        "rewards/chosen": np.mean(chosen_rewards),
        "rewards/margins": np.mean(pairs),
        "rewards/accuracies": np.mean([pair > 0 for pair in pairs]),
        "logps/chosen": policy[:, 0].mean(),
        "logps/rejected": policy[:, 1:][batch.mask].mean(),
        "zero_weight": np.mean(weightless),
        "kl": list_kl(policy, batch.reference, exists).mean(),
    }
    for name, value in want.items():
        assert got[f"train/{name}"] == pytest.approx(float(value), rel=1e-4, abs=1e-5), name
    assert got["train/rewards/margins"] == pytest.approx(0.75, abs=1e-4)  # 0.5 · 1.5, the reference's step
    assert got["train/rewards/rejected"] == pytest.approx(0, abs=1e-4)


def rows_of(run):
    return pq.read_table(run / "dpo_logged_lists" / "lists.parquet").to_pylist()


def test_a_list_may_reject_what_no_item_has(run, tiny_khqe, tiny_engine, tiny_log):
    """At most three SIDs outside the catalogue, with the probability that the reference gives to each.

    The items are those of lists that hold items alone, which `run` has: there, nothing is beside them.
    """
    without = rows_of(run)
    assert all(row["invalid"] == row["reference_invalid"] == [] for row in without)
    write_lists(stage_of(run, preference=Preference(num_invalid=3)))
    rows, taken = rows_of(run), {tuple(codes) for codes in tiny_khqe.item_codes.tolist()}
    search_of = {context.search_id: context for context in tiny_log.contexts("train")}
    for row, alone in zip(rows, without, strict=True):
        assert not taken & {tuple(sid) for sid in row["invalid"]}
        assert len({tuple(sid) for sid in row["invalid"]}) == len(row["reference_invalid"]) <= 3
        assert row["rejected"] == alone["rejected"]
        assert row["reference_rejected"] == pytest.approx(alone["reference_rejected"], abs=1e-4)
    with torch.no_grad():
        for row in [row for row in rows if row["invalid"]][:5]:
            encoded = tiny_engine.generator.eval().encode(tiny_engine.batch([search_of[row["search_id"]]]))
            logs = tiny_engine.generator.sid_log_probs(encoded, torch.tensor([row["invalid"]])).sum(-1)[0]
            assert row["reference_invalid"] == pytest.approx(logs.tolist(), abs=1e-4)
    figures = json.loads((run / "dpo_logged_lists" / "gate.json").read_text("utf-8"))
    assert figures["invalid_a_list"] == pytest.approx(np.mean([len(row["invalid"]) for row in rows]))
    assert figures["invalid_a_list"] > 1


@pytest.mark.parametrize(
    ("is_soft", "beta", "strength"), [(True, 0.5, 0.5), (False, 0.5, 0.5), (True, None, 1.0), (False, None, 0.1)]
)
def test_what_no_item_has_is_rejected_and_not_kept(run, fit_stage, is_soft, beta, strength):
    """The losses of a step, list by list in float64, the reference moved by hand; then steps take from these SIDs.

    The anchor of a soft list is the mass of its items alone; in figures of rejected items none of these SIDs counts.
    """
    settings = Preference(beta, alpha=0.3, num_invalid=3)
    write_lists(stage_of(run, preference=settings))
    stage, noted = stage_of(run, lr=3e-3, preference=settings), Noted()
    data = data_of(stage)
    data.setup("fit")
    moved = [
        row._replace(reference=[log - 0.4 * place for place, log in enumerate(row.reference)]) for row in data.lists
    ]
    if is_soft:
        moved = [row._replace(shares=_rising(len(row.items))) for row in moved]
    else:  # the items of one list weigh nothing
        weightless = next(place for place, row in enumerate(moved) if row.invalid)
        row = moved[weightless]
        moved[weightless] = row._replace(weights=[0.0] * (len(row.items) - 1) + row.weights[len(row.items) - 1 :])
    data.lists, data.setup = moved, lambda stage: None
    fit_stage(stage, data, epochs=6, callbacks=[noted], limit_val_batches=0)
    (got, batch), *_, (last, _) = noted.steps
    policy = batch.reference.double() + 0.4 * torch.arange(batch.reference.shape[1])
    nll, preference, items = [], [], []
    for logs, mask, invalid, weights in zip(policy, batch.mask, batch.invalid, batch.weights, strict=True):
        of_items = [logs[0].item(), *logs[1:][mask & ~invalid].tolist()]
        rewards = [strength * 0.4 * place for place in range(1 + int(mask.sum()))]
        num_invalid = int(invalid.sum())
        items += of_items[1:]
        if is_soft:
            shares, total = _rising(len(of_items)), sum(map(math.exp, rewards))
            preference.append(-sum(p * math.log(math.exp(r) / total) for p, r in zip(shares, rewards, strict=False)))
            nll.append(-math.log(sum(map(math.exp, of_items))))
        else:
            terms = [math.exp(w * r) for w, r in zip(weights[mask & ~invalid].tolist(), rewards[1:], strict=False)]
            terms += [math.exp(3.0 * reward) / num_invalid for reward in rewards[len(of_items) :]]
            preference.append(math.log1p(sum(terms)))
            nll.append(-of_items[0])
    assert batch.invalid.any()
    assert got["train/preference_loss"] == pytest.approx(np.mean(preference), rel=1e-4)
    assert got["train/nll_loss"] == pytest.approx(np.mean(nll), rel=1e-4)
    assert got["train/logps/rejected"] == pytest.approx(np.mean(items), rel=1e-4)
    assert got["train/logps/invalid"] == pytest.approx(policy[:, 1:][batch.invalid].mean().item(), rel=1e-4)
    want = strength * 0.4 * torch.arange(1, batch.reference.shape[1]).expand_as(batch.invalid)[batch.invalid]
    assert got["train/rewards/invalid"] == pytest.approx(want.mean().item(), rel=1e-4)
    assert last["train/rewards/invalid"] - got["train/rewards/invalid"] < -0.02 * strength
    if is_soft:
        assert "train/zero_weight" not in got
    else:
        weightless = [
            not weights[mask & ~invalid].any()
            for weights, mask, invalid in zip(batch.weights, batch.mask, batch.invalid, strict=True)
        ]
        assert any(weightless)
        assert got["train/zero_weight"] == pytest.approx(np.mean(weightless))


def _rising(count):
    """Shares 1, 2, 3, … that sum to 1."""
    return [2 * (place + 1) / (count * (count + 1)) for place in range(count)]


def test_the_alarm_speaks_once_or_stops(run, fit_stage):
    """Not to have risen by a nat is enough here: two epochs, one warning; told to stop, nothing is left."""
    alarm = {"max_fall": -1.0, "window": 1}
    stage = stage_of(run, lr=0.0, alarm=Alarm(**alarm))
    with pytest.warns(UserWarning, match="dpo_logged: the chosen items have lost -?0.00 nats") as warned:
        run_without_filters(stage)
    assert len([one for one in warned if "nats" in str(one.message)]) == 1
    stage = stage_of(run, name="dpo_logged_2", lr=0.0, alarm=Alarm(**alarm, stop=True))
    (run / "dpo_logged_lists").rename(run / "dpo_logged_2_lists")
    with pytest.raises(UserError, match=r"dpo_logged_2: .* over the last 1 batches .* Or set 'alarm.stop' to false\.$"):
        fit_stage(stage, data_of(stage))
    assert not (run / "dpo_logged_2").exists()


def run_without_filters(stage):
    """Two epochs whose warnings are heard."""
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "limit_val_batches")
    quiet = dict.fromkeys(off, False) | {"num_sanity_val_steps": 0, "default_root_dir": stage.run}
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", **quiet)
    trainer.fit(stage, data_of(stage))


def test_a_second_round_starts_from_the_first_and_answers(run, fit_stage):
    """A folder of its own beside it; lists of its own, whose reference is the first round's generator."""
    for name, start in (("dpo_logged", "sft_personalize"), ("dpo_logged_2", "dpo_logged")):
        stage = stage_of(run, name, start)
        write_lists(stage)
        stage = stage_of(run, name, start)
        fit_stage(stage, data_of(stage), limit_val_batches=0)
    assert trained(run)[-2:] == ["dpo_logged", "dpo_logged_2"]
    one, two = (SearchEngine.open(run, name).generator.state_dict() for name in ("dpo_logged", None))
    assert any(not torch.equal(one[name], weight) for name, weight in two.items())
    with pytest.raises(UserError, match="No stage 'dpo_logged_lists' answers searches"):
        SearchEngine.open(run, "dpo_logged_lists")


def test_a_decoder_alone_learns_from_lists(tiny_run_copy, fit_stage):
    """Its lists, read back, start at the reference: margins of 0; then chosen items gain on the rejected ones."""
    backbone = FreshDecoder(hidden=32, layers=2, heads=2, max_length=512)
    sft = SftStage(tiny_run_copy, "sft_personalize", "search", backbone=backbone, num_beams=4)
    fit_stage(sft, SftData(tiny_run_copy, [SearchToItem()], batch_size=32), limit_train_batches=2, limit_val_batches=0)
    write_lists(stage_of(tiny_run_copy))
    stage, noted = stage_of(tiny_run_copy, lr=3e-3), Noted()
    fit_stage(stage, data_of(stage), epochs=5, callbacks=[noted], limit_val_batches=0)
    figures = [step for step, _ in noted.steps]
    assert figures[0]["train/rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert figures[0]["train/kl"] == pytest.approx(0, abs=1e-6)
    assert figures[-1]["train/rewards/margins"] > 0
    assert figures[-1]["train/kl"] > 0
    assert figures[-1]["train/preference_loss"] < figures[0]["train/preference_loss"]
