"""Every stage goes on from a checkpoint inside an epoch as if it had never stopped: weights, optimizer, figures."""

import os
import shutil
import signal
from pathlib import Path

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from handful import write
from onesearch.data.alignment import AlignmentData
from onesearch.data.hard_negatives import HardNegatives
from onesearch.data.preferences import PreferenceData
from onesearch.data.reward import RewardData
from onesearch.data.tagging import TaggingData
from onesearch.main import main
from onesearch.models.reward_towers import RewardSize
from onesearch.models.text_encoder import FreshEncoder
from onesearch.resilience import signals
from onesearch.resilience.checkpoints import WholeCheckpoints, newest
from onesearch.stages.dpo import LoggedDpo
from onesearch.stages.encoder import EncoderStage
from onesearch.stages.reward import RewardStage
from onesearch.stages.stage import Optimization
from onesearch.stages.tagger import TaggerStage

pytestmark = pytest.mark.filterwarnings("ignore")
QUIET = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
BACKBONE = FreshEncoder(hidden=32, layers=1, heads=2)
FAST = Optimization(lr=3e-3, averaging=0.9)


def encoder(run):
    """Half of the judgments, and negatives, are mined at the start of the second epoch."""
    hard = HardNegatives(2, 0, 12, first_epoch=1, judged_share=0.5)
    data = AlignmentData(run, batch_size=32, vocab_size=400, hard=hard, bpe_dropout=0.1)
    return EncoderStage(run, BACKBONE, dim=16, optimization=FAST), data


def tagger(run):
    return TaggerStage(run, BACKBONE, dropout=0.3, optimization=FAST), TaggingData(run, batch_size=8, vocab_size=400)


def reward(run):
    stage = RewardStage(run, size=RewardSize(dropout=0.3), optimization=FAST)
    return stage, RewardData(run, batch_size=16, num_candidates=8, keep_negatives=0.7)


def dpo(run):
    stage = LoggedDpo(run, "dpo_logged", "sft_personalize", num_beams=4, optimization=FAST)
    return stage, PreferenceData(run, "dpo_logged", "sft_personalize", batch_size=16, num_validation=4)


TWO = {"devices": 2, "strategy": "ddp_fork_find_unused_parameters_true"}
STAGES = {"encoder": encoder, "tagger": tagger, "reward": reward, "dpo_logged": dpo}


def fitted(parts, run, folder, checkpoint=None, **options):
    """What a fit of two epochs ends with; every step is kept."""
    lightning.seed_everything(1 if checkpoint else 0, verbose=False)  # its beginning does not matter
    os.environ["PL_GLOBAL_SEED"] = "0"
    saved = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    stage, data = parts(run)
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        default_root_dir=run,
        num_sanity_val_steps=0,
        limit_val_batches=1,
        callbacks=[saved],
        plugins=[WholeCheckpoints()],
        **QUIET,
        **options,
    )
    trainer.fit(stage, data, ckpt_path=checkpoint)
    last = newest([folder])
    assert last is not None
    kept = WholeCheckpoints().load_checkpoint(last)
    return {name: kept[name] for name in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")}


def differing(one, other, place=""):
    """Where two checkpoints are not the same, bit for bit."""
    if isinstance(one, torch.Tensor):
        return [] if torch.allclose(one, other, rtol=0, atol=0, equal_nan=True) else [place]
    if isinstance(one, dict):
        keys = sorted(one.keys() | other.keys(), key=str)
        return [found for key in keys for found in differing(one.get(key), other.get(key), f"{place}/{key}")]
    if isinstance(one, list):
        return [found for part in zip(one, other, strict=True) for found in differing(*part, place)]
    return [] if one == other else [place]


@pytest.mark.parametrize(("name", "processes"), [*((name, {}) for name in STAGES), ("tagger", TWO), ("reward", TWO)])
def test_goes_on_inside_an_epoch(tiny_run_copy, tmp_path, name, processes):
    """From the second step of the second epoch, with dropout, averages, and what was drawn or mined for the epoch."""
    parts, run = STAGES[name], tiny_run_copy
    if name == "dpo_logged":
        stage, data = parts(run)
        lightning.Trainer(accelerator="cpu", enable_checkpointing=False, **QUIET).predict(
            stage, data, return_predictions=False
        )
    whole = fitted(parts, run, tmp_path / "whole", **processes)
    artefact = {path.name: path.read_bytes() for path in (run / name).glob("*.safetensors")}
    num_batches = whole["global_step"] // 2
    assert num_batches > 3
    shutil.rmtree(run / name)
    rest = fitted(parts, run, tmp_path / "rest", tmp_path / "whole" / f"step={num_batches + 2}.ckpt", **processes)
    assert differing(rest, whole) == []
    assert artefact == {path.name: path.read_bytes() for path in (run / name).glob("*.safetensors")}


class Asked(lightning.Callback):
    """Is sent a signal in the middle of a step.

    Args:
        step: of the whole fit, from 0.
        signum: the signal's name.
    """

    def __init__(self, step: int, signum: str) -> None:
        self.step, self.signum = step, signum

    def on_before_backward(self, trainer, pl_module, loss):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.Signals[self.signum])


@pytest.fixture
def handlers():
    """As they were."""
    before = [signal.getsignal(signum) for signum in signals.STOPS]
    yield
    for signum, handler in zip(signals.STOPS, before, strict=True):
        signal.signal(signum, handler)
    signals._heard.asked = None


@pytest.mark.usefixtures("handlers")
def test_asked_to_stop_it_keeps_its_last_step(tiny_run_copy, tmp_path, capsys):
    """SIGTERM in step 1, SIGUSR1 in an epoch's last step 3, which goes on to the next; then the bits of a whole fit.

    A step gathers two batches, and is never stopped between them.
    Each time with exit code 75 and a sentence; the same command goes on, and nothing is left of the interruptions.
    """
    run, epochs = tiny_run_copy, 2
    shutil.rmtree(run / "reward", ignore_errors=True)
    checkpoints = run / "training" / "reward" / "checkpoints"

    def command(*asked):
        trainer = {"max_epochs": epochs, "limit_val_batches": 1, "limit_train_batches": 8, "enable_progress_bar": False}
        trainer |= {"accumulate_grad_batches": 2}
        trainer |= {"accelerator": "cpu", "enable_model_summary": False, "logger": False, "num_sanity_val_steps": 0}
        if asked:
            there = {"class_path": f"{__name__}.Asked", "init_args": dict(zip(("step", "signum"), asked, strict=True))}
            trainer["callbacks"] = [there]
        config = {"trainer": trainer, "data": {"init_args": {"batch_size": 8, "num_candidates": 8}}}
        overlay = write(tmp_path / "reward.yaml", config)
        shipped = Path(__file__).parents[2] / "configs" / "reward.yaml"
        main(["fit", "-c", str(shipped), "-c", str(overlay), "--run", str(run), "--ckpt_path", "last"])

    command()
    whole = (run / "reward" / "reward.safetensors").read_bytes()
    shutil.rmtree(run / "reward")
    shutil.rmtree(run / "training")
    for asked, kept in (((1, "SIGTERM"), 2), ((3, "SIGUSR1"), 5)):
        with pytest.raises(SystemExit) as stopped:
            command(*asked)
        assert stopped.value.code == 75
        told = capsys.readouterr().err.splitlines()[-1]
        assert told.startswith(
            f"onesearch: stopped by {asked[1]}: step {kept} is kept in {checkpoints}/interrupted.ckpt"
        )
        assert WholeCheckpoints().load_checkpoint(newest([checkpoints]))["global_step"] == kept
        assert not (run / "reward").exists()
    command()
    assert (run / "reward" / "reward.safetensors").read_bytes() == whole
    assert not (checkpoints / "interrupted.ckpt").exists()
