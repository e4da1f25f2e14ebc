"""Prompts of one batch as tensors: padding, SIDs of the listed items, long sequences."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesearch.behavior.window import PADDING, window
from onesearch.tasks.prompt import Prompt
from onesearch.types import PromptBatch

"""The residual codes of an item stand for it in a long sequence."""


def collate_prompts(prompts: Sequence[Prompt], item_codes: NDArray[np.integer], pad: int) -> PromptBatch:
    """Pad prompts on the right; long sequences become SIDs [B, 3, L', C]."""
    width = max(len(prompt.tokens) for prompt in prompts)
    input_ids = torch.full((len(prompts), width), pad)
    attention_mask = torch.zeros_like(input_ids)
    for row, prompt in enumerate(prompts):
        input_ids[row, : len(prompt.tokens)] = torch.tensor(prompt.tokens)
        attention_mask[row, : len(prompt.tokens)] = 1
    return PromptBatch(input_ids, attention_mask, _histories(prompts, item_codes), *_listed(prompts, item_codes, width))


def _listed(
    prompts: Sequence[Prompt], item_codes: NDArray[np.integer], width: int
) -> tuple[Tensor | None, Tensor | None]:
    """SIDs [B, L, C] and places [B, L] of the listed items."""
    found = [(number, *one) for number, prompt in enumerate(prompts) for one in prompt.listed]
    if not found:
        return None, None
    numbers, positions, rows, places = np.array(found).T
    sids = np.full((len(prompts), width, item_codes.shape[1]), PADDING)
    sids[numbers, positions] = item_codes[rows]
    where = np.full((len(prompts), width), PADDING)
    where[numbers, positions] = places
    return torch.from_numpy(sids), torch.from_numpy(where)


def _histories(prompts: Sequence[Prompt], item_codes: NDArray[np.integer]) -> Tensor | None:
    sequences = [sequence for prompt in prompts for sequence in (prompt.history or ((), (), ()))]
    width = max(map(len, sequences))
    if width == 0:
        return None
    rows = window(sequences, width).values
    codes = np.where((rows == PADDING)[..., None], PADDING, item_codes[rows])
    return torch.from_numpy(codes).reshape(len(prompts), 3, width, -1)
