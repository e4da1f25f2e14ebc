"""Text tokenizers: trained on the log, or a pretrained one by name.

The one trained here is byte-level BPE: no text is unknown to it, Latin or CJK. With BPE dropout (`bpe_dropout`) a fresh
model sees each query in many segmentations, as a typo will later cut it.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from onesearch.models.hub import reading
from onesearch.types import UserError

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
    """A tokenizer by its hub name or from a folder; where it has none, BERT's `[SEP]` closes texts.

    Raises:
        UserError: it is neither on the hub nor a folder, no vocabulary is found there, or none that can be read.
    """
    with reading(name_or_folder):
        tokenizer = _read(str(name_or_folder))
        if not _knows_text(tokenizer):
            # A Chinese BART has BERT's vocab.txt, which is not looked for where its config says no more than "bart".
            tokenizer = BertTokenizer.from_pretrained(str(name_or_folder))
    if not _knows_text(tokenizer):
        raise UserError(
            f"{name_or_folder} holds no vocabulary: a tokenizer needs tokenizer.json, vocab.txt, spiece.model, or "
            "vocab.json with merges.txt."
        )
    if tokenizer.eos_token is None:
        tokenizer.eos_token, tokenizer.bos_token = tokenizer.sep_token, tokenizer.cls_token
    if tokenizer.pad_token is None:  # GPT-2 and Llama were never padded; what pads is masked, whatever it is
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _read(name_or_folder: str) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name_or_folder)
    except ValueError as error:
        if find_spec("sentencepiece") is not None:
            raise
        raise UserError(
            f"The tokenizer of {name_or_folder} cannot be read ({error}): if it is spiece.model alone, as of T5 and "
            "mT5, install sentencepiece."
        ) from error
    return tokenizer


def _knows_text(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a vocabulary was read: without one, transformers makes a tokenizer of special tokens and a space."""
    return len(tokenizer) > len(tokenizer.all_special_ids) + 1
