"""Answers in the making: what a decoder keeps of the prompts it read, and of the answers that it writes behind them.

Shapes: B prompts, X answers a prompt, T tokens of an answer, L tokens of a prompt.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel

from onesearch.models.decoder_step import DecoderStep, KeysAndValues
from onesearch.models.packing import additive, apart


class Encoded(NamedTuple):
    """What was made of a batch of prompts."""

    hidden: Tensor  # [B, L, H]
    attention_mask: Tensor  # [B, L]
    listed: Tensor | None = None  # [B, L, C], as in the prompt
    copier_keys: Tensor | None = None  # [B, L, H]; None: nothing can be repeated
    memory: DynamicCache | None = None  # keys and values, [B, heads, L, H/heads] a layer, where a decoder alone read


class Writing(ABC):
    """Answers in the making, a row each: at first one a prompt."""

    @abstractmethod
    def step(self, tokens: Tensor) -> Tensor:
        """States [rows, T, H] once the rows go on with `tokens` [rows, T]."""

    @abstractmethod
    def reorder(self, rows: Tensor) -> None:
        """Go on with `rows` [rows], as many as before, each one an answer to the same prompt."""

    @abstractmethod
    def fork(self, rows: Tensor) -> None:
        """Go on with `rows`, more or fewer than before."""


class StepByStep(Writing):
    """A token of each answer at a time, beside what the encoder read (see `decoder_step`)."""

    def __init__(self, decoder: DecoderStep, encoded: Encoded) -> None:
        self.decoder = decoder
        self.prompts = decoder.read(encoded.hidden, encoded.attention_mask)
        self.past: tuple[KeysAndValues, ...] = ()

    def step(self, tokens: Tensor) -> Tensor:
        """Feed the decoder the next tokens, [rows, 1]; see `Writing`."""
        assert tokens.shape[1] == 1
        states, self.past = self.decoder.write(tokens.view(len(self.prompts.mask), -1), self.prompts, self.past)
        return states.view(len(tokens), 1, -1)

    def reorder(self, rows: Tensor) -> None:
        """See `Writing`."""
        self.past = tuple((self._taken(keys, rows), self._taken(values, rows)) for keys, values in self.past)

    def _taken(self, past: Tensor, rows: Tensor) -> Tensor:
        taken: Tensor = past.flatten(0, 1).index_select(0, rows).unflatten(0, (len(past), -1))
        return taken

    def fork(self, rows: Tensor) -> None:
        """See `Writing`; what is known of the prompts is nobody's."""
        self.reorder(rows)


class BesideEncoder(Writing):
    """As a decoder of another kind does it: with keys and values over the prompt for each answer."""

    def __init__(self, model: PreTrainedModel, encoded: Encoded) -> None:
        self.decoder = model.get_decoder()
        self.hidden, self.attention_mask = encoded.hidden, encoded.attention_mask
        self.cache = EncoderDecoderCache(DynamicCache(), DynamicCache())

    def step(self, tokens: Tensor) -> Tensor:
        """Feed the decoder the next tokens; see `Writing`."""
        states: Tensor = self.decoder(
            input_ids=tokens,
            encoder_hidden_states=self.hidden,
            encoder_attention_mask=self.attention_mask,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        return states

    def reorder(self, rows: Tensor) -> None:
        """See `Writing`."""
        # Those over the prompt are equal for all answers to it.
        _reorder(self.cache.self_attention_cache, rows)

    def fork(self, rows: Tensor) -> None:
        """See `Writing`."""
        _reorder(self.cache, rows)
        self.hidden, self.attention_mask = self.hidden[rows], self.attention_mask[rows]


class BehindPrompt(Writing):
    """With the prompts' keys and values as the beginning of the answers'."""

    def __init__(self, model: PreTrainedModel, encoded: Encoded) -> None:
        assert encoded.memory is not None
        self.decoder = model.base_model
        self.states = encoded.hidden
        self.attention_mask = encoded.attention_mask  # [rows, what was read]
        self.position = encoded.attention_mask.sum(1, keepdim=True)  # [rows, 1], of the next token
        self.cache = DynamicCache()  # a copy: what is appended to it is no part of the prompts
        layers: list[Any] = encoded.memory.layers  # of attention, each with keys and values
        for number, layer in enumerate(layers):
            self.cache.update(layer.keys, layer.values, number)

    def step(self, tokens: Tensor) -> Tensor:
        """Feed the decoder the next tokens; see `Writing`."""
        self.attention_mask = torch.cat([self.attention_mask, torch.ones_like(tokens)], 1)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        states: Tensor = self.decoder(
            input_ids=tokens,
            attention_mask=self.attention_mask,
            position_ids=self.position + places,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        self.position = self.position + tokens.shape[1]
        return states

    def packed(self, tokens: Tensor, length: int) -> Tensor:
        """States [rows, X·T, H] of X answers of `length` T a row, none of which sees another; the last step."""
        prompt = self.attention_mask[:, None, None].bool().expand(-1, 1, tokens.shape[1], -1)  # [rows, 1, X·T, L]
        behind = apart(tokens, length, self.states)
        mask = torch.cat([additive(prompt, self.states), behind.expand(len(tokens), -1, -1, -1)], -1)
        places = torch.arange(tokens.shape[1], device=tokens.device) % length
        states: Tensor = self.decoder(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=self.position + places,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        return states

    def reorder(self, rows: Tensor) -> None:
        """See `Writing`."""
        _reorder(self.cache, rows)

    def fork(self, rows: Tensor) -> None:
        """See `Writing`."""
        _reorder(self.cache, rows)
        self.attention_mask, self.position = self.attention_mask[rows], self.position[rows]


def _reorder(cache: DynamicCache | EncoderDecoderCache, rows: Tensor) -> None:
    cache.reorder_cache(cast("torch.LongTensor", rows))  # what the cache's annotations ask for
