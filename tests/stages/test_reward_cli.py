"""`onesearch fit` of the reward model: who clicks which colour is learnt from histories alone."""

import json

import torch

from handful import CONFIGS, NUM_FIT, SHOPPERS, copied, facts, fingerprint, launch, logged, overlays
from onesearch.artifacts import verify
from onesearch.data.reward import RewardData
from onesearch.main import main
from onesearch.models.reward import load_reward


def test_learns_the_shop_by_heart(reward_run):
    """Four items shown a search, one clicked, half of the clicks bought: a GAUC of 1 puts every click first.

    Popularity cannot: each colour is clicked by a fourth of the shoppers.
    """
    learned = facts(reward_run, "reward")
    assert learned["num_searches"] == NUM_FIT
    assert learned["num_exposures"] == 4 * NUM_FIT
    assert learned["num_clicks"] == NUM_FIT
    assert learned["num_orders"] == 4 * 8  # days 0, 2, 4 and 6
    assert learned["towers"] == ["ctr", "cvr", "ctcvr"]
    assert learned["metrics"]["seen/ctr_gauc"] > 0.99
    assert learned["metrics"]["seen/score_gauc"] > 0.99


def test_the_loss_falls(reward_run):
    """56 searches in batches of 16 are 4 steps an epoch."""
    loss = logged(reward_run, "reward", "train/loss")
    assert len(loss) == facts(reward_run, "reward")["num_steps"]
    assert sum(loss[-4:]) < 0.2 * sum(loss[:4])
    verify(reward_run / "reward", "reward", [reward_run / "log", reward_run / "quantizer"])


def test_validation_on_what_is_learnt_says_so(reward_run):
    """The handful learns from its validation day too: no figure of it is called `val`, and the manifest tells why."""
    learned = facts(reward_run, "reward")
    assert learned["validation"].startswith("learnt from")
    assert not [name for name in learned["metrics"] if name.startswith("val/")]


def test_the_test_day_is_foretold(reward_run, tmp_path):
    """Eight shoppers, four items each, one clicked, none bought on day 7: only CTR can be judged, and it is right.

    The queries were asked before, so nothing needs to be encoded.
    """
    run = copied(reward_run, tmp_path / "run", "quantizer", "reward")
    launch(run, "test", "reward", overlays()["reward"])
    told = json.loads((run / "reward_test.json").read_text("utf-8"))
    assert told["reward"] == fingerprint(reward_run, "reward")
    assert list(told["towers"]) == ["ctr"]
    ctr = told["towers"]["ctr"]
    assert (ctr["num"], ctr["positives"]) == (4 * len(SHOPPERS), len(SHOPPERS))
    assert ctr["gauc"] > 0.9
    assert (run / "reward_test.png").is_file()


def test_a_baseline_stands_beside_the_reward_model(quantizer_run, tmp_path):
    """Its overlay names a folder of its own, and leaves the rest of the stage's configuration as it is."""
    run = copied(quantizer_run, tmp_path / "run", "quantizer")
    configs = [CONFIGS / "reward.yaml", CONFIGS / "reward_baselines" / "popularity.yaml"]
    quiet = ("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false")
    main(["fit", *(word for path in configs for word in ("-c", str(path))), "--run", str(run), *quiet])
    assert facts(run, "reward_popularity")["architecture"] == "popularity"
    assert facts(run, "reward_popularity")["validation"] == "held out"
    assert not (run / "reward").exists()


def test_what_was_learnt_from_a_sample_is_calibrated_on_all(reward_run, tmp_path):
    """A third of the negatives kept: the mean predicted CTR of all exposures is still the ¼ that was clicked.

    Uncorrected it would be 1/(1 + 3/3) = ½.
    """
    run = copied(reward_run, tmp_path / "run", "quantizer")
    config = overlays(0.5)["reward"]
    config["data"]["init_args"]["keep_negatives"] = 1 / 3
    launch(run, "fit", "reward", config)
    model, data = load_reward(run / "reward"), RewardData(run, fit_splits=("train", "validation"))
    assert abs(float(model.kept) - 1 / 3) < 1e-6
    data.setup("fit")
    with torch.no_grad():
        predicted = torch.cat([model(batch.inputs).ctr.sigmoid().flatten() for batch in data.train_dataloader()])
        model.kept.fill_(1.0)
        sampled = torch.cat([model(batch.inputs).ctr.sigmoid().flatten() for batch in data.train_dataloader()])
    assert abs(float(predicted.mean()) - 0.25) < 0.05
    assert float(predicted.mean()) < float(sampled.mean())
