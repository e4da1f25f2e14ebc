"""The mean loss of each task over several batches."""

import pytest
import torch

from onesearch.metrics.task_losses import TaskLosses

NAMES = ("QueryToSid", "ItemToSid", "SidToQuery")


def test_means_are_over_examples_not_over_batches():
    """QueryToSid: (1 + 2 + 6)/3; SidToQuery: 5; ItemToSid never came."""
    losses = TaskLosses()
    losses.add(torch.tensor([1.0, 5.0, 2.0], requires_grad=True), torch.tensor([0, 2, 0]), NAMES)
    losses.add(torch.tensor([6.0]), torch.tensor([0]), NAMES)
    assert losses.means() == {"QueryToSid": pytest.approx(3.0), "SidToQuery": pytest.approx(5.0)}
    assert not losses.totals.requires_grad


def test_half_precision_is_summed_in_float32():
    """2,048 + 1 is 2,048 in bfloat16 and float16 alike."""
    losses = TaskLosses()
    for value in (2048.0, 1.0):
        losses.add(torch.tensor([value], dtype=torch.float16), torch.tensor([1]), NAMES)
    assert losses.means() == {"ItemToSid": 1024.5}


def test_cleared_losses_are_forgotten():
    losses = TaskLosses()
    assert losses.means() == {}
    losses.add(torch.tensor([1.0]), torch.tensor([0]), NAMES)
    losses.clear()
    assert losses.means() == {}
    losses.add(torch.tensor([3.0]), torch.tensor([0]), NAMES)
    assert losses.means() == {"QueryToSid": 3.0}


def test_processes_are_added_up():
    """Another process holds one SidToQuery of loss 9 beside ours of 5: 7 is the mean of both."""
    losses = TaskLosses()
    losses.add(torch.tensor([5.0, 1.0]), torch.tensor([2, 0]), NAMES)
    theirs = torch.tensor([[0.0, 0.0, 9.0], [0.0, 0.0, 1.0]])
    assert losses.means(lambda totals: totals + theirs) == {"QueryToSid": 1.0, "SidToQuery": 7.0}
    assert TaskLosses().means(lambda totals: pytest.fail("nothing to add up")) == {}
