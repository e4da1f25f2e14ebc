"""The encoder stage on two processes: figures and mined negatives must be those of one."""

import lightning
import pytest
import torch

from onesearch.data.alignment import AlignmentData
from onesearch.data.hard_negatives import HardNegatives
from onesearch.models.text_encoder import FreshEncoder
from onesearch.stages.encoder import EncoderStage

QUIET = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
TWO = {"devices": 2, "strategy": "ddp_fork"}


def trainer(run, **options):
    return lightning.Trainer(accelerator="cpu", default_root_dir=run, num_sanity_val_steps=0, **QUIET, **options)


class Compared(EncoderStage):
    """Checks in training that every process has every text's vector."""

    def on_train_batch_start(self, batch, batch_idx):
        texts = ["red boots", "rug", "blue kettle", "lamp", "acme"]
        torch.testing.assert_close(self.embed_all(texts), self.encoder.embed(texts))
        assert self.embed_all(texts[:1]).shape == (1, 16)


@pytest.mark.filterwarnings("ignore")
def test_validation_agrees(tiny_run):
    """36 items and the queries of the validation split over one process and over two, some of them twice."""
    alone, shared = (
        trainer(tiny_run, **options).validate(
            EncoderStage(tiny_run), AlignmentData(tiny_run, batch_size=8), verbose=False
        )[0]
        for options in ({"devices": 1}, TWO)
    )
    names = [f"val/{name}{which}" for name in ("recall@10", "recall@100", "mrr@10") for which in ("", "_unseen")]
    assert set(names) - set(alone) <= {name for name in names if name.endswith("_unseen")}
    for name in set(names) & set(alone):
        assert shared[name] == pytest.approx(alone[name])
    assert alone["val/recall@100"] == 1  # of 36 items


@pytest.mark.filterwarnings("ignore")
def test_learns_with_hard_negatives(tiny_run_copy):
    """Two epochs, the second with negatives that both processes mined together; the result is handed on."""
    stage = Compared(tiny_run_copy, FreshEncoder(hidden=32, layers=1, heads=2), dim=16)
    hard = HardNegatives(2, 0, 12, first_epoch=1)
    data = AlignmentData(tiny_run_copy, batch_size=32, vocab_size=400, hard=hard)
    before = (tiny_run_copy / "encoder" / "manifest.json").read_text("utf-8")
    trainer(tiny_run_copy, max_epochs=2, **TWO).fit(stage, data)
    assert (tiny_run_copy / "encoder" / "manifest.json").read_text("utf-8") != before
