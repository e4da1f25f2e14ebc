"""A watch over the likelihood of chosen items: preference losses may lower it together with that of the rejected."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Alarm:
    """When to speak up.

    Args:
        max_fall: how far, in nats, the mean log-probability of the chosen items may lie below the reference's.
        window: over how many batches the mean is taken.
        stop: whether to end the training there, with nothing handed on; else it is said once.
    """

    max_fall: float = 1.0
    window: int = 20
    stop: bool = False


class ChosenFall:
    """Means over one window after the other; the device is waited for once a window.

    Args:
        alarm: its settings.
    """

    def __init__(self, alarm: Alarm) -> None:
        self.alarm = alarm
        self.falls: list[Tensor] = []

    def add(self, fall: Tensor) -> str | None:
        """Take how far below the reference's a batch's chosen log-probabilities lie; a sentence if a window ends so.

        Args:
            fall: mean of log π_ref - log π_θ, a scalar; of all processes together, or they would not stop together.
        """
        self.falls.append(fall)
        if len(self.falls) < self.alarm.window:
            return None
        mean = float(torch.stack(self.falls).mean())
        self.falls.clear()
        if mean <= self.alarm.max_fall:
            return None
        return (
            f"the chosen items have lost {mean:.2f} nats of log-probability against the reference over the last "
            f"{self.alarm.window} batches (alarm.max_fall is {self.alarm.max_fall:g}): raise 'preference.alpha' or "
            "'preference.beta', or lower the learning rate."
        )
