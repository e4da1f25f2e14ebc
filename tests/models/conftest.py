"""A tiny vocabulary and generators over it, BART, mBART, T5, GPT-2, Llama and Qwen, with random weights."""

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MBartConfig,
    MBartForConditionalGeneration,
    MistralConfig,
    MistralForCausalLM,
    MT5Config,
    MT5ForConditionalGeneration,
    PegasusConfig,
    PegasusForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    UMT5Config,
    UMT5ForConditionalGeneration,
)

from onesearch.models.copier import Copier
from onesearch.models.generator import Generator
from onesearch.models.history_adapter import HistoryAdapter
from onesearch.sid.spec import SidSpec
from onesearch.sid.vocabulary import Vocabulary
from onesearch.tasks.prompt import MARKERS, NUM_PLACES
from onesearch.types import PromptBatch

SPEC = SidSpec((4, 3, 2), (3, 2))


@pytest.fixture
def vocabulary():
    """20 text tokens, 4·3·2·3·2 = 144 SIDs."""
    return Vocabulary(20, SPEC, MARKERS)


def bart(size, model=BartForConditionalGeneration, config=BartConfig, **more):
    return model(
        config(
            vocab_size=size,
            d_model=16,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            max_position_embeddings=64,
            init_std=0.5,
            forced_eos_token_id=None,
            **more,
        )
    )


def t5(size, model=T5ForConditionalGeneration, config=T5Config, **more):
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    return model(config(vocab_size=size, **sizes, decoder_start_token_id=0, **more))


def with_own_head(model):
    """T5 1.1 and its kin were pretrained with a head that is not the embeddings; transformers 5 builds them tied."""
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight))
    return model


def gpt2(size, **more):
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 32, "n_positions": 96}
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=size, bos_token_id=0, eos_token_id=2, initializer_range=0.3, **sizes, **more)
    )


def rotary(size, model, config, **more):
    """Positions by rotation, two query heads to one of keys; a head of its own."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "max_position_embeddings": 96}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    ids = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    return model(
        config(vocab_size=size, initializer_range=0.3, tie_word_embeddings=False, **sizes, **heads, **ids, **more)
    )


BACKBONES = {
    "bart": bart,
    "bart-scaled": lambda size: bart(size, scale_embedding=True),
    "mbart": lambda size: bart(size, MBartForConditionalGeneration, MBartConfig, scale_embedding=True),
    "t5": t5,
    "t5-1.1": lambda size: with_own_head(t5(size, tie_word_embeddings=False, feed_forward_proj="gated-gelu")),
    "mt5": lambda size: with_own_head(t5(size, MT5ForConditionalGeneration, MT5Config)),
    "umt5": lambda size: with_own_head(t5(size, UMT5ForConditionalGeneration, UMT5Config)),
}


DECODERS = {
    "gpt2": gpt2,
    "llama": lambda size: rotary(size, LlamaForCausalLM, LlamaConfig),
    "qwen2": lambda size: rotary(size, Qwen2ForCausalLM, Qwen2Config),
}


PECULIAR = {
    "mistral": lambda size: rotary(size, MistralForCausalLM, MistralConfig, sliding_window=40),
    "pegasus": lambda size: bart(size, PegasusForConditionalGeneration, PegasusConfig),
    "granite": lambda size: rotary(size, GraniteForCausalLM, GraniteConfig, logits_scaling=8.0),
}
"""Decoders with a window of attention, and with scaled logits; an encoder-decoder whose decoder has no step of ours."""


@pytest.fixture
def build(vocabulary):
    """`build("bart")`: a generator in evaluation mode."""

    def build(name="bart", num_queries=2, copying=False):
        torch.manual_seed(0)
        adapter = HistoryAdapter([torch.randn(size, 5) for size in SPEC.rq_sizes], 16, num_queries, num_heads=2)
        backbone = (BACKBONES | DECODERS | PECULIAR)[name](vocabulary.size)
        return Generator(backbone, vocabulary, adapter, Copier(16, NUM_PLACES) if copying else None).eval()

    return build


@pytest.fixture(params=BACKBONES)
def bare_backbone(request):
    """Each kind of encoder-decoder, as its name and what builds it with a number of tokens."""
    return request.param, BACKBONES[request.param]


@pytest.fixture(params=BACKBONES)
def generator(build, request):
    """Each of the backbones in turn."""
    return build(request.param)


@pytest.fixture(params=DECODERS)
def decoder(build, request):
    """Each of the decoders alone in turn."""
    return build(request.param)


@pytest.fixture
def make_prompt(vocabulary):
    """Rows of token ids, padded with 1 → PromptBatch without history; `sids` are those of the `<item>`s, in order."""

    def make(*rows, history=None, sids=None):
        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[1] * (width - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        if sids is None:
            return PromptBatch(ids, mask, history, None, None)
        is_item = ids == vocabulary.marker("<item>")
        listed = torch.full((*ids.shape, sids.shape[1]), -1)
        listed[is_item] = sids
        places = torch.full_like(ids, -1)
        places[is_item] = torch.arange(len(sids))
        return PromptBatch(ids, mask, history, listed, places)

    return make


@pytest.fixture
def listing(vocabulary, make_prompt):
    """Two prompts: one lists three items, two of them with the same first codes, the other none."""
    item = vocabulary.marker("<item>")
    sids = torch.tensor([[1, 2, 0, 1, 0], [1, 2, 1, 0, 1], [3, 0, 0, 2, 1]])
    return make_prompt([5, item, item, 6, item, 2], [7, 8, 2], sids=sids)
