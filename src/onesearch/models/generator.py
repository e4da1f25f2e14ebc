"""The unified encoder-decoder: reads a prompt, writes the C codes of one item (OneSearch §3).

log π(i|x) = Σ_l log softmax(W_l h_l)[c_l], where W_l is the output head cut to the slice of layer l: one normaliser in
training, preference optimisation and search alike.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from transformers import AutoModelForSeq2SeqLM, BartConfig, BartForConditionalGeneration, PreTrainedModel

from onesearch.models.copier import NO_ITEM, Copier
from onesearch.models.history_adapter import HistoryAdapter
from onesearch.sid.vocabulary import Vocabulary
from onesearch.types import PromptBatch


class GeneratorBackbone(ABC):
    """Where the encoder-decoder comes from."""

    @abstractmethod
    def build(self, vocab_size: int) -> PreTrainedModel:
        """An encoder-decoder with `vocab_size` tokens: the text tokens first, the added ones after them."""


@dataclass(frozen=True)
class PretrainedGenerator(GeneratorBackbone):
    """Any Hugging Face sequence-to-sequence model: BART, mBART, T5, mT5.

    Args:
        name: hub name or folder.
    """

    name: str = "facebook/bart-base"

    def build(self, vocab_size: int) -> PreTrainedModel:
        """Load the weights and append rows for the added tokens."""
        model: PreTrainedModel = AutoModelForSeq2SeqLM.from_pretrained(self.name)
        model.resize_token_embeddings(vocab_size, mean_resizing=False)
        return model


@dataclass(frozen=True)
class FreshGenerator(GeneratorBackbone):
    """A BART with fresh weights.

    Args:
        hidden: H, width.
        encoder_layers: layers of the encoder.
        decoder_layers: layers of the decoder.
        heads: attention heads a layer.
        feed_forward: width of the feed-forward layers, as a multiple of `hidden`.
        dropout: in both halves.
        max_length: longest prompt, in tokens.
    """

    hidden: int = 256
    encoder_layers: int = 4
    decoder_layers: int = 2
    heads: int = 4
    feed_forward: int = 4
    dropout: float = 0.1
    max_length: int = 512

    def build(self, vocab_size: int) -> PreTrainedModel:
        """Draw fresh weights; ids 0 to 3 are <s>, <pad>, </s>, <unk>, as in the tokenizer trained on the log."""
        config = BartConfig(
            vocab_size=vocab_size,
            d_model=self.hidden,
            encoder_layers=self.encoder_layers,
            decoder_layers=self.decoder_layers,
            encoder_attention_heads=self.heads,
            decoder_attention_heads=self.heads,
            encoder_ffn_dim=self.feed_forward * self.hidden,
            decoder_ffn_dim=self.feed_forward * self.hidden,
            max_position_embeddings=self.max_length,
            dropout=self.dropout,
            # BART's .02 fits its width of 1024: at 160 a fresh model would stand still for hundreds of steps.
            init_std=self.hidden**-0.5,
            forced_eos_token_id=None,
        )
        return BartForConditionalGeneration(config)


class Encoded(NamedTuple):
    """What the encoder made of a batch of prompts."""

    hidden: Tensor  # [B, L, H]
    attention_mask: Tensor  # [B, L]
    listed: Tensor | None = None  # [B, L, C], as in the prompt
    copier_keys: Tensor | None = None  # [B, L, H]; None: nothing can be repeated


class Generator(nn.Module):
    """Backbone, vocabulary and history adapter as one model.

    Args:
        backbone: the encoder-decoder.
        vocabulary: where text, SIDs and markers stand.
        adapter: turns long behaviour into input embeddings.
        copier: repeats listed items; None: every item is written anew.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        vocabulary: Vocabulary,
        adapter: HistoryAdapter,
        copier: Copier | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.vocabulary = vocabulary
        self.adapter = adapter
        self.copier = copier
        # T5 scales the decoder's output before the head, T5 1.1 and mT5 do not; the level slices must do the same.
        config = backbone.config
        scaled = getattr(config, "scale_decoder_outputs", config.model_type == "umt5")
        self.output_scale = config.d_model**-0.5 if scaled else 1.0

    def encode(self, prompt: PromptBatch) -> Encoded:
        """Read the prompts; the long behaviour takes the place of the slot tokens, listed SIDs that of theirs."""
        embed = self.backbone.get_input_embeddings()
        embeddings = embed(prompt.input_ids)
        if prompt.listed is not None:
            tokens = self.vocabulary.sid_tokens(prompt.listed.clamp(min=0))
            sids = sum(embed(level) for level in tokens.unbind(-1))  # one at a time: [B, L, C, H] would be large
            embeddings = torch.where(prompt.listed[..., :1] == NO_ITEM, embeddings, sids)
        slots = prompt.input_ids == self.vocabulary.marker("<slot>")
        if prompt.history is not None and bool(slots.any()):
            has_slots = slots.any(1)
            memory = self.adapter(prompt.history[has_slots]).to(embeddings.dtype)
            embeddings = embeddings.masked_scatter(slots.unsqueeze(-1), memory)
        encoder = self.backbone.get_encoder()
        hidden = encoder(inputs_embeds=embeddings, attention_mask=prompt.attention_mask).last_hidden_state
        keys = None
        if self.copier is not None and prompt.places is not None:
            keys = self.copier.keys(hidden, prompt.places)
        return Encoded(hidden, prompt.attention_mask, prompt.listed, keys)

    def level_log_probs(self, encoded: Encoded, decoded: Tensor, prefix: Tensor) -> Tensor:
        """Log-probabilities [B, X, K_l] of the next code.

        Args:
            encoded: the prompts.
            decoded: the decoder's states of X beams or candidates a prompt, [B, X, H].
            prefix: their codes so far, [B, X, l].
        """
        rows = self.vocabulary.level_slice(prefix.shape[-1])
        head = self.backbone.get_output_embeddings().weight[rows]
        written = linear(decoded * self.output_scale, head).float().log_softmax(-1)
        if self.copier is None or encoded.copier_keys is None:
            return written
        mixed: Tensor = self.copier(written, decoded, prefix, encoded.copier_keys, encoded.listed)
        return mixed

    def sid_log_probs(self, encoded: Encoded, codes: Tensor) -> Tensor:
        """Log-probability of each code [B, X, C] of X candidates a prompt, given the codes before it: [B, X, C]."""
        num_candidates, num_levels = codes.shape[1:]
        tokens = self.vocabulary.sid_tokens(codes).flatten(0, 1)
        start = torch.full_like(tokens[:, :1], self.backbone.config.decoder_start_token_id)
        decoded = self.backbone.get_decoder()(
            input_ids=torch.cat([start, tokens[:, :-1]], 1),
            encoder_hidden_states=encoded.hidden.repeat_interleave(num_candidates, 0),
            encoder_attention_mask=encoded.attention_mask.repeat_interleave(num_candidates, 0),
            use_cache=False,
        ).last_hidden_state.unflatten(0, codes.shape[:2])
        levels = [
            self.level_log_probs(encoded, decoded[:, :, level], codes[..., :level]) for level in range(num_levels)
        ]
        picked = [levels[level].gather(-1, codes[..., level, None]) for level in range(num_levels)]
        return torch.cat(picked, -1)

    def text_losses(self, encoded: Encoded, labels: Tensor) -> Tensor:
        """Cross-entropy [B, T] of text targets [B, T] over the whole vocabulary; 0 at padding, -100."""
        logits = self.backbone(
            encoder_outputs=(encoded.hidden,), attention_mask=encoded.attention_mask, labels=labels, use_cache=False
        ).logits
        return cross_entropy(logits.mT.float(), labels, reduction="none")

    def text_loss(self, encoded: Encoded, labels: Tensor) -> Tensor:
        """Mean cross-entropy of text targets [B, T]."""
        return self.text_losses(encoded, labels).sum() / (labels != -100).sum()

    @torch.no_grad()
    def init_sid_embeddings(self, centroids: Sequence[Tensor], seed: int = 0) -> None:
        """Let near codes start near: each layer's embeddings are its centroids under one random projection.

        Args:
            centroids: one [K_l, D_l] a layer, in layer order.
            seed: of the projection.
        """
        weight = self.backbone.get_input_embeddings().get_parameter("weight")
        spread = weight[: self.vocabulary.num_text_tokens].std()
        generator = torch.Generator().manual_seed(seed)
        for level, table in enumerate(centroids):
            projection = torch.randn(table.shape[1], weight.shape[1], generator=generator)
            projected = table.float().cpu() @ projection
            rows = self.vocabulary.level_slice(level)
            # Half centroid, half the fresh draw: codes of a collapsed layer must still differ.
            weight[rows] = (weight[rows] + projected.to(weight) / projected.std().clamp(min=1e-6) * spread) / 2**0.5
