"""How a transformer reads a prompt and writes answers behind it: as encoder and decoder, or as a decoder alone.

    encoder-decoder   h = Enc(x)             s_t = Dec(y_<t; h)        each token of x sees all of x
    decoder-only      (h, K, V) = Dec(x)     s_t = Dec(y_<t | K, V)    each sees what precedes it

In training and search alike the prompt is read once, however many answers are written behind it. In batches padded on
the right, an answer stands behind the padding; what a decoder alone reads there has the positions that follow the
prompt's own length, so that it says the same in any batch.

Several answers to a prompt are packed into one sequence (see `packing`), so that it becomes keys and values once.

Shapes: B prompts, X answers a prompt, T tokens of an answer.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from onesearch.models.decoder_step import KNOWN, decoder_step
from onesearch.models.packing import apart, beginning_anew
from onesearch.models.pretrained import keep_no_activations, start_token
from onesearch.models.writing import BehindPrompt, BesideEncoder, Encoded, StepByStep, Writing
from onesearch.types import UserError

ANSWER = 32
"""Positions that a decoder alone keeps for the answer: a SID, or a text of at most `tasks.align.MAX_TARGET` tokens."""

MOST_PACKED = 256
"""Tokens that are packed into one sequence at most: attention among them grows with their square."""


class Architecture(ABC):
    """A transformer of one kind.

    Args:
        model: with its output head.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        config = model.config
        self.start_token = start_token(model)
        # Where positions are learnt or trained for (BART, GPT-2, Llama) there are only so many; T5's are relative.
        self.max_length: int | None = getattr(config, "max_position_embeddings", None)
        self.output_scale = _output_scale(config)

    @abstractmethod
    def read(self, embeddings: Tensor, attention_mask: Tensor) -> Encoded:
        """Read prompts, [B, L, H] and [B, L]."""

    def write(self, encoded: Encoded, tokens: Tensor) -> Tensor:
        """States [B·X, T, H] at each of the tokens [B·X, T] of X answers a prompt, all at once."""
        num_prompts, length = len(encoded.hidden), tokens.shape[1]
        answers = tokens.unflatten(0, (num_prompts, -1))  # [B, X, T]
        if answers.shape[1] == 1 or not self.can_pack:
            return self.write_apart(encoded, tokens)
        packs = answers.split(max(1, self.most_packed // length), 1)
        states = [self.write_packed(encoded, pack.flatten(1), length).unflatten(1, (-1, length)) for pack in packs]
        return torch.cat(states, 1).flatten(0, 1)

    @property
    def can_pack(self) -> bool:
        """Whether the attention takes a mask of our own; flash attention does not."""
        return self.model.config._attn_implementation in ("eager", "sdpa")

    @property
    def most_packed(self) -> int:
        """How many tokens go into one sequence."""
        return MOST_PACKED

    @abstractmethod
    def write_apart(self, encoded: Encoded, tokens: Tensor) -> Tensor:
        """States [B·X, T, H], each answer in a sequence of its own."""

    @abstractmethod
    def write_packed(self, encoded: Encoded, tokens: Tensor, length: int) -> Tensor:
        """States [B, X·T, H] of the answers to a prompt in one sequence [B, X·T], each of `length` T."""

    @abstractmethod
    def begin(self, encoded: Encoded) -> Writing:
        """Write answers token by token."""

    @abstractmethod
    def checkpoint_activations(self) -> None:
        """In training, compute activations again for the gradient instead of keeping them: less memory, more time.

        Raises:
            UserError: the answers need what was kept of the prompts.
        """

    @abstractmethod
    def compile_layers(self, backend: str | Callable[..., Any]) -> None:
        """Compile the layers one by one (`torch.compile`).

        One graph serves all layers of a kind, so that a deep model is compiled as fast as a flat one; lengths are
        symbols in it, since every batch has another. What is learnt, and what it is called, stays as it is.

        Args:
            backend: of `torch.compile`, such as "inductor".

        Raises:
            UserError: the layers hand on a cache, which would make each layer a graph of its own.
        """


def _output_scale(config: Any) -> float:
    """What states are multiplied by before the head: the level slices must say what the whole model would.

    T5 scales its decoder's output, T5 1.1 and mT5 do not; Granite and Cohere scale logits.
    """
    if getattr(config, "final_logit_softcapping", None):
        raise UserError(
            f"The backbone ({config.model_type}) bends its logits, which slices of its head do not: take another one."
        )
    scaled = getattr(config, "scale_decoder_outputs", config.model_type == "umt5")
    scale: float = config.hidden_size**-0.5 if scaled else 1.0
    return scale * getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)


def _window(config: Any) -> int | None:
    """How far back some layer looks; None: all of them to the beginning."""
    kinds = getattr(config, "layer_types", None)
    slides = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
    window: int | None = getattr(config, "sliding_window", None) if slides else None
    return window


def architecture(model: PreTrainedModel) -> Architecture:
    """How a model reads and writes, by what its configuration says it is."""
    return EncoderDecoder(model) if model.config.is_encoder_decoder else DecoderOnly(model)


class EncoderDecoder(Architecture):
    """BART, mBART, T5, mT5."""

    @property
    def can_pack(self) -> bool:
        """Only where positions are known to begin anew."""
        return super().can_pack and self.model.config.model_type in KNOWN

    @property
    def most_packed(self) -> int:
        """No more than there are learnt positions: they are looked up before they begin anew."""
        return MOST_PACKED if self.max_length is None else min(MOST_PACKED, self.max_length)

    def read(self, embeddings: Tensor, attention_mask: Tensor) -> Encoded:
        """Each position sees the whole prompt."""
        encoder = self.model.get_encoder()
        hidden = encoder(inputs_embeds=embeddings, attention_mask=attention_mask).last_hidden_state
        return Encoded(hidden, attention_mask)

    def write_packed(self, encoded: Encoded, tokens: Tensor, length: int) -> Tensor:
        """The decoder over all answers to a prompt; it turns the prompt into keys and values once."""
        decoder = self.model.get_decoder()
        with beginning_anew(decoder, length):
            states: Tensor = decoder(
                input_ids=tokens,
                attention_mask=apart(tokens, length, encoded.hidden),
                encoder_hidden_states=encoded.hidden,
                encoder_attention_mask=encoded.attention_mask,
                use_cache=False,
            ).last_hidden_state
        return states

    def write_apart(self, encoded: Encoded, tokens: Tensor) -> Tensor:
        """The decoder over whole answers."""
        num_answers = len(tokens) // len(encoded.hidden)
        states: Tensor = self.model.get_decoder()(
            input_ids=tokens,
            encoder_hidden_states=encoded.hidden.repeat_interleave(num_answers, 0),
            encoder_attention_mask=encoded.attention_mask.repeat_interleave(num_answers, 0),
            use_cache=False,
        ).last_hidden_state
        return states

    def begin(self, encoded: Encoded) -> Writing:
        """By a step of our own, over the model's weights, where there is one; else by the model's."""
        assert not self.model.training, "what is written is not learnt from"
        step = decoder_step(self.model)
        return BesideEncoder(self.model, encoded) if step is None else StepByStep(step, encoded)

    def checkpoint_activations(self) -> None:
        """All layers."""
        keep_no_activations(self.model)

    def compile_layers(self, backend: str | Callable[..., Any]) -> None:
        """Those of both halves."""
        for half in (self.model.get_encoder(), self.model.get_decoder()):
            stacks = (module for module in half.children() if isinstance(module, nn.ModuleList))
            for layer in chain.from_iterable(stacks):
                layer.compile(backend=backend, dynamic=True)


class DecoderOnly(Architecture):
    """GPT-2, Llama, Qwen and their kin: models with positions of their own in each row."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        # A window of attention must never begin to slide: it counts places, and padding would be among them.
        limits = [most for most in (self.max_length, _window(model.config)) if most is not None]
        if limits:
            self.max_length = min(limits) - ANSWER
            if self.max_length <= 0:
                raise UserError(
                    f"The backbone sees no more than {ANSWER} positions, which the answer needs: give it more."
                )

    def read(self, embeddings: Tensor, attention_mask: Tensor) -> Encoded:
        """Each position sees what precedes it."""
        memory = DynamicCache()
        hidden = self.model.base_model(
            inputs_embeds=embeddings, attention_mask=attention_mask, past_key_values=memory, use_cache=True
        ).last_hidden_state
        return Encoded(hidden, attention_mask, memory=memory)

    def write_packed(self, encoded: Encoded, tokens: Tensor, length: int) -> Tensor:
        """All answers behind one copy of the prompts' keys and values."""
        assert length <= ANSWER
        return BehindPrompt(self.model, encoded).packed(tokens, length)

    def write_apart(self, encoded: Encoded, tokens: Tensor) -> Tensor:
        """Whole answers behind the prompts' keys and values, through which the prompts are learnt from as well."""
        assert tokens.shape[1] <= ANSWER
        writing, num_prompts = self.begin(encoded), len(encoded.hidden)
        if len(tokens) > num_prompts:
            prompts = torch.arange(num_prompts, device=tokens.device)
            writing.fork(prompts.repeat_interleave(len(tokens) // num_prompts))
        return writing.step(tokens)

    def begin(self, encoded: Encoded) -> Writing:
        """With the keys and values of the prompts as the cache's beginning."""
        return BehindPrompt(self.model, encoded)

    def checkpoint_activations(self) -> None:
        """Refused."""
        raise UserError(
            "'gradient_checkpointing' drops the keys and values of the prompts, behind which a decoder alone "
            "writes its answers: set it to false."
        )

    def compile_layers(self, backend: str | Callable[..., Any]) -> None:
        """Refused."""
        raise UserError("'compile_backend' is for encoder-decoders: leave it out where a decoder alone is trained.")
