"""`onesearch fit` from pretrained checkpoints as their authors save them, with the overlays of configs/backbone."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    MBartConfig,
    MBartForConditionalGeneration,
    MBartTokenizer,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from handful import COLORS, CONFIGS, FIT_SPLITS, THINGS, copied, facts, overlay, overlays, refusal, write
from onesearch.log.prepared import Log
from onesearch.main import main
from onesearch.models.generator import FreshGenerator, Generator
from onesearch.serve.engine import SearchEngine
from onesearch.stages.sft import SftStage
from onesearch.tasks.collation import collate_prompts
from onesearch.tasks.prompt import Views
from onesearch.types import PromptBatch, UserError

WORDS = [*THINGS, *COLORS]
LETTERS = sorted(set("".join(WORDS)))
BART = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 400,
}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
UNUSED = 12
"""Rows that mT5's tables have beyond its tokens."""


def facebook_bart(folder: Path) -> PreTrainedModel:
    """vocab.json and merges.txt of byte-level BPE."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(WORDS, 300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False)
    bpe.save_model(str(folder))
    return BartForConditionalGeneration(BartConfig(vocab_size=bpe.get_vocab_size(), **BART))


def chinese_bart(folder: Path) -> PreTrainedModel:
    """BERT's vocab.txt, and its ids of special tokens."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS, *(f"##{sign}" for sign in LETTERS)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), "utf-8")
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 3}
    return BartForConditionalGeneration(
        BartConfig(vocab_size=len(vocabulary), tokenizer_class="BertTokenizer", **ids, **BART)
    )


def unigram(*special: str) -> list[tuple[str, float]]:
    """Words, letters and the space, as SentencePiece scores them."""
    return [(token, 0.0) for token in special] + [(f"▁{word}", -1.0) for word in WORDS] + [(s, -5.0) for s in LETTERS]


def mbart(folder: Path) -> PreTrainedModel:
    """Languages among its tokens, and no token to start from."""
    tokenizer = MBartTokenizer(vocab=[*unigram("<s>", "<pad>", "</s>", "<unk>"), ("▁", -2.0), ("<mask>", 0.0)])
    tokenizer.save_pretrained(folder)
    return MBartForConditionalGeneration(MBartConfig(vocab_size=len(tokenizer), scale_embedding=True, **BART))


def t5(folder: Path) -> PreTrainedModel:
    """One table for embeddings and head."""
    tokenizer = T5Tokenizer(vocab=[*unigram("<pad>", "</s>", "<unk>"), ("▁", -2.0)])
    tokenizer.save_pretrained(folder)
    return T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer) + UNUSED, **T5))


def mt5(folder: Path) -> PreTrainedModel:
    """A head of its own, and more rows than tokens."""
    tokenizer = T5Tokenizer(vocab=[*unigram("<pad>", "</s>", "<unk>"), ("▁", -2.0)], extra_ids=0)
    tokenizer.save_pretrained(folder)
    return MT5ForConditionalGeneration(MT5Config(vocab_size=len(tokenizer) + UNUSED, **T5))


def gpt2(folder: Path) -> PreTrainedModel:
    """One token begins, ends and, since it has none for that, pads."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(WORDS, 300, special_tokens=["<|endoftext|>"], show_progress=False)
    bpe.save_model(str(folder))
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 32, "n_positions": 400}
    return GPT2LMHeadModel(GPT2Config(vocab_size=bpe.get_vocab_size(), bos_token_id=0, eos_token_id=0, **sizes))


CHECKPOINTS: dict[str, tuple[Callable[[Path], PreTrainedModel], str]] = {
    "bart": (facebook_bart, "bart-base"),
    "chinese-bart": (chinese_bart, "bart-base-chinese"),
    "mbart": (mbart, "bart-base"),
    "t5": (t5, "mt5-base"),
    "mt5": (mt5, "mt5-base"),
    "gpt2": (gpt2, "qwen2.5-0.5b"),
}


def checkpoint(folder: Path, kind: str) -> Path:
    """A tiny checkpoint of that kind, in bfloat16 where it is an mT5."""
    folder.mkdir()
    torch.manual_seed(0)
    model = CHECKPOINTS[kind][0](folder)
    if kind == "mt5":
        model.to(torch.bfloat16)
    model.save_pretrained(folder)
    if kind == "mt5":
        weights = load_file(folder / "model.safetensors")
        weights["lm_head.weight"] = torch.randn_like(weights["shared.weight"]) / 4
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((folder / "config.json").read_text("utf-8")) | {"tie_word_embeddings": False}
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def fit(run: Path, stage: str, kind: str, folder: Path, **model: object) -> None:
    """Two steps of two batches, with the overlay of the backbone's kind; `folder` takes the place of the hub's name."""
    backbone = {"class_path": "onesearch.models.generator.PretrainedGenerator", "init_args": {"name": str(folder)}}
    small = {"tokenizer": str(folder), "batch_size": 8, "fit_splits": FIT_SPLITS, "num_validation": 8}
    few = {"limit_train_batches": 4, "accumulate_grad_batches": 2}
    config = overlay(1, {"backbone": backbone, "num_beams": 4, **model}, small, **few)
    files = CONFIGS / f"{stage}.yaml", CONFIGS / "backbone" / f"{CHECKPOINTS[kind][1]}.yaml"
    path = write(run / "overlays" / f"{stage}.yaml", config)
    main(["fit", *(part for file in (*files, path) for part in ("-c", str(file))), "--run", str(run)])


def batch(engine: SearchEngine) -> PromptBatch:
    """Texts to be told in SIDs, of different lengths."""
    prompts = [engine.writer.about("ItemToSid", engine.writer.text(text)) for text in ("red kettle", "mug")]
    return collate_prompts(prompts, engine.khqe.item_codes, engine.writer.tokenizer.pad_token_id)


@pytest.mark.parametrize("kind", [kind for kind in CHECKPOINTS if kind != "gpt2"])
def test_a_checkpoint_is_fitted_exported_and_searched(quantizer_run, tmp_path, kind):
    """What plain transformers reads from the export answers with the logits of our own slices; the search uses them."""
    folder = checkpoint(tmp_path / "checkpoint", kind)
    run = copied(quantizer_run, tmp_path / "run", "quantizer")
    fit(run, "sft_align", kind, folder)
    assert facts(run, "sft_align")["num_steps"] == 2
    engine = SearchEngine.open(run, num_beams=16)
    plain = AutoModelForSeq2SeqLM.from_pretrained(run / "sft_align")
    assert plain.dtype == torch.float32
    assert_sids_have_names(run / "sft_align", engine)
    assert_equal_logits(plain, engine.generator, batch(engine), torch.as_tensor(engine.khqe.item_codes[:2]))
    assert_text_is_kept(folder, plain, engine.generator.vocabulary.num_text_tokens)
    found = engine.search(Log.open(run / "log"), "red kettle", k=10)
    assert len({hit.item_id for hit in found}) == 10
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


def test_a_decoder_alone_is_fitted_through_all_stages(quantizer_run, tmp_path):
    """Its export opens in plain transformers with the logits of our own slices; a shopper's search is answered."""
    folder = checkpoint(tmp_path / "checkpoint", "gpt2")
    run = copied(quantizer_run, tmp_path / "run", "quantizer")
    for stage in ("sft_align", "sft_cooccur", "sft_personalize"):
        fit(run, stage, "gpt2", folder)
    engine = SearchEngine.open(run, "sft_personalize", num_beams=16)
    assert_sids_have_names(run / "sft_personalize", engine)
    prompt, sid = engine.writer.about("ItemToSid", engine.writer.text("red kettle")), engine.khqe.item_codes[0]
    batch = collate_prompts([prompt], engine.khqe.item_codes, engine.writer.tokenizer.pad_token_id)
    codes = torch.as_tensor(sid)[None, None]
    tokens = engine.generator.vocabulary.sid_tokens(codes)[0]
    plain = AutoModelForCausalLM.from_pretrained(run / "sft_personalize")
    text = torch.cat([batch.input_ids, torch.tensor([[0]]), tokens[:, :-1]], 1)
    with torch.no_grad():
        logits = plain(input_ids=text).logits[0, batch.input_ids.shape[1] :]
        got = engine.generator.sid_log_probs(engine.generator.encode(batch), codes)[0, 0]
    slices = [engine.generator.vocabulary.level_slice(level) for level in range(len(sid))]
    want = [logits[level, rows].log_softmax(-1)[sid[level]] for level, rows in enumerate(slices)]
    torch.testing.assert_close(got, torch.stack(want), atol=1e-4, rtol=1e-4)
    log = Log.open(run / "log")
    assert engine.generator.vocabulary.marker("<slot>") in engine.prompt(log.context("red-0", "kettle")).tokens
    found = engine.search(log, "kettle", "red-0", k=10)
    assert len({hit.item_id for hit in found}) == 10
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


def assert_sids_have_names(export: Path, engine: SearchEngine) -> None:
    """The exported tokenizer reads a SID as written in an answer, and text as the checkpoint's own does."""
    tokenizer, codes = AutoTokenizer.from_pretrained(export / "sid_tokenizer"), engine.khqe.item_codes[3]
    sid, text = engine.khqe.spec.render(codes.tolist()), engine.writer.tokenizer("red kettle")["input_ids"]
    assert tokenizer(sid, add_special_tokens=False)["input_ids"] == engine.writer.sid(codes)
    assert tokenizer.convert_tokens_to_ids("<slot>") == engine.generator.vocabulary.marker("<slot>")
    assert tokenizer("red kettle")["input_ids"] == text
    assert len(tokenizer) == engine.generator.vocabulary.size
    assert tokenizer.eos_token_id == engine.writer.end


@torch.no_grad()
def assert_equal_logits(plain: PreTrainedModel, generator: Generator, prompt: PromptBatch, codes: torch.Tensor) -> None:
    tokens = generator.vocabulary.sid_tokens(codes)
    start = torch.full_like(tokens[:, :1], plain.config.decoder_start_token_id)
    logits = plain(
        input_ids=prompt.input_ids,
        attention_mask=prompt.attention_mask,
        decoder_input_ids=torch.cat([start, tokens[:, :-1]], 1),
    ).logits
    slices = [generator.vocabulary.level_slice(level) for level in range(codes.shape[1])]
    want = torch.stack(
        [
            logits[:, level, rows].log_softmax(-1).gather(-1, codes[:, level, None]).squeeze(-1)
            for level, rows in enumerate(slices)
        ],
        1,
    )
    got = generator.sid_log_probs(generator.encode(prompt), codes.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def assert_text_is_kept(folder: Path, plain: PreTrainedModel, num_text: int) -> None:
    """Two steps move a weight by less than 2·lr = 6e-4: what text was pretrained to is still there, in both tables."""
    start = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)
    before, after = (
        (model.get_input_embeddings().weight, model.get_output_embeddings().weight) for model in (start, plain)
    )
    assert (before[0] is before[1]) == (after[0] is after[1])
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new[:num_text], old[:num_text], atol=1e-3, rtol=0)


@pytest.fixture(scope="module")
def three_stages(quantizer_run, tmp_path_factory):
    """A bfloat16 mT5 through align, co-occurrence and personalisation, each with the same overlay."""
    folder = checkpoint(tmp_path_factory.mktemp("mt5") / "checkpoint", "mt5")
    run = copied(quantizer_run, folder.parent / "run", "quantizer")
    for stage in ("sft_align", "sft_cooccur", "sft_personalize"):
        fit(run, stage, "mt5", folder)
    return run


def test_all_stages_keep_the_tokens_and_the_head(three_stages):
    """The tokenizer travels along; the head stays a tensor of its own; a shopper's search is answered."""
    log = Log.open(three_stages / "log")
    tokens = [AutoTokenizer.from_pretrained(three_stages / stage) for stage in ("sft_align", "sft_personalize")]
    assert tokens[0].get_vocab() == tokens[1].get_vocab()
    engine = SearchEngine.open(three_stages, "sft_personalize", num_beams=16)
    assert engine.generator.backbone.lm_head.weight is not engine.generator.backbone.shared.weight
    assert engine.generator.backbone.dtype == torch.float32
    context = log.context("red-0", "kettle")
    assert engine.generator.vocabulary.marker("<slot>") in engine.prompt(context).tokens
    assert len(engine.search(log, "kettle", "red-0", k=10)) == 10


def test_slots_of_another_number_are_refused(three_stages):
    """The adapter fills three; 0 shows no history, and needs none."""
    stage = SftStage(three_stages, "again", "search", init_from="sft_cooccur", views=Views(num_slots=5))
    with pytest.raises(
        UserError, match=r"again: 'views.num_slots' is 5, .* 'sft_cooccur' fills 3: set it to 3, or to 0"
    ):
        stage.configure_model()
    SftStage(three_stages, "again", "search", init_from="sft_cooccur", views=Views(num_slots=0)).configure_model()


def test_prompts_beyond_the_positions_are_refused_before_training(quantizer_run, tmp_path, capsys):
    """100 items of 5 tokens: 1 + 500 of 797 in all; the sentence names their view. Other stages do not ask it."""
    small = FreshGenerator(hidden=16, encoder_layers=1, decoder_layers=1, heads=2, max_length=700)
    run = copied(quantizer_run, tmp_path / "run", "quantizer")
    backbone = {"class_path": "onesearch.models.generator.FreshGenerator", "init_args": asdict(small)}
    config = overlays()["sft_align"]
    config["model"]["init_args"] |= {"backbone": backbone, "form": "search"}
    config["data"]["init_args"]["views"] = {"num_similar": 100}
    path = write(run / "overlay.yaml", config)
    said = refusal(capsys, "fit", "-c", str(CONFIGS / "sft_align.yaml"), "-c", str(path), "--run", str(run))
    assert said == (
        "sft_align: a search prompt may have 797 tokens, but the backbone reads 700: lower 'views.num_similar' of "
        "the data, whose part may have 501, or take a backbone with more positions."
    )
    views = Views(num_similar=100)
    SftStage(run, "sft_align", "sid", backbone=small, views=views).configure_model()


def test_sid_embeddings_may_start_fresh(quantizer_run):
    """The same seed draws the same weights; only rows of SIDs, 4 + 4 + 4 + 4 + 4, know the codebook or do not.

    With centroids a row is (fresh + projected) / √2, and the projection as wide as the text's embeddings.
    """
    tables = []
    for start in ("centroids", "fresh"):
        torch.manual_seed(0)
        small = FreshGenerator(hidden=16, encoder_layers=1, decoder_layers=1, heads=2)
        stage = SftStage(quantizer_run, "sft_align", "sid", backbone=small, sid_init=start)
        stage.configure_model()
        tables.append(stage.generator.backbone.get_input_embeddings().weight.detach())
    with_centroids, fresh = tables
    layers = [stage.generator.vocabulary.level_slice(level) for level in range(5)]
    changed = (with_centroids != fresh).any(1).nonzero().squeeze(1)
    assert changed.tolist() == list(range(layers[0].start, layers[4].stop))
    spread = fresh[: layers[0].start].std().item()
    for rows in layers:
        projected = with_centroids[rows] * 2**0.5 - fresh[rows]
        assert projected.std().item() == pytest.approx(spread, rel=1e-4)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_stage_turns_checkpointing_on(three_stages, wanted):
    """mT5's overlay asked for it; it is no part of the export: each stage says anew whether it wants it."""
    stage = SftStage(three_stages, "again", "cooccur", init_from="sft_align", gradient_checkpointing=wanted)
    stage.configure_model()
    found = {getattr(module, "gradient_checkpointing", wanted) for module in stage.generator.modules()}
    assert found == {wanted}


def test_a_copy_of_the_export_needs_nothing_of_the_run(three_stages, tmp_path):
    """The folder alone, moved elsewhere, opens in transformers."""
    folder = shutil.copytree(three_stages / "sft_personalize", tmp_path / "moved")
    assert AutoModelForSeq2SeqLM.from_pretrained(folder).config.vocab_size > len(AutoTokenizer.from_pretrained(folder))
