"""`onesearch fit` of the three SFT stages with their shipped task lists, each starting from the one before."""

import shutil

import pytest
import torch

from handful import BLIND_MRR, CONFIGS, THINGS, copied, curves, facts, fingerprint, launch, logged, overlays, refusal
from onesearch.log.prepared import Log
from onesearch.log.text import item_texts
from onesearch.models.generator_folder import load_generator
from onesearch.models.text_tokenizer import load_tokenizer, train_tokenizer
from onesearch.serve.engine import SearchEngine
from onesearch.stages.sft import SftStage
from onesearch.tasks.collation import collate_prompts
from onesearch.tasks.prompt import MARKERS, Views
from onesearch.types import UserError


def kinds_of(log: Log, items) -> list[str]:
    return [log.items["category"][int(row)].as_py()[-1] for row in items]


@torch.inference_mode()
def read(engine: SearchEngine, prompts):
    """The encoder's states of some prompts."""
    engine.generator.eval()
    pad = engine.writer.tokenizer.pad_token_id
    return engine.generator.encode(collate_prompts(prompts, engine.khqe.item_codes, pad))


@torch.inference_mode()
def told(engine: SearchEngine, prompts) -> list[str]:
    """What the generator writes as text, word by word the likeliest one."""
    encoded = read(engine, prompts)
    backbone, tokenizer = engine.generator.backbone, engine.writer.tokenizer
    written = torch.full((len(prompts), 1), backbone.config.decoder_start_token_id)
    for _ in range(12):
        states = backbone.get_decoder()(
            input_ids=written, encoder_hidden_states=encoded.hidden, encoder_attention_mask=encoded.attention_mask
        )
        head = backbone.get_output_embeddings().weight
        written = torch.cat([written, (states.last_hidden_state[:, -1] @ head.T).argmax(-1, keepdim=True)], 1)
    texts = []
    for row in written[:, 1:].tolist():
        end = row.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in row else len(row)
        texts.append(tokenizer.decode(row[:end], skip_special_tokens=True).strip())
    return texts


@pytest.fixture(scope="module")
def aligned(align_run):
    return SearchEngine.open(align_run, "sft_align", num_beams=8)


def test_align_learns_each_items_sid(align_run, aligned):
    """Item text → SID: for each of the 16 items its own SID is likelier than the other fifteen."""
    texts = item_texts(Log.open(align_run / "log").items)
    writer = aligned.writer
    encoded = read(aligned, [writer.about("ItemToSid", writer.text(text)) for text in texts])
    codes = torch.as_tensor(aligned.khqe.item_codes).expand(16, -1, -1)
    with torch.inference_mode():
        log_probs = aligned.generator.sid_log_probs(encoded, codes).sum(-1)
    assert log_probs.argmax(1).tolist() == list(range(16))


def test_align_learns_categories_as_text(align_run, aligned):
    """Item text and item SID → category, read back letter by letter."""
    log, writer = Log.open(align_run / "log"), aligned.writer
    kinds = kinds_of(log, range(16))
    from_text = [writer.about("ItemToCategory", writer.text(text)) for text in item_texts(log.items)]
    from_sid = [writer.about("SidToCategory", writer.item_tokens[row]) for row in range(16)]
    assert told(aligned, from_text) == kinds
    assert told(aligned, from_sid) == kinds


def test_cooccur_learns_what_a_query_is_clicked_for(cooccur_run):
    """SID of "kettle" → the four kettles above the twelve other items, in its own form of prompt."""
    log, engine = Log.open(cooccur_run / "log"), SearchEngine.open(cooccur_run, "sft_cooccur", num_beams=16)
    assert engine.form == "cooccur"
    answers = [ranked.items for ranked in engine.rank([log.context(None, thing) for thing in THINGS], 4)]
    assert [kinds_of(log, items) for items in answers] == [[thing] * 4 for thing in THINGS]


def test_what_validation_and_training_tell(align_run, personalize_run):
    """Losses of all seven tasks, held out and in training; shares by K and by level; the shop has 16 of 1,024 SIDs."""
    tasks = ("QueryToSid", "ItemToSid", "SidToQuery", "SidToItem", "QueryToCategory", "ItemToCategory", "SidToCategory")
    for task in tasks:
        losses = logged(align_run, "sft_align", f"train/loss/{task}")
        assert losses[-1] < losses[0]
        (held_out,) = logged(align_run, "sft_align", f"val/loss/{task}")
        assert 0 < held_out < 2
    for name in ("hr", "mrr"):
        shares = [logged(personalize_run, "sft_personalize", f"val/{name}@{k}")[-1] for k in (1, 5, 10)]
        assert shares == sorted(shares)
    matches = [logged(personalize_run, "sft_personalize", f"val/match_l{level}")[-1] for level in range(1, 6)]
    assert matches == sorted(matches, reverse=True)
    assert matches[-1] == pytest.approx(logged(personalize_run, "sft_personalize", "val/hr@1")[-1], abs=0.2)
    assert 0 < logged(personalize_run, "sft_personalize", "val/valid_sids")[-1] <= 16 / 20
    assert all(0 <= share < 0.5 for share in logged(align_run, "sft_align", "train/padding"))


def test_options_for_large_models(align_run, tmp_path):
    """Averaged weights, states computed again, half precision and two batches a step, all from the command line."""
    run = copied(align_run, tmp_path / "run", "quantizer", "sft_align")
    config = overlays(0.0)["sft_cooccur"]
    config["model"]["init_args"] |= {"gradient_checkpointing": True, "optimization": {"lr": 1e-3, "averaging": 0.9}}
    config["trainer"] |= {"precision": "bf16-mixed", "accumulate_grad_batches": 2}
    launch(run, "fit", "sft_cooccur", config)
    assert facts(run, "sft_cooccur")["num_steps"] > 0
    assert SearchEngine.open(run, "sft_cooccur", num_beams=4).generator.backbone.dtype == torch.float32


def test_the_tokenizer_comes_from_the_stage_before(align_run, tmp_path, capsys):
    """Named nowhere and gone from the run, it is that of `sft_align`; another one is refused."""
    run = copied(align_run, tmp_path / "run", "quantizer", "sft_align")
    shutil.rmtree(run / "tokenizer")
    launch(run, "fit", "sft_cooccur", overlays(0.0)["sft_cooccur"])
    assert load_tokenizer(run / "sft_cooccur").get_vocab() == load_tokenizer(run / "sft_align").get_vocab()
    train_tokenizer(["a red kettle"], 270).save_pretrained(tmp_path / "other")
    arguments = ("fit", "-c", str(CONFIGS / "sft_cooccur.yaml"), "--run", str(run), "--trainer.accelerator", "cpu")
    refused = refusal(capsys, *arguments, "--data.init_args.tokenizer", str(tmp_path / "other"))
    assert refused.startswith(f"The tokenizer '{tmp_path}/other' has other tokens than the one that 'sft_align' was")


def test_personalize_learns_who_asks(personalize_run):
    """The colour is in the history alone: better than an MRR of 0.52 is impossible without reading it."""
    reached = logged(personalize_run, "sft_personalize", "val/mrr@10")[-1]
    assert reached > 0.95 > BLIND_MRR
    assert facts(personalize_run, "sft_personalize")["metrics"]["val/mrr@10"] == pytest.approx(reached)


def test_validate_answers_as_training_did(personalize_run, capsys):
    """`onesearch validate` on the last checkpoint finds the MRR that the last epoch found."""
    (checkpoint,) = (personalize_run / "training" / "sft_personalize").rglob("last.ckpt")
    reached = logged(personalize_run, "sft_personalize", "val/mrr@10")[-1]
    before = fingerprint(personalize_run, "sft_personalize")
    kept = [path.read_bytes() for path in curves(personalize_run, "sft_personalize")]
    launch(
        personalize_run, "validate", "sft_personalize", overlays()["sft_personalize"], "--ckpt_path", str(checkpoint)
    )
    row = next(line for line in capsys.readouterr().out.splitlines() if "val/mrr@10" in line)
    assert float(row.strip("│ ").split("│")[1]) == pytest.approx(reached, abs=1e-4)
    assert fingerprint(personalize_run, "sft_personalize") == before
    assert [path.read_bytes() for path in curves(personalize_run, "sft_personalize")] == kept


def test_a_generator_on_another_codebook_is_refused(align_run, tmp_path, capsys):
    """The quantizer is fitted again with other sizes: the sentence names both codebooks."""
    run = copied(align_run, tmp_path / "run", "quantizer", "sft_align")
    config = overlays()["quantizer"]
    config["model"]["init_args"]["codebook"]["init_args"]["rq_sizes"] = [4, 4, 2]
    launch(run, "fit", "quantizer", config)
    old, new = fingerprint(align_run, "quantizer"), fingerprint(run, "quantizer")
    arguments = ("fit", "-c", str(CONFIGS / "sft_cooccur.yaml"), "--run", str(run), "--trainer.accelerator", "cpu")
    for refused in (refusal(capsys, *arguments), refusal(capsys, "search", "kettle", "--run", str(run))):
        assert refused.startswith(f"{run}/sft_align was made from quantizer {old}, but quantizer {new} is given")


def test_copying_asks_for_folded_items(align_run):
    """The copier repeats what takes one position; nothing of that kind is in an unfolded prompt."""
    stage = SftStage(align_run, "sft_personalize", "search", init_from="sft_align", copying=True)
    with pytest.raises(UserError, match=r"sft_personalize: 'copying' .* set 'views.fold_sids' of the data to true"):
        stage.configure_model()


@pytest.mark.parametrize(("before", "copying"), [("sft_align", True), ("sft_personalize", False)])
def test_the_copier_comes_and_goes_with_the_option(personalize_run, before, copying):
    """It joins a generator that had none, and leaves one that had it."""
    assert (load_generator(personalize_run / before, MARKERS)[0].copier is None) == copying
    views = Views(fold_sids=True, max_text=6)
    stage = SftStage(personalize_run, "again", "search", init_from=before, views=views, copying=copying)
    stage.configure_model()
    assert (stage.generator.copier is not None) == copying
