"""The SFT stage goes on from a checkpoint inside an epoch as if it had never stopped."""

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from onesearch.data.sft import SftData
from onesearch.models.generator import FreshGenerator
from onesearch.stages.sft import SftStage
from onesearch.tasks.align import QueryToSid, SidToQuery

QUIET = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)


class Told(SftStage):
    """Remembers the prompts that it was given."""

    def training_step(self, batch, number):
        self.told.append(batch.prompt.input_ids.tolist())
        return super().training_step(batch, number)


def fitted(run, num_workers=0, callbacks=(), checkpoint=None, **options):
    """Prompts of each step, and the weights at the end."""
    lightning.seed_everything(0, verbose=False)
    backbone = FreshGenerator(hidden=32, encoder_layers=1, decoder_layers=1, heads=2, max_length=256, dropout=0.1)
    stage = Told(run, "sft_new", "sid", backbone=backbone)
    stage.told = []
    data = SftData(
        run,
        [QueryToSid(), SidToQuery()],
        batch_size=8,
        vocab_size=400,
        pool=3,
        num_validation=1,
        num_workers=num_workers,
    )
    trainer = lightning.Trainer(
        accelerator="cpu", default_root_dir=run, num_sanity_val_steps=0, callbacks=list(callbacks), **QUIET, **options
    )
    trainer.fit(stage, data, ckpt_path=checkpoint)
    return stage.told, stage.generator.state_dict()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_goes_on_inside_an_epoch(tiny_run_copy, num_workers):
    """From the first and the second epoch, not at the end of a pool: the same prompts, and bits, with dropout."""
    saved = ModelCheckpoint(tiny_run_copy / "saved", "{step}", every_n_train_steps=1, save_top_k=-1)
    told, weights = fitted(tiny_run_copy, 0, [saved], max_epochs=2)
    num_batches = len(told) // 2
    assert num_batches > 8
    assert told[num_batches:] != told[:num_batches]
    for step in (7, num_batches, num_batches + 4):
        checkpoint = tiny_run_copy / "saved" / f"step={step}.ckpt"
        rest, found = fitted(
            tiny_run_copy, num_workers, checkpoint=checkpoint, max_epochs=2, enable_checkpointing=False
        )
        assert rest == told[step:]
        assert all(torch.equal(found[name], weights[name]) for name in weights)


@pytest.mark.filterwarnings("ignore")
def test_a_longer_fit_shows_the_next_epoch(tiny_run_copy):
    """From the end of the first epoch's checkpoint, with workers: the second epoch's prompts, not the first's again."""
    saved = ModelCheckpoint(tiny_run_copy / "saved", "{epoch}", save_top_k=-1)
    told, _ = fitted(tiny_run_copy, 0, [saved], max_epochs=2)
    checkpoint = tiny_run_copy / "saved" / "epoch=0.ckpt"
    rest, _ = fitted(tiny_run_copy, 1, checkpoint=checkpoint, max_epochs=2, enable_checkpointing=False)
    assert rest == told[len(told) // 2 :]


@pytest.mark.filterwarnings("ignore")
def test_overfits_the_same_batches(tiny_run_copy):
    """`overfit_batches` is for a look at what can be learnt by heart: two batches again and again."""
    told, _ = fitted(tiny_run_copy, max_epochs=3, overfit_batches=2, enable_checkpointing=False)
    assert len(told) == 6
    assert told[0] != told[1]
    assert told[:2] == told[2:4] == told[4:]
