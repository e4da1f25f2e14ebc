"""`onesearch plan`, beside the fit that it plans."""

import json
import math
import shutil

import pytest
from safetensors.torch import load_file

from handful import CONFIGS, refusal, write
from onesearch.artifacts import MANIFEST
from onesearch.main import main
from onesearch.planning.work import work_of

BUFFER = "final_logits_bias"  # BART's, which is not learnt


def sentences(found, words):
    """The warnings that say something."""
    return [one for one in found["warnings"] if words in one]


def test_a_plan_is_what_the_fit_then_does(planned, tiny_run_copy, tmp_path, capsys):
    """Samples, batches, steps and the checkpoint, planned first and then trained with the same line."""
    file = tmp_path / "plan.json"
    found = planned("sft_align", "--json", str(file), run=tiny_run_copy)
    assert json.loads(file.read_text("utf-8")) == json.loads(json.dumps(found))
    shutil.rmtree(tiny_run_copy / "sft_align")
    overlay = tmp_path / "sft_align.yaml"
    quiet = write(tmp_path / "quiet.yaml", {"trainer": {"num_sanity_val_steps": 0, "limit_val_batches": 0}})
    files = [arg for path in (CONFIGS / "sft_align.yaml", overlay, quiet) for arg in ("-c", str(path))]
    options = ("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false")
    main(["fit", *files, "--run", str(tiny_run_copy), *options, "--trainer.enable_model_summary", "false"])
    facts = json.loads((tiny_run_copy / "sft_align" / MANIFEST).read_text("utf-8"))["facts"]
    assert found["work"]["steps"] == facts["num_steps"]
    (checkpoint,) = (tiny_run_copy / "training" / "sft_align" / "checkpoints").glob("epoch*.ckpt")
    size = checkpoint.stat().st_size
    assert found["checkpoints"]["bytes"] == pytest.approx(size, abs=80_000)  # names and what the loops remember
    assert found["checkpoints"]["bytes"] > size / 2
    weights = load_file(tiny_run_copy / "sft_align" / "model.safetensors")
    in_backbone = sum(part["parameters"] for name, part in found["parts"].items() if name != "adapter")
    assert in_backbone == sum(t.numel() for name, t in weights.items() if name != BUFFER)
    assert "memory a device" in capsys.readouterr().out


def test_a_plan_leaves_the_run_as_it_is(planned, tiny_run):
    """Neither a file more, nor one written anew."""

    def state():
        return {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")}

    before = state()
    planned("sft_align", "--data.init_args.vocab_size", "300")  # another tokenizer than stands there
    assert state() == before


@pytest.mark.parametrize("world", [1, 3])
def test_processes_share_the_batches(tiny_run, world):
    """As the mixture deals them out when there are several."""
    from onesearch.data.sft import SftData
    from onesearch.tasks.align import QueryToSid, SidToItem

    data = SftData(tiny_run, [QueryToSid(weight=1.5), SidToItem()], batch_size=4, vocab_size=400)
    data.setup("fit")
    loader = data.train_dataloader()
    loader.batches.mixture.world = world
    trainer = {"max_epochs": 5, "accumulate_grad_batches": 2}
    work = work_of(loader, 4, world, trainer)
    assert work.num_batches == len(loader)
    assert work.global_batch == 4 * world * 2
    assert work.steps == 5 * math.ceil(len(loader) / 2)
    assert work_of(loader, 4, world, {**trainer, "max_steps": 7}).steps == 7
    assert work_of(loader, 4, world, {**trainer, "limit_train_batches": 3}).num_batches == 3
    assert work_of(loader, 4, world, {"max_epochs": -1}).steps is None


def test_a_gpu_that_is_not_here_is_planned_for(planned):
    """Eight of them, in mixed precision; time by the formula."""
    options = ("--trainer.accelerator", "gpu", "--trainer.devices", "8", "--trainer.precision", "bf16-mixed")
    found = planned("sft_align", *options, "--gpu", "H100", "--mfu", "0.5", "--peak_tflops", "1e-3")
    assert (found["device"]["processes"], found["device"]["memory"]) == (8, 80e9)
    assert found["work"]["global_batch"] == 32 * 8 * 3
    flops, batches = found["flops"], found["work"]["all_batches"]
    assert flops["all"] == flops["batch"] * batches * 8
    assert flops["seconds"] == pytest.approx(flops["batch"] * batches / (0.5 * 1e9))
    assert found["memory"]["gradients sent (DDP)"] == found["memory"]["gradients"]
    plain = planned("sft_align", "--gpu", "H100")
    assert plain["flops"]["waits_for_launches"]
    assert found["memory"]["step"] < plain["memory"]["step"]


def test_what_a_stage_has_none_of_is_said(planned):
    """The quantizer has frozen weights; popularity has none."""
    found = planned("quantizer")
    assert "learns nothing by gradient" in found["notes"][0]
    assert (found["memory"]["gradients"], found["checkpoints"]["number"], found["memory"]["step"]) == (0, 0, 0)
    assert found["memory"]["weights"] > 0
    assert found["work"]["samples"] == 36 + len(_queries(found))
    reward = planned("reward")
    assert {"embeddings", "interest", "towers", "search side"} <= set(reward["parts"])
    assert reward["flops"]["batch"] > 0
    counts = planned("reward", "--model.init_args.size.architecture", "popularity")
    assert counts["memory"]["optimizer"] == 0
    assert "flops" not in counts


def _queries(found):
    import pyarrow.parquet as pq

    return pq.read_table(f"{found['run']}/log/queries.parquet")


def test_missing_parents_are_named(planned, tiny_run):
    """A preference stage whose lists are not written yet, and a run that is not there."""
    found = planned("dpo_logged", "--model.init_args.init_from", "sft_personalize")
    (sentence,) = found["warnings"]
    assert sentence.startswith(f"{tiny_run}/dpo_logged_lists holds no finished artefact")
    assert "parts" not in found
    gone = planned("sft_align", run=tiny_run.parent / "gone")
    assert len(sentences(gone, "holds no finished artefact")) == 2


def test_stale_parents_are_named(planned, tiny_run_copy):
    """The log is another one than quantizer and encoder were made from."""
    path = tiny_run_copy / "log" / MANIFEST
    manifest = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**manifest, "fingerprint": "another"}), "utf-8")
    found = planned("sft_align", run=tiny_run_copy)
    assert sentences(found, f"{tiny_run_copy}/quantizer was made from log {manifest['fingerprint']}")


def test_a_model_that_cannot_be_read_is_one_sentence(planned, tmp_path):
    backbone = {"class_path": "onesearch.models.generator.PretrainedGenerator", "init_args": {"name": "./nowhere"}}
    overlay = write(tmp_path / "pretrained.yaml", {"model": {"init_args": {"backbone": backbone}}})
    found = planned("sft_align", "-c", str(overlay))
    assert len(sentences(found, "'./nowhere' cannot be read")) == 1
    assert sentences(found, "states hidden, encoder_layers, decoder_layers, heads, max_length, which the class")


def test_preference_stages_are_planned(whole_run, tmp_path):
    """Their prompts and candidates, from the lists that `predict` wrote."""
    from handful import overlays
    from onesearch.planning.plan import plan

    for stage in ("dpo_hybrid", "tagger"):
        overlay = write(tmp_path / f"{stage}.yaml", overlays(0.0)[stage])
        found = plan(["-c", str(CONFIGS / f"{stage}.yaml"), "-c", str(overlay), "--run", str(whole_run)])
        manifest = json.loads((whole_run / stage / MANIFEST).read_text("utf-8"))
        assert found["work"]["steps"] == manifest["facts"]["num_steps"]
        assert found["memory"]["step"] > found["memory"]["kept"] > 0
        assert sum(part["parameters"] for part in found["parts"].values()) > 0


def test_mistakes_are_one_sentence(tiny_run, capsys):
    arguments = ("plan", "-c", str(CONFIGS / "sft_align.yaml"), "--run", str(tiny_run))
    assert "--mfu is 35" in refusal(capsys, *arguments, "--mfu", "35")

    assert "Abacus is not known here" in refusal(capsys, *arguments, "--gpu", "Abacus")
    assert "max_epocks" in refusal(capsys, *arguments, "--trainer.max_epocks", "3")
