"""Several answers to a prompt in one sequence: each sees itself alone, and begins at position 0.

    tokens    <s> a b c d  <s> e f g h        mask    causal inside an answer, none between answers
    position    0 1 2 3 4    0 1 2 3 4

The decoder then turns a prompt into keys and values once, not once an answer.

Shapes: X answers a prompt, T tokens of an answer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def apart(tokens: Tensor, length: int, states: Tensor) -> Tensor:
    """What keeps packed answers apart: 0 where a token sees another, else the least number; [1, 1, X·T, X·T]."""
    places = torch.arange(tokens.shape[1], device=tokens.device)
    sees = (places[:, None] // length == places // length) & (places[:, None] >= places)
    return additive(sees, states)[None, None]


def additive(sees: Tensor, states: Tensor) -> Tensor:
    """A mask to be added to scores: all kinds of attention read it, a boolean one not."""
    return torch.zeros(sees.shape, dtype=states.dtype, device=states.device).masked_fill(
        ~sees, torch.finfo(states.dtype).min
    )


@contextmanager
def beginning_anew(decoder: nn.Module, length: int) -> Iterator[None]:
    """Learnt positions (BART) are those of the first answer for all; T5's are distances, which need no help."""
    table = getattr(decoder, "embed_positions", None)
    if table is None:
        yield
        return

    def repeat(_: nn.Module, __: Any, found: Tensor) -> Tensor:
        return found[:, :length].repeat(1, found.shape[1] // length, 1)

    hook = table.register_forward_hook(repeat)
    try:
        yield
    finally:
        hook.remove()
