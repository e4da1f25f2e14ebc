"""One token of many answers to a prompt at once, over the weights of BART's and T5's decoders.

    x ← Emb(y_t) + pos_t                        a token an answer
    x ← x + SelfAttn(x; y_0..y_t)               over the answer's own tokens
    x ← x + CrossAttn(x; K, V)                  over the prompt: K and V once a prompt, however many its answers
    x ← x + FF(x)                               normalised before each sublayer (T5, mBART) or after each sum (BART)

Hugging Face's decoder wants the prompt's keys and values for each answer: a beam of 512 copies them 512 times. Here the
answers to a prompt are the queries of one attention over it. An answer has a handful of tokens, over which a product
and a sum are faster on a CPU than its attention kernels. Shapes depend on the number of answers and on how long they
are, never on values, so that a step can be compiled, captured or exported.

Shapes: B prompts, K answers a prompt, T tokens so far, L tokens of a prompt, H width, h heads of d.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel

KeysAndValues = tuple[Tensor, Tensor]
"""Of one layer: of a prompt [B, h, L, d], of answers [B, K, T, h·d]."""


class ReadPrompts(NamedTuple):
    """What the prompts have become."""

    layers: tuple[KeysAndValues, ...]
    mask: Tensor  # [B, 1, 1, L] what is added to scores: 0, or the least number at padding


@dataclass(frozen=True)
class Attention:
    """The projections of an attention layer."""

    query: Callable[[Tensor], Tensor]
    key: Callable[[Tensor], Tensor]
    value: Callable[[Tensor], Tensor]
    out: Callable[[Tensor], Tensor]
    num_heads: int
    scale: float  # of scores

    def over_prompt(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Attention of [B, K, H] over the prompts [B, h, L, d]: [B, K, H]."""
        queries = self.query(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        found = scaled_dot_product_attention(queries, keys, values, mask.to(queries.dtype), scale=self.scale)
        return self.out(found.transpose(1, 2).flatten(2))

    def over_answer(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """Attention of [B, K, H] over the answers' own tokens [B, K, T, h·d]: [B, K, H].

        The bias [T, h, 1] is by distance.
        """
        queries, keys, values = (part.unflatten(-1, (self.num_heads, -1)) for part in (self.query(x), keys, values))
        scores = ((queries * self.scale).unsqueeze(2) * keys).sum(-1, keepdim=True)  # [B, K, T, h, 1]
        weights = (scores if bias is None else scores + bias).softmax(2)
        return self.out((weights.to(values.dtype) * values).sum(2).flatten(2))

    def of_prompt(self, hidden: Tensor) -> KeysAndValues:
        """Keys and values of what the encoder wrote, [B, L, H]."""
        keys, values = (part(hidden).unflatten(-1, (self.num_heads, -1)) for part in (self.key, self.value))
        return keys.transpose(1, 2).contiguous(), values.transpose(1, 2).contiguous()

    def of_answer(self, x: Tensor, past: KeysAndValues | None) -> KeysAndValues:
        """Keys and values of the answers' tokens, with the newest ones [B, K, H]."""
        keys, values = self.key(x).unsqueeze(2), self.value(x).unsqueeze(2)
        return (keys, values) if past is None else (torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2))


@dataclass(frozen=True)
class Block:
    """A layer of the decoder."""

    over_answer: Attention
    over_prompt: Attention
    feed_forward: Callable[[Tensor], Tensor]
    norms: tuple[nn.Module, nn.Module, nn.Module]  # of the three sublayers
    norms_first: bool  # whether a sublayer reads what is normalised, or its sum is

    def write(
        self, x: Tensor, prompt: KeysAndValues, mask: Tensor, past: KeysAndValues | None, bias: Tensor | None
    ) -> tuple[Tensor, KeysAndValues]:
        """The newest tokens [B, K, H] one layer on, and the past with them in it."""
        read = self._before(0, x)
        past = self.over_answer.of_answer(read, past)
        x = self._after(0, x + self.over_answer.over_answer(read, *past, bias))
        x = self._after(1, x + self.over_prompt.over_prompt(self._before(1, x), *prompt, mask))
        return self._after(2, x + self.feed_forward(self._before(2, x))), past

    def _before(self, sublayer: int, x: Tensor) -> Tensor:
        return self.norms[sublayer](x) if self.norms_first else x

    def _after(self, sublayer: int, x: Tensor) -> Tensor:
        return x if self.norms_first else self.norms[sublayer](x)


@dataclass(frozen=True)
class DecoderStep:
    """A decoder in evaluation mode, a token at a time."""

    embed: Callable[[Tensor, int], Tensor]  # tokens [B, K] and their position → [B, K, H]
    blocks: Sequence[Block]
    last_norm: nn.Module | None  # of what the last layer writes
    biases: Callable[[int], Sequence[Tensor | None]]  # T → of the newest token to each of T, layer by layer: [T, h, 1]

    def read(self, hidden: Tensor, attention_mask: Tensor) -> ReadPrompts:
        """What the encoder wrote [B, L, H], with its mask [B, L], as keys and values."""
        mask = torch.zeros_like(attention_mask, dtype=hidden.dtype)
        mask = mask.masked_fill(attention_mask == 0, torch.finfo(hidden.dtype).min)
        return ReadPrompts(tuple(block.over_prompt.of_prompt(hidden) for block in self.blocks), mask[:, None, None])

    def write(
        self, tokens: Tensor, prompts: ReadPrompts, past: Sequence[KeysAndValues]
    ) -> tuple[Tensor, tuple[KeysAndValues, ...]]:
        """Read the newest token of each answer.

        Args:
            tokens: [B, K].
            prompts: from `read`.
            past: of the tokens before, a pair a layer; empty at the first.

        Returns:
            States [B, K, H], and the past with these tokens in it.
        """
        num_tokens = past[0][0].shape[2] + 1 if past else 1
        x, grown = self.embed(tokens, num_tokens - 1), []
        before: Sequence[KeysAndValues | None] = past or [None] * len(self.blocks)
        for layer in zip(self.blocks, prompts.layers, before, self.biases(num_tokens), strict=True):
            block, prompt, seen, bias = layer
            x, pair = block.write(x, prompt, prompts.mask, seen, bias)
            grown.append(pair)
        return (x if self.last_norm is None else self.last_norm(x)), tuple(grown)


def decoder_step(model: PreTrainedModel) -> DecoderStep | None:
    """The step of a model's decoder, which shares its weights; None where the model is of another kind."""
    make = _STEPS.get(model.config.model_type)
    return None if make is None else make(model.get_decoder())


def _bart(decoder: Any) -> DecoderStep:
    """BART's, and mBART's, which normalises first and once more at the end."""
    last_norm = getattr(decoder, "layer_norm", None)

    def attention(layer: Any) -> Attention:
        parts = layer.q_proj, layer.k_proj, layer.v_proj, layer.out_proj
        return Attention(*parts, layer.num_heads, layer.head_dim**-0.5)

    def embed(tokens: Tensor, position: int) -> Tensor:
        table = decoder.embed_positions
        embedded: Tensor = decoder.layernorm_embedding(
            decoder.embed_tokens(tokens) + table.weight[position + table.offset]
        )
        return embedded

    def block(layer: Any) -> Block:
        return Block(
            attention(layer.self_attn),
            attention(layer.encoder_attn),
            lambda x: layer.fc2(layer.activation_fn(layer.fc1(x))),
            (layer.self_attn_layer_norm, layer.encoder_attn_layer_norm, layer.final_layer_norm),
            norms_first=last_norm is not None,
        )

    blocks = [block(layer) for layer in decoder.layers]
    return DecoderStep(embed, blocks, last_norm, lambda _: [None] * len(blocks))


def _t5(decoder: Any) -> DecoderStep:
    """T5's and mT5's, whose layers share the first one's bias by distance, and UMT5's, where each has its own."""

    def attention(layer: Any) -> Attention:
        return Attention(layer.q, layer.k, layer.v, layer.o, layer.n_heads, 1.0)

    def block(layers: Any) -> Block:
        answer, prompt, feed_forward = layers
        return Block(
            attention(answer.SelfAttention),
            attention(prompt.EncDecAttention),
            feed_forward.DenseReluDense,
            (answer.layer_norm, prompt.layer_norm, feed_forward.layer_norm),
            norms_first=True,
        )

    def biases(num_tokens: int) -> list[Tensor | None]:
        found: list[Tensor | None] = []
        for own in (block.layer[0].SelfAttention for block in decoder.block):
            if own.has_relative_attention_bias:  # [1, h, T, T]: that of the last token is of use
                found.append(own.compute_bias(num_tokens, num_tokens)[0, :, -1].T.unsqueeze(-1))
            else:
                found.append(found[-1])
        return found

    def embed(tokens: Tensor, _: int) -> Tensor:
        embedded: Tensor = decoder.embed_tokens(tokens)
        return embedded

    return DecoderStep(embed, [block(each.layer) for each in decoder.block], decoder.final_layer_norm, biases)


_STEPS = {"bart": _bart, "mbart": _bart, "t5": _t5, "mt5": _t5, "umt5": _t5}

KNOWN = tuple(_STEPS)
"""Encoder-decoders whose decoders are known part by part."""
