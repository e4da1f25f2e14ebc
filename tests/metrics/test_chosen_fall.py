"""Windows of batches by hand."""

import torch

from onesearch.metrics.chosen_fall import Alarm, ChosenFall


def said(falls, **alarm):
    """What is said after each batch, whose chosen items have fallen so far."""
    watch = ChosenFall(Alarm(**alarm))
    return [watch.add(torch.tensor(float(fall))) for fall in falls]


def test_the_mean_of_a_window_counts():
    """2, 0 | 1, 2 | 0, 5 | 9: means of 1, 1.5, 2.5 and a window that has not ended; beyond 1.2 are two of them."""
    found = said([2, 0, 1, 2, 0, 5, 9], max_fall=1.2, window=2)
    assert [sentence is not None for sentence in found] == [False, False, False, True, False, True, False]
    assert found[3].startswith("the chosen items have lost 1.50 nats")
    assert "last 2 batches (alarm.max_fall is 1.2): raise 'preference.alpha'" in found[3]


def test_what_rises_is_no_alarm():
    assert said([-9, -1, 0, 0], max_fall=0.0, window=1) == [None] * 4
