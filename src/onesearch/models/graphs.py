"""The generator as two graphs, to be exported: one reads prompts, the other writes one more code of each beam.

    PromptGraph   prompts                          → keys and values of the prompts, a pair a layer
    StepGraph     tokens so far, keys and values   → log-probabilities of the next code, keys and values of the tokens

Beam search stays outside: whoever runs the graphs keeps the best valid codes and hands the beams' keys and values back
in their new order, as `serve.onnx` does.

Shapes: B prompts, K beams a prompt, L tokens of a prompt, l codes so far, S = K_1 + … + K_C, H width, h heads of d.
"""

from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from onesearch.models.copier import NO_ITEM
from onesearch.models.decoder_step import KNOWN, DecoderStep, KeysAndValues, ReadPrompts, decoder_step
from onesearch.models.generator import Generator
from onesearch.types import PromptBatch, UserError


def step_of(generator: Generator) -> DecoderStep:
    """The decoder's step.

    Raises:
        UserError: the model has none.
    """
    step = decoder_step(generator.backbone)
    if step is None:
        kind = generator.backbone.config.model_type
        raise UserError(f"A generator of the kind '{kind}' cannot be exported: take one of {', '.join(KNOWN)}.")
    return step


class PromptGraph(nn.Module):
    """Reads prompts; the inputs are the fields of a `PromptBatch`, all of them."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator
        self.step = step_of(generator)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, history: Tensor, listed: Tensor, places: Tensor
    ) -> tuple[Tensor, ...]:
        """`mask` [B, 1, 1, L], keys and values [B, h, L, d] layer by layer, the copier's keys [B, L, H] if any."""
        encoded = self.generator.encode(PromptBatch(input_ids, attention_mask, history, listed, places))
        prompts = self.step.read(encoded.hidden, attention_mask)
        pairs = (part for pair in prompts.layers for part in pair)
        return prompts.mask, *pairs, *(() if encoded.copier_keys is None else (encoded.copier_keys,))


class StepGraph(nn.Module):
    """Writes one more code of each beam."""

    starts: Tensor
    ends: Tensor

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator
        self.step = step_of(generator)
        ends = list(accumulate(generator.vocabulary.spec.sizes))
        self.register_buffer("starts", torch.tensor([0, *ends[:-1]]), persistent=False)  # of layers, among all codes
        self.register_buffer("ends", torch.tensor(ends), persistent=False)

    def forward(
        self,
        written: Tensor,
        mask: Tensor,
        prompts: list[Tensor],
        past: list[Tensor],
        listed: Tensor,
        copier_keys: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Log-probabilities [B, K, S] of the codes of all layers, -inf but for the next one's, and the new `past`.

        Args:
            written: token ids so far, the start token first, [B, K, 1 + l].
            mask: from `PromptGraph`.
            prompts: keys and values from `PromptGraph`, layer by layer.
            past: keys and values [B, K, l, h·d] of the tokens before the newest, layer by layer.
            listed: as in the prompt, [B, L, C].
            copier_keys: from `PromptGraph`, where there are any.
        """
        states, grown = self.step.write(written[..., -1], ReadPrompts(_pairs(prompts), mask), _pairs(past))
        vocabulary, scale = self.generator.vocabulary, self.generator.architecture.output_scale
        first = vocabulary.level_slice(0).start
        head = self.generator.backbone.get_output_embeddings().weight[first : first + vocabulary.spec.num_tokens]
        prefix = written[..., 1:] - first  # codes of all layers counted through
        level = prefix.shape[-1]
        places = torch.arange(len(head), device=states.device)
        is_next = (places >= self.starts[level]) & (places < self.ends[level])
        log_probs = linear(states * scale, head).float().masked_fill(~is_next, -torch.inf).log_softmax(-1)
        if self.generator.copier is not None and copier_keys is not None:
            items = torch.where(listed == NO_ITEM, listed, listed + self.starts)
            mixed = self.generator.copier(log_probs, states, prefix, copier_keys, items)
            log_probs = mixed.masked_fill(~is_next, -torch.inf)  # nothing that is copied is impossible to it
        return log_probs, *(part for pair in grown for part in pair)


def _pairs(parts: list[Tensor]) -> tuple[KeysAndValues, ...]:
    return tuple(zip(parts[::2], parts[1::2], strict=True))
