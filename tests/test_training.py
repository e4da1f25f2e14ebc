"""What `onesearch fit` adds to Lightning: loggers, the stage's folder, and the checkpoint to go on from."""

from pathlib import Path

import lightning
import pytest
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from onesearch.stages.quantizer import QuantizerStage
from onesearch.training import loggers, stage_name


@pytest.mark.parametrize(
    ("mode", "key", "offline"),
    [("disabled", "secret", None), ("", "", True), ("", "secret", False), ("offline", "secret", True)],
)
def test_csv_always_and_wandb_where_it_can_be_reached(monkeypatch, tmp_path, mode, key, offline):
    """WANDB_MODE decides; without it a key means online, no key offline. Nothing is sent before the first figure."""
    for name, value in (("WANDB_MODE", mode), ("WANDB_API_KEY", key)):
        monkeypatch.delenv(name, raising=False)
        if value:
            monkeypatch.setenv(name, value)
    csv, *others = loggers(tmp_path / "demo" / "training" / "encoder", "encoder")
    assert isinstance(csv, CSVLogger)
    assert Path(csv.log_dir) == tmp_path / "demo" / "training" / "encoder" / "csv"
    assert [type(logger) for logger in others] == ([] if offline is None else [WandbLogger])
    for logger in others:
        assert logger._offline is offline
        assert logger._wandb_init["group"] == "demo"


def test_a_stage_is_called_by_its_name_and_anything_else_by_its_class(tmp_path):
    class Other(lightning.LightningModule):
        """Not of ours."""

    assert stage_name(QuantizerStage(tmp_path)) == "quantizer"
    assert stage_name(Other()) == "other"


def test_a_run_leaves_curves_configuration_and_a_last_checkpoint(whole_run):
    """Under training/STAGE: the figures, the configuration that was used, and the name that `--ckpt_path last` finds.

    The quantizer learns nothing by gradient: it has no checkpoint, since none could bring its codebook back.
    """
    for stage in ("encoder", "sft_align", "reward", "dpo_hybrid"):
        folder = whole_run / "training" / stage
        assert (folder / "csv" / "metrics.csv").stat().st_size > 0
        assert list(folder.rglob("config.yaml"))
        assert [path.name for path in folder.rglob("last.ckpt")] == ["last.ckpt"], stage
    assert not list((whole_run / "training" / "quantizer").rglob("*.ckpt"))


def test_a_fast_dev_run_leaves_no_artefact(whole_run, tmp_path):
    """Lightning's rehearsal of one batch trains nothing worth handing on."""
    from handful import copied, launch, overlays

    run = copied(whole_run, tmp_path / "run", "quantizer")
    launch(run, "fit", "reward", overlays(0.0)["reward"], "--trainer.fast_dev_run", "true")
    assert not (run / "reward").exists()
