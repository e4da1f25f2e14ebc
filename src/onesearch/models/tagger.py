"""The NER tagger: marks spans of the 18 attribute types in query and item text (OneSearch, KHQE).

z = W · dropout(transformer(tokens)),  z ∈ R^{L×37};   spans = BIO of the best valid path through z (see `bio`)
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from onesearch.models.bio import TAGS, best_paths, spans_of, trim
from onesearch.models.text_encoder import read_transformer
from onesearch.models.text_tokenizer import load_tokenizer
from onesearch.types import Span, TextBatch, UserError

Spans = list[list[Span]]
"""The spans of each text, by start."""


class Tagger(nn.Module):
    """Transformer, dropout, one linear layer over the tags.

    Args:
        transformer: a Hugging Face encoder.
        tokenizer: the tokenizer that it reads, a fast one.
        dropout: in front of the linear layer.
        max_length: what lies behind is not read, in tokens.
    """

    def __init__(
        self,
        transformer: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        dropout: float = 0.1,
        max_length: int = 64,
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(transformer.config.hidden_size, len(TAGS))
        self.tokenizer = tokenizer
        self.max_length = max_length

    def forward(self, batch: TextBatch) -> Tensor:
        """Logits of the tags [B, L, 37]."""
        hidden = self.transformer(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
        logits: Tensor = self.head(self.dropout(hidden))
        return logits

    @torch.inference_mode()
    def spans(self, texts: Sequence[str], batch_size: int = 256) -> Spans:
        """The spans that are marked in each text; texts of similar length share a batch."""
        was_training = self.training
        self.eval()
        found: Spans = [[] for _ in texts]
        by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for start in range(0, len(texts), batch_size):
            rows = by_length[start : start + batch_size]
            for row, spans in zip(rows, self._mark([texts[row] for row in rows]), strict=True):
                found[row] = spans
        self.train(was_training)
        return found

    def _mark(self, texts: Sequence[str]) -> Spans:
        tokens, offsets = tokenize_with_offsets(self.tokenizer, texts, self.max_length)
        device = self.head.weight.device
        logits = self(TextBatch(*(tensor.to(device) for tensor in tokens))).float().cpu()
        # Tokens that cover no text stand between no B and its I.
        covering = [[place for place, (start, end) in enumerate(row) if start < end] for row in offsets]
        if not any(covering):
            return [[] for _ in texts]
        paths = best_paths(pad_sequence([logits[row, places] for row, places in enumerate(covering)], batch_first=True))
        return [
            spans_of(path[: len(places)], [row[place] for place in places])
            for path, places, row in zip(paths.tolist(), covering, offsets, strict=True)
        ]

    def save(self, folder: Path) -> None:
        """Write transformer and tokenizer as Hugging Face does, the linear layer beside them."""
        self.transformer.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        head = {name: tensor.detach().contiguous() for name, tensor in self.head.state_dict().items()}
        save_file(head, folder / "head.safetensors", {"max_length": str(self.max_length)})

    @classmethod
    def load(cls, folder: Path) -> "Tagger":
        """Read what `save` wrote, ready for inference."""
        with safe_open(folder / "head.safetensors", framework="pt") as file:
            max_length = int(file.metadata()["max_length"])
            head = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not iterable itself
        tagger = cls(read_transformer(folder), load_tokenizer(folder), max_length=max_length)
        tagger.head.load_state_dict(head)
        return tagger.eval()


def tokenize_with_offsets(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int
) -> tuple[TextBatch, list[list[tuple[int, int]]]]:
    """Tokenise, pad to the longest text, and say which characters each token covers.

    Raises:
        UserError: the tokenizer cannot say it.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"The tokenizer {tokenizer.name_or_path} is a slow one, which does not tell where its tokens stand in the "
            "text: name a pretrained model with a fast tokenizer."
        )
    encoded = tokenizer(
        list(texts),
        padding=True,
        truncation=True,
        max_length=max_length,
        return_offsets_mapping=True,
        return_tensors="pt",
    )
    offsets = [trim(text, row) for text, row in zip(texts, encoded["offset_mapping"].tolist(), strict=True)]
    return TextBatch(encoded["input_ids"], encoded["attention_mask"]), offsets
