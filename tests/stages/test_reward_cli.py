"""`onesearch fit` of the reward model: who clicks which colour is learnt from histories alone."""

from handful import NUM_FIT, facts, logged
from onesearch.artifacts import verify


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
    assert learned["metrics"]["val/ctr_gauc"] > 0.99
    assert learned["metrics"]["val/score_gauc"] > 0.99


def test_the_loss_falls(reward_run):
    """56 searches in batches of 16 are 4 steps an epoch."""
    loss = logged(reward_run, "reward", "train/loss")
    assert len(loss) == facts(reward_run, "reward")["num_steps"]
    assert sum(loss[-4:]) < 0.2 * sum(loss[:4])
    verify(reward_run / "reward", "reward", [reward_run / "log", reward_run / "quantizer"])
