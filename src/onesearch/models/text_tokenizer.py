"""Text tokenizers: trained on the log, or a pretrained one by name.

The one trained here is byte-level BPE: no text is unknown to it, Latin or CJK. With BPE dropout (`bpe_dropout`) a fresh
model sees each query in many segmentations, as a typo will later cut it.
"""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

SPECIAL_TOKENS = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
"""In BART's order: ids 0 to 3."""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train byte-level BPE on `texts`; each text is closed with `</s>`.

    Args:
        texts: what the models will read.
        vocab_size: number of tokens, special ones and the 256 bytes included.
    """
    tokenizer = Tokenizer(models.BPE())
    # Every piece begins with a space, numbers are pieces of their own: "mw3" and "mw 3" are the same tokens.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.ByteLevel(add_prefix_space=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    end = SPECIAL_TOKENS["eos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.token_to_id(end))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


def load_tokenizer(name_or_folder: str | Path) -> PreTrainedTokenizerBase:
    """A tokenizer by its hub name or from a folder."""
    return AutoTokenizer.from_pretrained(str(name_or_folder))
