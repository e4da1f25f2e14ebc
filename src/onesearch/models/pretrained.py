"""Pretrained transformers as the generator needs them, encoder-decoders or decoders alone, by name or from a folder."""

from pathlib import Path

import torch
from torch.nn.functional import embedding_bag
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

from onesearch.models.hub import reading


def open_backbone(name_or_folder: str | Path) -> PreTrainedModel:
    """A transformer with float32 weights: steps of the optimizer are too small for a checkpoint's bfloat16.

    Raises:
        UserError: it is neither on the hub nor a folder.
    """
    with reading(name_or_folder):
        config = AutoConfig.from_pretrained(str(name_or_folder))
        kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model: PreTrainedModel = kind.from_pretrained(str(name_or_folder), config=config, dtype=torch.float32)
    return model


def token_tables(model: PreTrainedModel) -> list[torch.nn.Parameter]:
    """The tensors [V, H] with a row a token: input embeddings, and the output head where it is not the same tensor."""
    embeddings = model.get_input_embeddings().get_parameter("weight")
    head = model.get_output_embeddings().get_parameter("weight")
    return [embeddings] if head is embeddings else [embeddings, head]


@torch.no_grad()
def grow(model: PreTrainedModel, vocab_size: int, num_text_tokens: int) -> None:
    """Make rows for added tokens, drawn at the spread of the text's; a head of its own stays one.

    T5 has 28 rows more than its tokenizer has tokens: the first added tokens get them, drawn anew.

    Args:
        model: a transformer with its output head.
        vocab_size: V, number of tokens afterwards.
        num_text_tokens: how many of them are the tokenizer's, the first ones.
    """
    tables = token_tables(model)
    num_known = min(len(tables[0]), num_text_tokens)
    # transformers 5 states for all of T5's kin that their head is tied, and would overwrite the one of T5 1.1 and mT5.
    stated = model.config.tie_word_embeddings
    model.config.tie_word_embeddings = len(tables) == 1
    model.resize_token_embeddings(vocab_size, mean_resizing=False)
    model.config.tie_word_embeddings = stated
    for table in token_tables(model):
        table[num_known:].normal_(0, float(table[:num_known].std()))


def start_token(model: PreTrainedModel) -> int:
    """What is read first to write an answer, for plain transformers too.

    A decoder alone begins an answer as it would a text; one that knows no such token takes the end. Where a checkpoint
    does not say, T5 and its kin start with padding; mBART's start is a language: it takes the end.
    """
    config, generation = model.config, model.generation_config
    if not config.is_encoder_decoder:
        begin: int = config.eos_token_id if config.bos_token_id is None else config.bos_token_id
        return begin
    if getattr(config, "decoder_start_token_id", None) is None:  # the configs of some versions do not have the field
        config.decoder_start_token_id = config.pad_token_id if "t5" in config.model_type else config.eos_token_id
    if generation.decoder_start_token_id is None:
        generation.decoder_start_token_id = config.decoder_start_token_id
    token: int = config.decoder_start_token_id
    return token


def embedding_sums(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    """Sums of the embeddings of C tokens a place [B, L, C]: [B, L, H], with one gradient of the table's size, not C."""
    embed = model.get_input_embeddings()
    sums = embedding_bag(tokens.flatten(0, 1), embed.get_parameter("weight"), mode="sum")
    # BART's table knows its scale, T5's has none.
    return sums.view(*tokens.shape[:2], -1) * float(getattr(embed, "embed_scale", 1.0))


def keep_no_activations(model: PreTrainedModel) -> None:
    """Let the gradient compute each layer's activations again; whoever trains, not whoever answers, pays for it."""
    # The name changed within transformers 5.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
