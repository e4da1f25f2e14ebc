"""Averaged weights: against a sum by hand, in validation, in checkpoints, and over a break."""

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from onesearch.stages.averaging import Averaging
from onesearch.stages.stage import Optimization
from onesearch.types import UserError

pytestmark = pytest.mark.filterwarnings("ignore")  # of Lightning's: no workers, another folder


class Falling(lightning.LightningModule):
    """One weight that starts at 10 and falls by the value of each example: SGD with rate 1 on loss w·x."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([10.0]))
        self.frozen = nn.Parameter(torch.tensor([7.0]), requires_grad=False)
        self.trained, self.validated = [], []

    def training_step(self, batch, _):
        self.trained.append(self.weight.item())
        return (self.weight * batch).sum()

    def validation_step(self, *_):
        self.validated.append(self.weight.item())

    def configure_optimizers(self):
        return torch.optim.SGD([self.weight], lr=1.0)


def fit(tmp_path, callback, epochs=1, module=None, ckpt_path=None, **options):
    module = module or Falling()
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", default_root_dir=tmp_path, callbacks=[callback], **quiet, **options
    )
    trainer.fit(module, DataLoader(torch.tensor([1.0, 2.0, 4.0])), DataLoader(torch.zeros(1)), ckpt_path=ckpt_path)
    return trainer, module


def test_the_average_is_the_one_by_hand(tmp_path):
    """Weights 10, 9, 7, 3; d_t = min(.2, (1 + t)/(10 + t)) = 2/11, then .2 and .2."""
    callback = Averaging(decay=0.2)
    _, module = fit(tmp_path, callback)
    first = 10 * 2 / 11 + 9 * 9 / 11
    second = 0.2 * first + 0.8 * 7
    third = 0.2 * second + 0.8 * 3
    assert module.trained == [10, 9, 7]
    assert callback.average.keys() == {"weight"}
    assert callback.average["weight"].item() == pytest.approx(third, rel=1e-6)
    assert module.weight.item() == callback.average["weight"].item()  # what is handed on
    assert module.frozen.item() == 7


def test_the_average_is_validated_and_training_goes_on_with_its_own_weights(tmp_path):
    """Before training, then after each of two epochs; the second epoch starts where the first one stopped."""
    _, module = fit(tmp_path, Averaging(decay=0.2), epochs=2)
    assert module.trained == [10, 9, 7, 3, 2, 0]
    assert module.validated[0] == 10
    assert module.validated[1] == pytest.approx(0.2 * (0.2 * (10 * 2 / 11 + 81 / 11) + 5.6) + 2.4)
    assert len(module.validated) == 3
    assert module.validated[2] == module.weight.item()


def test_batches_that_only_add_to_a_step_do_not_count(tmp_path):
    """Three batches, two a step: weights 10, then 10 − 1.5, then 8.5 − 2 (the last window holds one batch)."""
    callback = Averaging(decay=0.2)
    fit(tmp_path, callback, accumulate_grad_batches=2)
    first = 10 * 2 / 11 + 8.5 * 9 / 11
    assert callback.num_steps == 2
    assert callback.average["weight"].item() == pytest.approx(0.2 * first + 0.8 * 6.5)


def test_a_checkpoint_holds_both_and_a_break_changes_no_bit(tmp_path):
    """One epoch, a break, another: as two in one go. `validate` on the checkpoint judges the average."""
    whole, half, again = (Averaging(decay=0.7) for _ in range(3))
    _, want = fit(tmp_path / "whole", whole, epochs=2)
    trainer, first = fit(tmp_path / "half", half, epochs=1)
    path = trainer.checkpoint_callback.best_model_path
    _, resumed = fit(tmp_path / "again", again, epochs=2, ckpt_path=path)
    assert resumed.trained == want.trained[3:]
    assert resumed.weight.item() == want.weight.item()
    assert torch.equal(again.average["weight"], whole.average["weight"])
    judged = Falling()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    judge = lightning.Trainer(accelerator="cpu", callbacks=[Averaging(0.7)], **quiet)
    judge.validate(judged, DataLoader(torch.zeros(1)), ckpt_path=path, verbose=False)
    assert judged.validated == [first.weight.item()]
    assert judged.weight.item() == 3  # the checkpoint's own weight


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(UserError, match=rf"optimization.averaging is {decay}: give a decay such as .999, or 0"):
        Optimization(averaging=decay)
