"""Every shipped YAML through the real parsers: what it configures exists, and takes values of that type."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from handful import CONFIGS
from onesearch.log.sources import Source
from onesearch.main import main
from onesearch.pipeline import STEPS

STAGES = [step.name for step in STEPS if step.name != "log"]
RECIPES = sorted(path.parent for path in CONFIGS.glob("*/log.yaml"))
LOGS = sorted({*CONFIGS.glob("data/*.yaml"), *CONFIGS.glob("*/log.yaml")})
OVERLAYS = sorted(path for path in CONFIGS.glob("*/*.yaml") if path not in LOGS)
BESIDE = {"fit": (), "predict": ("--return_predictions", "false")}


def name_of(path: Path) -> str:
    return path.relative_to(CONFIGS).as_posix()


def stage_of(path: Path) -> str:
    """The stage that a file configures: its own name begins with it, or else it says so in its first line."""
    first = path.read_text("utf-8").partition("\n")[0]
    found = [stage for stage in STAGES if path.stem.startswith(stage) or f"configs/{stage}.yaml" in first]
    assert found, f"{name_of(path)} does not say which stage it configures: name configs/STAGE.yaml in its first line"
    return max(found, key=len)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the command line was parsed to; stage, DataModule and trainer are built, and nothing runs."""
    from onesearch import training

    seen: list[Any] = []

    class ParseOnly(training.StageCLI):
        def _run_subcommand(self, subcommand: str) -> None:
            seen.append(self)

    monkeypatch.setattr(training, "StageCLI", ParseOnly)
    return seen


def parse(files: list[Path], verb: str, run: Path) -> None:
    configs = [argument for file in files for argument in ("-c", str(file))]
    main([verb, *configs, "--run", str(run), *BESIDE[verb], "--trainer.accelerator", "cpu"])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_own_configuration_builds_the_stage(stage, parsed, tmp_path):
    """Its folder is the step's name, its run reaches stage and data, and it reads what the pipeline says it needs."""
    step = next(step for step in STEPS if step.name == stage)
    for verb in step.verbs:
        parse([CONFIGS / f"{stage}.yaml"], verb, tmp_path / "run")
        cli = parsed.pop()
        assert cli.model.name == stage
        assert cli.model.run == cli.datamodule.run == tmp_path / "run"
        assert set(step.needs) - {"reward", "tagger"} <= set(cli.model.parents)
        assert Path(cli.trainer.default_root_dir) == tmp_path / "run" / "training" / stage


@pytest.mark.parametrize("path", OVERLAYS, ids=name_of)
def test_an_overlay_fits_its_stage(path, parsed, tmp_path):
    """A recipe's file over the stage's own one; whatever it states is taken over, nothing dropped."""
    stage = stage_of(path)
    parse([CONFIGS / f"{stage}.yaml", path], "fit", tmp_path / "run")
    config = parsed[0].config["fit"]
    for part, stated in yaml.safe_load(path.read_text("utf-8")).items():
        assert agrees(stated, config[part]), part


@pytest.mark.parametrize("stage", ["sft_align", "sft_cooccur", "sft_personalize"])
@pytest.mark.parametrize("path", sorted(CONFIGS.glob("backbone/*.yaml")), ids=name_of)
def test_a_backbone_fits_all_sft_stages(path, stage, parsed, tmp_path):
    """One file for the three, over a recipe's too: the tokenizer reaches the stage by its link, the tasks stay."""
    files = [CONFIGS / f"{stage}.yaml", CONFIGS / "demo" / f"{stage}.yaml", path]
    parse(files, "fit", tmp_path / "run")
    stated, cli = yaml.safe_load(path.read_text("utf-8")), parsed[0]
    name = stated["model"]["init_args"]["backbone"]["init_args"]["name"]
    assert (cli.model.backbone.name, cli.model.tokenizer_name, cli.datamodule.tokenizer_name) == (name, name, name)
    assert cli.model.optimization.lr == stated["model"]["init_args"]["optimization"]["lr"]
    steps = cli.trainer.accumulate_grad_batches * cli.datamodule.batch_size
    assert (steps, cli.trainer.precision) == (512, "bf16-mixed")
    assert len(cli.datamodule.tasks) >= 2


def agrees(stated: Any, taken: Any) -> bool:
    """Whether all that is stated was taken over; sequences and numbers may have changed their type."""
    if isinstance(stated, dict):
        return all(agrees(value, taken[name]) for name, value in stated.items())
    if isinstance(stated, list):
        return len(stated) == len(taken) and all(map(agrees, stated, taken))
    return bool(stated == taken or str(stated) == str(taken))


def test_what_is_stated_must_be_taken_over():
    """The check of the test above can fail: another value, and a shorter list."""
    assert agrees({"a": [1, {"b": 2.0}]}, {"a": (1, {"b": 2, "c": 3}), "d": 4})
    assert not agrees({"a": [1, {"b": 2.0}]}, {"a": (1, {"b": 3})})
    assert not agrees([1, 2], [1])


@pytest.mark.parametrize("path", LOGS, ids=name_of)
def test_a_log_is_described_by_a_source_that_exists(path, monkeypatch, tmp_path):
    """`onesearch prepare` takes the file, and builds its source; nothing is read."""
    asked: list[Any] = []
    monkeypatch.setattr("onesearch.log.prepare.prepare", lambda *arguments: asked.append(arguments))
    main(["prepare", "--config", str(path), "--run", str(tmp_path / "run")])
    source, folder, _, max_history = asked[0]
    assert isinstance(source, Source)
    assert folder == tmp_path / "run" / "log"
    assert max_history > 0


def test_recipes_are_there_and_every_step_has_a_configuration():
    """The demo and the Best Buy recipe; every step but the log has a file of its own beside them."""
    assert {"demo", "bestbuy"} <= {path.name for path in RECIPES}
    assert [stage for stage in STAGES if not (CONFIGS / f"{stage}.yaml").is_file()] == []


def test_a_misspelt_option_is_refused(parsed, tmp_path, capsys):
    """`dims` is none of the encoder's options: exit code 2, and the last line names it."""
    (tmp_path / "overlay.yaml").write_text("model: {init_args: {dims: 3}}", "utf-8")
    with pytest.raises(SystemExit) as stopped:
        parse([CONFIGS / "encoder.yaml", tmp_path / "overlay.yaml"], "fit", tmp_path / "run")
    assert stopped.value.code == 2
    assert "dims" in capsys.readouterr().err
    assert parsed == []
