"""The SFT stage on two processes: each takes its part of every batch, in step, and figures are those of one."""

import json

import lightning
import pytest

from handful import GENERATOR, backbone, facts, launch, overlay
from onesearch.data.sft import SftData
from onesearch.models.generator import FreshGenerator
from onesearch.stages.sft import SftStage
from onesearch.tasks.align import QueryToSid, SidToQuery

QUIET = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
TWO = {"devices": 2, "strategy": "ddp_fork_find_unused_parameters_true"}
TASKS = [QueryToSid(), SidToQuery()]


class Told(SftStage):
    """Writes down which kinds of batches its process was given."""

    def on_fit_start(self):
        super().on_fit_start()
        self.kinds = []

    def training_step(self, batch, number):
        self.kinds.append([batch.codes is None, len(batch.tasks)])
        return super().training_step(batch, number)

    def on_train_end(self):
        path = self.run / f"kinds-{self.trainer.world_size}-{self.trainer.global_rank}.json"
        path.write_text(json.dumps(self.kinds), "utf-8")


def trainer(run, **options):
    return lightning.Trainer(accelerator="cpu", default_root_dir=run, num_sanity_val_steps=0, **QUIET, **options)


def parts(run, name="sft_new"):
    backbone = FreshGenerator(hidden=32, encoder_layers=1, decoder_layers=1, heads=2, max_length=256)
    return Told(run, name, "sid", backbone=backbone), SftData(run, TASKS, batch_size=4, vocab_size=400, pool=5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("injected", [False, True])
def test_two_processes_take_as_many_steps_of_the_same_kinds(tiny_run_copy, injected):
    """Whether or not Lightning deals data out itself: batches of 4 + 4 in place of 8, the last ones shorter."""
    stage, data = parts(tiny_run_copy)
    trainer(tiny_run_copy, max_epochs=2, use_distributed_sampler=injected, **TWO).fit(stage, data)
    one, two = (json.loads((tiny_run_copy / f"kinds-2-{rank}.json").read_text("utf-8")) for rank in range(2))
    assert len(one) > 8
    assert [kind for kind, _ in one] == [kind for kind, _ in two]
    data.setup("fit")
    num_queries = len(data.corpus.queries)
    assert sum(size for _, size in one + two) in range(2 * 2 * num_queries, 2 * 2 * num_queries + 5)  # 2 tasks, epochs
    assert (tiny_run_copy / "sft_new" / "manifest.json").is_file()


@pytest.mark.filterwarnings("ignore")
def test_validation_agrees(tiny_run):
    """The generator of `sft_align` judged by one process, and by two that each read everything, as shipped."""
    figures = []
    for options in ({"devices": 1}, {**TWO, "use_distributed_sampler": False}):
        stage = SftStage(tiny_run, "again", "sid", init_from="sft_align", num_beams=10)
        data = SftData(tiny_run, TASKS, batch_size=4, init_from="sft_align", num_validation=24)
        figures.append(trainer(tiny_run, **options).validate(stage, data, verbose=False)[0])
    alone, shared = figures
    assert {"val/hr@5", "val/mrr@1", "val/match_l1", "val/valid_sids", "val/loss/QueryToSid"} < set(alone)
    assert shared == pytest.approx(alone, rel=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_the_shipped_stage_fits_on_two_processes(tiny_run_copy):
    """No prompt of stage 1 shows a history: the adapter's weights get no gradient, and no process waits for one."""
    model = {"backbone": backbone("generator.FreshGenerator", GENERATOR), "name": "sft_new"}
    two = {"devices": 2, "strategy": "ddp_fork", "max_steps": 3, "limit_val_batches": 0}
    launch(tiny_run_copy, "fit", "sft_align", overlay(1, model, {"batch_size": 8, "vocab_size": 400}, **two))
    assert facts(tiny_run_copy, "sft_new")["num_steps"] == 3
