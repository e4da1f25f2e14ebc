"""Every shipped YAML through the real parsers: what it configures exists, and takes values of that type."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from handful import CONFIGS
from onesearch.ablation.study import Study, Variant, chosen
from onesearch.log.sources import Source
from onesearch.main import main
from onesearch.pipeline import STEPS, seed_options

STAGES = [step.name for step in STEPS if step.name != "log"]
RECIPES = sorted(path.parent for path in CONFIGS.glob("*/log.yaml"))
LOGS = sorted({*CONFIGS.glob("data/*.yaml"), *CONFIGS.glob("*/log.yaml")})
OVERLAYS = sorted(path for path in CONFIGS.glob("*/*.yaml") if path not in LOGS)
STUDIES = sorted(path for path in CONFIGS.glob("ablation/*") if path.is_dir())
GENERATING = [recipe for recipe in RECIPES if (recipe / "sft_personalize.yaml").is_file()]
VARIANTS = [variant for folder in STUDIES for variant in Study.open(folder, CONFIGS / "demo").variants]
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


def parse(files: list[Path], verb: str, run: Path, *options: str) -> None:
    configs = [argument for file in files for argument in ("-c", str(file))]
    main([verb, *configs, "--run", str(run), *BESIDE[verb], "--trainer.accelerator", "cpu", *options])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_own_configuration_builds_the_stage(stage, parsed, tmp_path):
    """Its folder is the step's name, its run reaches stage and data, and it reads what the pipeline says it needs.

    A study's seed reaches whatever draws.
    """
    step = next(step for step in STEPS if step.name == stage)
    for verb in step.verbs:
        parse([CONFIGS / f"{stage}.yaml"], verb, tmp_path / "run", *seed_options(step, 7))
        cli = parsed.pop()
        config = cli.config[verb]
        seeds = [config[part].init_args.get("seed", 7) for part in ("model", "data")]
        assert [config.seed_everything, *seeds] == [7, 7, 7]
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


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: name_of(variant.folder))
def test_a_variant_fits_the_recipe(variant: Variant, parsed, tmp_path):
    """Each stage that it changes, over the demo's; whatever study and variant state is taken over."""
    for step in variant.steps:
        if overlays := [file for file in variant.files(step) if CONFIGS / "ablation" in file.parents]:
            parse(variant.files(step), "fit", tmp_path / "run")
            config = parsed.pop().config["fit"]
            for part, stated in OmegaConf.merge(*map(OmegaConf.load, overlays)).items():
                assert agrees(OmegaConf.to_container(stated), config[part]), (step.name, part)


@pytest.mark.parametrize("recipe", GENERATING, ids=name_of)
@pytest.mark.parametrize("folder", STUDIES, ids=name_of)
def test_no_variant_is_the_same_as_another(folder, recipe):
    """Nor does one change a stage that it does not train; the first changes nothing, or the tokenizer."""
    study = Study.open(folder, recipe)
    found = [
        [(step.name, OmegaConf.merge(*map(OmegaConf.load, variant.files(step)))) for step in variant.steps]
        for variant in chosen(study, [])
    ]
    assert len(found) > 1
    assert all(found.index(each) == place for place, each in enumerate(found))


def test_studies_are_there():
    """Those that the paper has: of the tokenizer, its parts, the stages and the views of behaviour."""
    assert {"tokenizers", "codebook", "stages", "views"} <= {path.name for path in STUDIES}


def test_a_view_that_is_taken_away_is_all_that_a_variant_changes():
    """Over any recipe: the fields that differ from the first variant's, by hand."""
    short, long = {"num_recent_queries", "num_recent_clicks"}, {"max_history", "num_relevant_sids"}
    expected = [set(), short, long, {"sliding"}, {"user_id"}, {*short, *long, "user_id"}]
    for recipe in GENERATING:
        variants = Study.open(CONFIGS / "ablation" / "views", recipe).variants
        found = [OmegaConf.merge(*map(OmegaConf.load, v.files(v.steps[0]))).data.init_args.views for v in variants]
        assert [{name for name in views if views[name] != found[0][name]} for views in found] == expected
        assert all(not views[name] for views, names in zip(found, expected, strict=True) for name in names)


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
