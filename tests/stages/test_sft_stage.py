"""SftStage beside the CLI: losses of single answers, figures of validation, precision, accumulation, checkpointing."""

from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from onesearch.data.sft import SftData
from onesearch.decoding.free import EverySid
from onesearch.metrics.ranking import hit_rate, hits, pad, reciprocal_rank
from onesearch.models.generator import FreshGenerator
from onesearch.models.generator_folder import load_generator
from onesearch.models.text_tokenizer import train_tokenizer
from onesearch.stages.averaging import Averaging
from onesearch.stages.sft import SftStage
from onesearch.stages.stage import Optimization
from onesearch.tasks.align import QueryToSid, SidToItem, SidToQuery
from onesearch.tasks.prompt import MARKERS
from onesearch.types import UserError

BACKBONE = FreshGenerator(hidden=32, encoder_layers=2, decoder_layers=1, heads=2, max_length=256, dropout=0.0)
CUDA = torch.device("cuda")
TASKS = [QueryToSid(), SidToQuery(), SidToItem()]


class Record(lightning.Callback):
    """Keeps the loss of each batch and the gradients of each step."""

    def __init__(self):
        self.losses, self.gradients = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, *_):
        self.losses.append(outputs["loss"].item())

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.gradients.append({name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None})


@pytest.fixture
def make_stage(tiny_run, monkeypatch):
    """A fresh stage over `tiny_run` that writes no artefact into it."""
    monkeypatch.setattr(SftStage, "on_fit_end", lambda self: None)

    def make(**options):
        stage = SftStage(tiny_run, "sft_new", "sid", backbone=BACKBONE, optimization=Optimization(lr=3e-3), **options)
        torch.manual_seed(0)
        stage.configure_model()
        return stage

    return make


@pytest.fixture(scope="module")
def data(tiny_run):
    found = SftData(tiny_run, TASKS, batch_size=8, vocab_size=400, num_validation=6)
    found.prepare_data()
    found.setup("fit")
    return found


def rows(batch, start, stop):
    """Some rows of a batch."""
    prompt = batch.prompt._replace(**{k: v[start:stop] for k, v in batch.prompt._asdict().items() if v is not None})
    parts = {name: getattr(batch, name) for name in ("codes", "labels", "tasks")}
    return batch._replace(prompt=prompt, **{k: v[start:stop] for k, v in parts.items() if v is not None})


@pytest.fixture(scope="module")
def batches(data):
    """A whole batch of SIDs and one of texts."""
    found = list(data.train_dataloader())
    return [next(b for b in found if (b.codes is None) == texts and len(b.tasks) == 8) for texts in (False, True)]


def loader(batches):
    """Batches as they are."""
    return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)


def test_what_is_built_lies_on_the_cpu_whatever_the_default_device(tiny_run):
    """Lightning builds models with the accelerator as the default device; "meta" stands in for one here."""
    stage = SftStage(tiny_run, "sft_new", "sid", backbone=BACKBONE)
    with torch.device("meta"):
        stage.configure_model()
    assert {p.device.type for p in stage.parameters()} == {"cpu"}
    assert stage.khqe.centroids[0].device.type == "cpu"


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_whatever_optimizer_a_gpu_takes(make_stage, data, fit_stage, monkeypatch, precision):
    """AdamW has its fused kernel for CPUs too, and Lightning refuses it with the same precisions there."""
    fuses = SftStage._can_fuse
    monkeypatch.setattr(SftStage, "_can_fuse", lambda stage: fuses(SimpleNamespace(device=CUDA, trainer=stage.trainer)))
    trainer = fit_stage(make_stage(), data, max_steps=1, precision=precision, gradient_clip_val=1.0)
    assert bool(trainer.optimizers[0].defaults["fused"]) == (precision == "32-true")


@torch.no_grad()
def test_a_rows_loss_is_that_of_the_row_alone(make_stage, batches):
    """Padding beside it changes nothing; the batch's loss is the mean over tokens, as it is for `text_loss`."""
    stage = make_stage().eval()
    for batch in batches:
        losses, lengths = stage.answer_losses(batch)
        alone = [stage.answer_losses(rows(batch, row, row + 1)) for row in range(8)]
        torch.testing.assert_close(losses, torch.cat([loss for loss, _ in alone]), rtol=1e-4, atol=1e-4)
        assert lengths.tolist() == [length.item() for _, length in alone]
        encoded = stage.generator.encode(batch.prompt)
        if batch.codes is not None:
            want = -stage.generator.sid_log_probs(encoded, batch.codes[:, None]).mean()
        else:
            want = stage.generator.text_loss(encoded, batch.labels)
        torch.testing.assert_close(losses.sum() / lengths.sum(), want)


def test_losses_by_task_are_logged(make_stage, data, fit_stage):
    """Validation: each task's mean over its six examples (4 and 6 where the split has 4 queries), by brute force."""
    stage = make_stage()
    trainer = fit_stage(stage, data, epochs=1, log_every_n_steps=1)
    stage.eval()
    by_task = {name: [] for name in ("QueryToSid", "SidToQuery", "SidToItem")}
    with torch.no_grad():
        for batch in data.val_dataloader()[1]:
            for row, task in enumerate(batch.tasks.tolist()):
                loss, length = stage.answer_losses(rows(batch, row, row + 1))
                by_task[batch.task_names[task]].append((loss / length).item())
    for name, losses in by_task.items():
        assert trainer.callback_metrics[f"val/loss/{name}"].item() == pytest.approx(np.mean(losses), rel=1e-4)
    assert 0 <= trainer.callback_metrics["train/padding"].item() < 1


def test_figures_of_validation_are_those_of_the_beams(make_stage, data):
    """HR, MRR, right prefixes and existing SIDs of four searches, worked out one by one; 400 of 3,072 SIDs are free."""
    stage = make_stage(num_beams=400).eval()
    contexts = data.validation[:4]
    figures = stage._figures(contexts)
    assert set(figures) == {
        *(f"{name}@{k}" for name in ("hr", "mrr") for k in (1, 5, 10)),
        *(f"match_l{level}" for level in range(1, 6)),
        "valid_sids",
    }
    answers = pad([ranked.items.tolist() for ranked in stage.engine.rank(contexts, 10)], 10)
    found = hits(answers, [context.clicked for context in contexts])
    for k in (1, 5, 10):
        assert figures[f"hr@{k}"].tolist() == hit_rate(found, k).tolist()
        assert figures[f"mrr@{k}"].tolist() == reciprocal_rank(found, k).tolist()
    for number, context in enumerate(contexts):
        best = stage.engine.beams([context]).codes[0, 0].tolist()
        wanted = [stage.khqe.item_codes[item].tolist() for item in context.clicked]
        for level in range(1, 6):
            assert figures[f"match_l{level}"][number] == any(best[:level] == sid[:level] for sid in wanted)
    existing = set(map(tuple, stage.khqe.item_codes.tolist()))
    every = EverySid(stage.khqe.spec.sizes)
    free = stage.engine.beams_within(contexts, every)[0].codes.flatten(0, 1).tolist()
    assert figures["valid_sids"].tolist() == [tuple(sid) in existing for sid in free]
    assert len(free) == 4 * 400
    assert 0 < np.mean(figures["valid_sids"]) < 1


def test_compiled_layers_train_as_the_others_do(make_stage, data, fit_stage):
    """The same losses of six steps, checkpoint names and beams, with graphs that serve every layer and every length."""
    torch.compiler.reset()  # whatever other tests compiled
    graphs, losses, names = [], [], []

    def keep(graph, _):
        graphs.append(graph)
        return graph.forward

    for backend in (None, keep):
        record, stage = Record(), make_stage(compile_backend=backend)
        fit_stage(stage, data, callbacks=[record], limit_train_batches=6, limit_val_batches=1)
        losses.append(record.losses)
        names.append(list(stage.state_dict()))
        assert "val/hr@10" in stage.trainer.callback_metrics
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert names[0] == names[1]
    # Two encoder layers share theirs; the decoder has its own. Without padding there is no mask, which makes another.
    assert 2 <= len(graphs) <= 9 < 6 * 3  # steps and layers


def test_half_precision_trains_as_full_precision_does(make_stage, data, fit_stage):
    """The losses of six steps in bfloat16 lie within 2% of those in float32."""
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        record, stage = Record(), make_stage()
        fit_stage(stage, data, precision=precision, callbacks=[record], limit_train_batches=6, limit_val_batches=0)
        assert all(p.dtype == torch.float32 for p in stage.parameters())
        losses.append(record.losses)
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]


@pytest.mark.parametrize("kind", [0, 1])
def test_two_batches_of_four_weigh_as_one_of_eight(make_stage, batches, fit_stage, kind):
    """Without dropout, the gradient of the step is the same; texts of unlike lengths weigh by batch, so cut alike."""
    batch = batches[kind]
    if batch.labels is not None:
        batch = batch._replace(labels=batch.labels[:, :2].contiguous())
        assert (batch.labels != -100).all()
    steps = []
    for parts, accumulated in (([batch], 1), ([rows(batch, 0, 4), rows(batch, 4, 8)], 2)):
        record = Record()
        fit_stage(
            make_stage(), loader(parts), accumulate_grad_batches=accumulated, callbacks=[record], limit_val_batches=0
        )
        assert len(record.losses) == accumulated
        (gradients,) = record.gradients
        steps.append(gradients)
    assert steps[0].keys() == steps[1].keys()
    for name, gradient in steps[0].items():
        torch.testing.assert_close(steps[1][name], gradient, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_gradient_checkpointing_computes_again_and_changes_no_gradient(make_stage, batches, fit_stage):
    """Each encoder layer runs once a batch, or twice where its states are not kept; the beams keep their cache."""
    found = []
    for checkpointing in (False, True):
        record, stage = Record(), make_stage(gradient_checkpointing=checkpointing)
        runs = []
        stage.generator.backbone.get_encoder().layers[0].fc1.register_forward_hook(lambda *_, runs=runs: runs.append(1))
        fit_stage(stage, loader(batches), callbacks=[record], limit_val_batches=0)
        assert len(runs) == (4 if checkpointing else 2)
        found.append(record)
    assert found[1].losses == pytest.approx(found[0].losses, rel=1e-5)
    for plain, again in zip(found[0].gradients, found[1].gradients, strict=True):
        for name, gradient in plain.items():
            torch.testing.assert_close(again[name], gradient, rtol=1e-4, atol=1e-6)


def test_what_is_averaged_is_what_is_exported(tiny_run_copy, tmp_path):
    """The folder holds the average; where a fit goes on after its first epoch it comes out the same, bit for bit."""

    def fit(name, ckpt_path=None):
        lightning.seed_everything(0, verbose=False)
        optimization = Optimization(lr=3e-3, averaging=0.9)
        stage = SftStage(tiny_run_copy, name, "sid", backbone=BACKBONE, optimization=optimization)
        data = SftData(tiny_run_copy, [QueryToSid(), SidToQuery()], batch_size=16, vocab_size=400)
        keep = ModelCheckpoint(tmp_path / name, filename="{epoch}", save_top_k=-1)
        quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
        trainer = lightning.Trainer(
            max_epochs=2, accelerator="cpu", callbacks=[keep], default_root_dir=tmp_path, limit_val_batches=0, **quiet
        )
        trainer.fit(stage, data, ckpt_path=ckpt_path)
        return trainer.callbacks

    (average,) = (callback for callback in fit("whole") if isinstance(callback, Averaging))
    fit("resumed", tmp_path / "whole" / "epoch=0.ckpt")
    exported = dict(load_generator(tiny_run_copy / "whole", MARKERS)[0].named_parameters())
    resumed = dict(load_generator(tiny_run_copy / "resumed", MARKERS)[0].named_parameters())
    assert {f"generator.{name}" for name in exported} == set(average.average)
    for name, weight in exported.items():
        assert torch.equal(weight, average.average[f"generator.{name}"]), name
        assert torch.equal(weight, resumed[name]), name
    assert any(not torch.equal(weight, average.average[name]) for name, weight in average.own.items())


def test_prompts_in_other_tokens_than_the_generators_are_refused(make_stage, tiny_run, fit_stage, tmp_path):
    """Outside of the command line data and stage can be given different tokenizers."""
    train_tokenizer(["a red boot"], 280).save_pretrained(tmp_path / "other")
    other = SftData(tiny_run, [QueryToSid()], tokenizer=str(tmp_path / "other"))
    with pytest.raises(UserError, match=r"sft_new: prompts are written with a tokenizer of \d+ tokens, .* 'init_from'"):
        fit_stage(make_stage(), other)
