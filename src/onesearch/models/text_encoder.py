"""The aligned text encoder: query and item text → one unit vector.

e = normalize(W · pool(transformer(tokens))), e ∈ R^D (D = 128 in PRQ-KMeans' rerun of OneSearch).

pool is the mean over tokens (sentence-transformers' usual choice) or the first token's state (BGE's).
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoModel, BertConfig, BertModel, PreTrainedModel, PreTrainedTokenizerBase

from onesearch.models.hub import reading
from onesearch.models.text_tokenizer import load_tokenizer
from onesearch.types import TextBatch

Pooling = Literal["mean", "cls"]
"""`mean` over the tokens, or the state of the first one, which a BERT tokenizer makes `[CLS]`."""

SETTINGS = "encoder.json"
"""Beside the transformer: what else the encoder must know of itself. A folder without it has mean pooling."""


class EncoderBackbone(ABC):
    """Where the transformer under the text encoder comes from."""

    @abstractmethod
    def build(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        """The transformer, ready to be trained on the tokens of `tokenizer`."""


@dataclass(frozen=True)
class PretrainedEncoder(EncoderBackbone):
    """Any Hugging Face encoder.

    Args:
        name: hub name or folder; the reference is `BAAI/bge-base-zh-v1.5`.
    """

    name: str = "BAAI/bge-base-zh-v1.5"

    def build(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        """Load the pretrained weights."""
        return read_transformer(self.name)


@dataclass(frozen=True)
class FreshEncoder(EncoderBackbone):
    """A BERT with fresh weights, for logs that no pretrained model speaks or machines that reach no hub.

    Args:
        hidden: width.
        layers: number of layers.
        heads: attention heads a layer.
        max_length: longest text, in tokens.
    """

    hidden: int = 256
    layers: int = 4
    heads: int = 4
    max_length: int = 128

    def build(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        """Draw fresh weights."""
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=4 * self.hidden,
            max_position_embeddings=self.max_length,
            initializer_range=self.hidden**-0.5,  # BERT's .02 fits its width of 768
            pad_token_id=tokenizer.pad_token_id,
        )
        return BertModel(config, add_pooling_layer=False)


class TextEncoder(nn.Module):
    """Transformer, pooling, projection, unit length.

    Args:
        transformer: a Hugging Face encoder.
        tokenizer: the tokenizer that it reads.
        dim: D, width of the embeddings; None: the transformer's own, without a projection.
        max_length: longer texts are cut, in tokens.
        pooling: how the states of the tokens become one.
    """

    def __init__(
        self,
        transformer: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        dim: int | None = 128,
        max_length: int = 64,
        pooling: Pooling = "mean",
    ) -> None:
        super().__init__()
        width = transformer.config.hidden_size
        self.transformer = transformer
        self.projection = nn.Identity() if dim is None else nn.Linear(width, dim, bias=False)
        self.dim: int = dim or width  # D
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.pooling = pooling

    def forward(self, batch: TextBatch) -> Tensor:
        """Unit vectors [B, D] of the texts."""
        hidden = self.transformer(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
        return normalize(self.projection(self._pool(hidden, batch.attention_mask)), dim=-1)

    def _pool(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        if self.pooling == "cls":
            return hidden[:, 0]
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Unit vectors [len(texts), D], on the CPU; texts of similar length share a batch."""
        was_training = self.training
        self.eval()
        embeddings = torch.empty(len(texts), self.dim, device="cpu")  # not where a trainer builds its models
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(texts), batch_size):
            rows = by_length[start : start + batch_size]
            batch = tokenize(self.tokenizer, [texts[i] for i in rows], self.max_length)
            device = self.transformer.device
            embeddings[rows] = self(TextBatch(*(tensor.to(device) for tensor in batch))).float().cpu()
        self.train(was_training)
        return embeddings

    def save(self, folder: Path) -> None:
        """Write transformer and tokenizer as Hugging Face does, projection and pooling beside them."""
        self.transformer.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        if isinstance(self.projection, nn.Linear):
            save_file({"weight": self.projection.weight.detach().contiguous()}, folder / "projection.safetensors")
        (folder / SETTINGS).write_text(
            json.dumps({"pooling": self.pooling, "max_length": self.max_length}) + "\n", "utf-8"
        )

    @classmethod
    def load(cls, folder: Path) -> "TextEncoder":
        """Read what `save` wrote, ready for inference."""
        file, written = folder / "projection.safetensors", folder / SETTINGS
        weight = load_file(file)["weight"] if file.is_file() else None
        settings = json.loads(written.read_text("utf-8")) if written.is_file() else {}  # older folders have none
        dim = None if weight is None else weight.shape[0]
        encoder = cls(read_transformer(folder), load_tokenizer(folder), dim, **settings)
        if weight is not None:
            encoder.projection.load_state_dict({"weight": weight})
        return encoder.eval()


def read_transformer(name: str | Path) -> PreTrainedModel:
    """A Hugging Face encoder; BERT without its pooler, which neither pooling has a use for.

    Raises:
        UserError: it is neither on the hub nor a folder.
    """
    with reading(name):
        is_bert = AutoConfig.from_pretrained(name).model_type == "bert"
        model: PreTrainedModel = AutoModel.from_pretrained(name, **({"add_pooling_layer": False} if is_bert else {}))
    return model


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> TextBatch:
    """Tokenise and pad to the longest text."""
    encoded = tokenizer(list(texts), padding=True, truncation=True, max_length=max_length, return_tensors="pt")
    return TextBatch(encoded["input_ids"], encoded["attention_mask"])
