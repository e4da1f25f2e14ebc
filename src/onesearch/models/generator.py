"""The unified model: reads a prompt, writes the C codes of one item (OneSearch §3).

log π(i|x) = Σ_l log softmax(W_l h_l)[c_l], where W_l is the output head cut to the slice of layer l: one normaliser in
training, preference optimisation and search alike.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
)

from onesearch.models.architecture import ANSWER, architecture
from onesearch.models.copier import NO_ITEM, Copier
from onesearch.models.history_adapter import HistoryAdapter, fill_slots
from onesearch.models.pretrained import (
    embedding_sums,
    grow,
    open_backbone,
    token_tables,
)
from onesearch.models.writing import Encoded
from onesearch.sid.vocabulary import Vocabulary
from onesearch.types import PromptBatch, UserError


class GeneratorBackbone(ABC):
    """Where the transformer comes from."""

    @abstractmethod
    def build(self, vocab_size: int, num_text_tokens: int) -> PreTrainedModel:
        """A transformer with `vocab_size` tokens: first those of the text, then the added ones."""


@dataclass(frozen=True)
class PretrainedGenerator(GeneratorBackbone):
    """Any Hugging Face sequence-to-sequence model (BART, mBART, T5, mT5) or causal one (GPT-2, Llama, Qwen).

    Args:
        name: hub name or folder.
    """

    name: str = "facebook/bart-base"

    def build(self, vocab_size: int, num_text_tokens: int) -> PreTrainedModel:
        """Load the weights and make rows for the added tokens; ready to be trained, with dropout."""
        model = open_backbone(self.name)
        grow(model, vocab_size, num_text_tokens)
        model.train()
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

    def build(self, vocab_size: int, num_text_tokens: int) -> PreTrainedModel:
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


@dataclass(frozen=True)
class FreshDecoder(GeneratorBackbone):
    """A GPT-2 with fresh weights: a decoder alone, in place of the paper's encoder-decoder.

    Args:
        hidden: H, width of the generator.
        layers: its layers; one has two thirds of the weights of a decoder's layer that looks at an encoder, too, where
            the feed-forward layers are twice as wide.
        heads: attention heads a layer.
        feed_forward: width of the feed-forward layers, as a multiple of `hidden`.
        dropout: of embeddings and of what each layer adds.
        max_length: longest prompt, in tokens.
    """

    hidden: int = 256
    layers: int = 7
    heads: int = 4
    feed_forward: int = 4
    dropout: float = 0.1
    max_length: int = 512

    def build(self, vocab_size: int, num_text_tokens: int) -> PreTrainedModel:
        """Draw fresh weights, at the spread of `FreshGenerator`; its special tokens, too."""
        config = GPT2Config(
            vocab_size=vocab_size,
            n_embd=self.hidden,
            n_layer=self.layers,
            n_head=self.heads,
            n_inner=self.feed_forward * self.hidden,
            n_positions=self.max_length + ANSWER,
            embd_pdrop=self.dropout,
            resid_pdrop=self.dropout,
            attn_pdrop=0.0,
            initializer_range=self.hidden**-0.5,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
        )
        return GPT2LMHeadModel(config)


class Generator(nn.Module):
    """Backbone, vocabulary and history adapter as one model.

    Args:
        backbone: the transformer.
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
        self.architecture = architecture(backbone)
        self.max_length = self.architecture.max_length

    def encode(self, prompt: PromptBatch) -> Encoded:
        """Read the prompts; the long behaviour takes the place of the slot tokens, listed SIDs that of theirs.

        Raises:
            UserError: a prompt is longer than the backbone has positions.
        """
        width = prompt.input_ids.shape[1]
        if self.max_length is not None and width > self.max_length:
            raise UserError(
                f"A prompt has {width} tokens, the backbone reads {self.max_length}: show less in the 'views' of the "
                "data, shorten the texts of its tasks, or take a backbone with more positions."
            )
        embeddings = self.backbone.get_input_embeddings()(prompt.input_ids)
        if prompt.listed is not None:
            sids = embedding_sums(self.backbone, self.vocabulary.sid_tokens(prompt.listed.clamp(min=0)))
            embeddings = torch.where(prompt.listed[..., :1] == NO_ITEM, embeddings, sids)
        if prompt.history is not None:
            slots = prompt.input_ids == self.vocabulary.marker("<slot>")
            embeddings = fill_slots(embeddings, slots, self.adapter(prompt.history))
        encoded = self.architecture.read(embeddings, prompt.attention_mask)
        keys = None
        if self.copier is not None and prompt.places is not None:
            keys = self.copier.keys(encoded.hidden, prompt.places)
        return encoded._replace(listed=prompt.listed, copier_keys=keys)

    def level_heads(self) -> tuple[Tensor, ...]:
        """The output head of each layer, [K_l, H]; cut from one block, whose gradient is as large as the vocabulary."""
        layers, spec = self.vocabulary.level_slice(0), self.vocabulary.spec
        block = self.backbone.get_output_embeddings().weight[layers.start : layers.start + spec.num_tokens]
        heads: tuple[Tensor, ...] = block.split(spec.sizes)
        return heads

    def level_log_probs(self, encoded: Encoded, decoded: Tensor, prefix: Tensor, heads: Sequence[Tensor]) -> Tensor:
        """Log-probabilities [B, X, K_l] of the next code.

        Args:
            encoded: the prompts.
            decoded: the decoder's states of X beams or candidates a prompt, [B, X, H].
            prefix: their codes so far, [B, X, l].
            heads: `level_heads()`, cut once for all layers.
        """
        written = linear(decoded * self.architecture.output_scale, heads[prefix.shape[-1]]).float().log_softmax(-1)
        if self.copier is None or encoded.copier_keys is None:
            return written
        mixed: Tensor = self.copier(written, decoded, prefix, encoded.copier_keys, encoded.listed)
        return mixed

    def sid_log_probs(self, encoded: Encoded, codes: Tensor) -> Tensor:
        """Log-probability of each code [B, X, C] of X candidates a prompt, given the codes before it: [B, X, C]."""
        tokens = self.vocabulary.sid_tokens(codes).flatten(0, 1)
        decoded = self.architecture.write(encoded, self._shifted(tokens)).unflatten(0, codes.shape[:2])
        heads = self.level_heads()
        levels = [
            self.level_log_probs(encoded, decoded[:, :, level], codes[..., :level], heads)
            for level in range(codes.shape[-1])
        ]
        picked = [logs.gather(-1, codes[..., level, None]) for level, logs in enumerate(levels)]
        return torch.cat(picked, -1)

    def text_losses(self, encoded: Encoded, labels: Tensor) -> Tensor:
        """Cross-entropy [B, T] of text targets [B, T] over the whole vocabulary; 0 at padding, -100."""
        # Not left to the backbone: mBART would start from the last label, other than for SIDs.
        states = self.architecture.write(encoded, self._shifted(labels.clamp(min=0))) * self.architecture.output_scale
        logits = self.backbone.get_output_embeddings()(states)
        return cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none").view_as(labels)

    def text_loss(self, encoded: Encoded, labels: Tensor) -> Tensor:
        """Mean cross-entropy of text targets [B, T]."""
        return self.text_losses(encoded, labels).sum() / (labels != -100).sum()

    def _shifted(self, tokens: Tensor) -> Tensor:
        """What the decoder reads to write `tokens` [B, T]: the start token, and all of them but the last."""
        return torch.cat([torch.full_like(tokens[:, :1], self.architecture.start_token), tokens[:, :-1]], 1)

    @torch.no_grad()
    def init_sid_embeddings(self, centroids: Sequence[Tensor], seed: int = 0) -> None:
        """Let near codes start near: each layer's embeddings are its centroids under one random projection.

        Args:
            centroids: one [K_l, D_l] a layer, in layer order.
            seed: of the projection.
        """
        num_text = self.vocabulary.num_text_tokens
        generator = torch.Generator().manual_seed(seed)
        for level, centers in enumerate(centroids):
            projection = torch.randn(centers.shape[1], self.backbone.config.hidden_size, generator=generator)
            projected = centers.float().cpu() @ projection
            near = projected / projected.std().clamp(min=1e-6)
            rows = self.vocabulary.level_slice(level)
            for table in token_tables(self.backbone):
                # Half centroid, half the fresh draw: codes of a collapsed layer must still differ.
                table[rows] = (table[rows] + near.to(table) * table[:num_text].std()) / 2**0.5
