"""What `onesearch fit` adds to Lightning: loggers, the stage's folder, and the checkpoint to go on from."""

import csv
import shutil
from pathlib import Path
from types import SimpleNamespace

import lightning
import pytest
import wandb
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from handful import curves
from onesearch.models.tagger import Tagger
from onesearch.models.text_encoder import TextEncoder
from onesearch.resilience.checkpoints import WholeCheckpoints
from onesearch.stages.quantizer import QuantizerStage
from onesearch.training import StageCLI, loggers, stage_name


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
    curve, *others = loggers(tmp_path / "demo" / "training" / "encoder", "encoder")
    assert isinstance(curve, CSVLogger)
    assert Path(curve.log_dir) == tmp_path / "demo" / "training" / "encoder" / "csv" / "version_0"
    assert len(others) == (offline is not None)
    for logger in others:
        assert isinstance(logger, WandbLogger)
        assert logger._offline is offline
        assert logger._wandb_init["group"] == "demo"


def test_a_training_that_goes_on_is_one_run_of_wandb(monkeypatch, tmp_path):
    """The id of its first start; another training, or the same one anew, has another. WANDB_RUN_ID wins."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)

    def wandb_id(stage: str, goes_on: bool) -> str:
        (logger,) = loggers(tmp_path / "demo" / "training" / stage, stage, goes_on)[1:]
        assert logger._wandb_init["resume"] == "allow"
        return logger._wandb_init["id"]

    first = wandb_id("encoder", True)
    assert wandb_id("encoder", True) == first
    other = wandb_id("reward", True)
    anew = wandb_id("encoder", False)
    assert len({first, other, anew}) == 3
    assert wandb_id("encoder", True) == anew
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    assert wandb_id("encoder", True) == "mine"


def test_figures_wait_where_wandb_cannot_be_reached(monkeypatch, tmp_path):
    """One sentence, and the run is one on the disk. `python -m benchmarks.faults` tries it on the real client."""
    kept = SimpleNamespace(dir=tmp_path / "wandb", id="1", log=lambda figures: None)

    def init(**options):
        if options.get("mode") != "offline":
            raise wandb.errors.CommError("connection\nrefused")
        return kept

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "init", init)
    logger = loggers(tmp_path / "training", "encoder")[1]
    sentence = rf"W&B could not be reached \(connection refused\): .* {tmp_path}/wandb, `wandb sync` sends them later"
    with pytest.warns(UserWarning, match=sentence):
        assert logger.experiment is kept
    assert logger.experiment is kept


def test_a_scheduler_requeues_and_lightning_does_not(monkeypatch):
    """Two that do would fight: on SLURM its environment stands, without its handlers, beside what is configured."""
    cli, configured = object.__new__(StageCLI), LightningEnvironment()
    cli.config_init = {"trainer": {"plugins": None}}
    cli._get = lambda config, name: config[name]
    monkeypatch.setattr(SLURMEnvironment, "detect", lambda: False)
    assert [type(plugin) for plugin in cli._plugins()] == [WholeCheckpoints]
    cli.config_init["trainer"]["plugins"] = configured
    assert cli._plugins()[0] is configured
    monkeypatch.setattr(SLURMEnvironment, "detect", lambda: True)
    _, slurm, _ = cli._plugins()
    assert isinstance(slurm, SLURMEnvironment)
    assert slurm.auto_requeue is False


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
        assert [path.stat().st_size > 0 for path in curves(whole_run, stage)] == [True]
        assert list(folder.rglob("config.yaml"))
        assert [path.name for path in folder.rglob("last.ckpt")] == ["last.ckpt"], stage
    assert not list((whole_run / "training" / "quantizer").rglob("*.ckpt"))


def test_a_second_start_keeps_the_curves_of_the_first(whole_run, tmp_path):
    """`fit` again: a version more, and it goes on from the checkpoint of the first; `validate` draws no curve."""
    from handful import copied, launch, overlays

    run = copied(whole_run, tmp_path / "run", "quantizer")
    shutil.copytree(whole_run / "training" / "reward", run / "training" / "reward")
    before = [path.read_bytes() for path in curves(run, "reward")]
    config = overlays(0.0)["reward"]
    config["trainer"]["max_epochs"] += 1
    launch(run, "fit", "reward", config, "--ckpt_path", "last")
    first, second = curves(run, "reward")
    assert [first.read_bytes()] == before
    (epoch,) = {row["epoch"] for row in csv.DictReader(second.open(encoding="utf-8")) if row["epoch"]}
    assert int(epoch) == config["trainer"]["max_epochs"] - 1
    launch(run, "validate", "reward", config)
    assert curves(run, "reward") == [first, second]


def test_what_is_meant_to_be_so_is_no_warning(whole_run, tmp_path, recwarn):
    """The quantizer has no optimizer, an encoder in evaluation mode, one batch and no checkpoint."""
    from handful import copied, launch, overlays

    run = copied(whole_run, tmp_path / "run")
    launch(run, "fit", "quantizer", overlays(0.0)["quantizer"], "--ckpt_path", "last")
    assert [str(warning.message) for warning in recwarn] == []


def test_a_fast_dev_run_leaves_no_artefact(whole_run, tmp_path):
    """Lightning's rehearsal of one batch trains nothing worth handing on."""
    from handful import copied, launch, overlays

    run = copied(whole_run, tmp_path / "run", "quantizer")
    launch(run, "fit", "reward", overlays(0.0)["reward"], "--trainer.fast_dev_run", "true")
    assert not (run / "reward").exists()


@pytest.mark.parametrize("stage", ["encoder", "tagger"])
def test_a_text_is_cut_where_training_cut_it(whole_run, tmp_path, stage):
    """`max_length` is written once, for the data: positions that training never saw would mean nothing."""
    from handful import copied, launch, overlays

    run = copied(whole_run, tmp_path / "run")
    launch(run, "fit", stage, overlays(0.0)[stage], "--data.init_args.max_length", "7")
    loaded = {"encoder": TextEncoder, "tagger": Tagger}[stage].load(run / stage)
    assert loaded.max_length == 7
