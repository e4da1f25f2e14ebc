"""A step without a number is left out everywhere; three in a row end the training in a sentence."""

import json

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler

from onesearch.resilience.nonfinite import FiniteSteps
from onesearch.types import UserError

pytestmark = pytest.mark.filterwarnings("ignore")  # of Lightning's: no workers, another folder
NAN = float("nan")


class Line(lightning.LightningModule):
    """Loss w·x for each example x, by AdamW with decay."""

    def __init__(self, folder, into_gradient=False):
        super().__init__()
        self.folder, self.into_gradient = folder, into_gradient
        self.weight = nn.Parameter(torch.tensor([10.0]))
        self.weights = []

    def training_step(self, batch, _):
        loss = (self.weight * batch).sum()
        if not self.into_gradient or loss.isfinite():
            return loss
        return (self.weight - self.weight).sum().sqrt()  # √0 has a value, but no slope

    def on_train_batch_end(self, *_):
        self.weights.append(self.weight.item())

    def on_train_end(self):
        (self.folder / f"weights-{self.global_rank}.json").write_text(json.dumps(self.weights), "utf-8")

    def configure_optimizers(self):
        return torch.optim.AdamW([self.weight], lr=0.1, weight_decay=0.1)


def fit(folder, examples, into_gradient=False, loggers=False, sampler=None, **options):
    callback, module = FiniteSteps(), Line(folder, into_gradient)
    quiet = dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    options = {"max_epochs": 1, "accelerator": "cpu", "gradient_clip_val": 1.0, "logger": loggers, **quiet, **options}
    trainer = lightning.Trainer(callbacks=[callback], default_root_dir=folder, **options)
    trainer.fit(module, DataLoader(torch.tensor(examples), sampler=sampler))
    return callback, module


@pytest.mark.parametrize("into_gradient", [False, True])
def test_such_a_step_leaves_no_trace(tmp_path, into_gradient):
    """As if its batch had not been there: neither weight, nor moments, nor decay moved."""
    callback, module = fit(tmp_path, [1.0, 2.0, NAN, 4.0, NAN, NAN, 3.0], into_gradient)
    _, without = fit(tmp_path, [1.0, 2.0, 4.0, 3.0])
    w = module.weights
    assert [w[0], w[1], w[3], w[6]] == without.weights
    assert (w[2], w[4], w[5]) == (w[1], w[3], w[3])
    assert callback.state_dict() == {"num_skipped": 3, "num_in_a_row": 0}


def test_three_in_a_row_stop(tmp_path):
    """With the weights before them."""
    with pytest.raises(UserError, match=r"3 steps in a row, the last one step 3, .* no number, .*optimization.lr"):
        fit(tmp_path, [1.0, NAN, float("inf"), NAN, 1.0])


def test_it_is_counted_over_a_break(tmp_path):
    callback = FiniteSteps()
    callback.load_state_dict({"num_skipped": 7, "num_in_a_row": 2})
    assert callback.state_dict() == {"num_skipped": 7, "num_in_a_row": 2}


def test_one_of_gathered_losses_spoils_the_step(tmp_path):
    """Two batches a step: the second step is left out for its first batch."""
    callback, module = fit(tmp_path, [1.0, 2.0, NAN, 1.0, 1.0, 2.0], accumulate_grad_batches=2)
    assert callback.num_skipped == 1
    assert module.weights[1] == module.weights[3] != module.weights[5]


def test_processes_leave_it_out_together(tmp_path):
    """Rank 1 meets NaN in its second of three steps: both have moved twice, and agree."""
    examples = [1.0, 1.0, 2.0, NAN, 3.0, 3.0]
    sampler = [DistributedSampler(examples, 2, rank, shuffle=False) for rank in range(2)]
    assert list(sampler[1]) == [1, 3, 5]
    fit(tmp_path, examples, devices=2, strategy="ddp_fork")
    first, second = (json.loads((tmp_path / f"weights-{rank}.json").read_text("utf-8")) for rank in range(2))
    assert first == second
    assert first[0] == first[1] != first[2]
