"""The whole of OneSearch through `onesearch pipeline`, on the handful's shop with hardly any training."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import grimp
import pytest

import onesearch
from handful import CONFIGS, facts, fingerprint, in_this_process, launch, logged, overlays, recipe, refusal, write
from onesearch.artifacts import read_manifest, verify
from onesearch.handover import begin, end
from onesearch.log.prepared import Log
from onesearch.main import main
from onesearch.pipeline import (
    BESIDE_THE_STAGES,
    STEPS,
    code_version,
    configs,
    needs,
    steps_of,
)
from onesearch.serve.engine import SearchEngine, trained
from onesearch.types import UserError

NAMES = [step.name for step in STEPS]


@pytest.fixture
def folder(whole_run: Path, tmp_path: Path) -> Path:
    """A copy of the whole run and its recipe, to be changed.

    The recipe is part of what a step depends on, by its content and not by its place; the log's names its files' place.
    """
    shutil.copytree(whole_run.parent, tmp_path / "copy")
    return tmp_path / "copy"


def again(folder: Path, *options: str) -> list[tuple[str, list[str]]]:
    """Run the pipeline; what it ran."""
    with in_this_process() as launched:
        main(["pipeline", "--run", str(folder / "run"), "--recipe", str(folder / "recipes" / "handful"), *options])
    return launched


def verbs(launched: list[tuple[str, list[str]]]) -> list[str]:
    return [f"{name} {arguments[0]}" for name, arguments in launched]


def test_every_step_leaves_its_artefact(whole_run):
    """Each folder bears its step's name, is intact, and was made from the folders that the step says it needs."""
    kinds = {name: name for name in ("log", "encoder", "tagger", "quantizer", "reward")}
    for step in STEPS:
        parents = [whole_run / need for need in step.needs if kinds.get(need) or need != "reward"]
        manifest = verify(whole_run / step.name, kinds.get(step.name, "generator"))
        made_from = set(manifest.parents.values())
        direct = [fingerprint(whole_run, parent.name) for parent in parents if parent.name != "reward"]
        assert set(direct) <= made_from, step.name
        stamp = json.loads((whole_run / "training" / step.name / "step.json").read_text("utf-8"))
        assert stamp["done"] is True


def test_a_second_run_skips_every_step_and_says_so(folder, capsys):
    capsys.readouterr()
    assert again(folder) == []
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == NAMES
    assert all("unchanged, skipped" in line for line in lines)


def test_a_changed_overlay_repeats_what_depends_on_it(folder):
    """The reward model's overlay changes: reward and the preferences that need it run, and nothing else."""
    config = overlays(0.0)["reward"]
    config["model"]["init_args"]["optimization"] = {"lr": 2e-2}
    write(folder / "recipes" / "handful" / "reward.yaml", config)
    kept = {name: fingerprint(folder / "run", name) for name in NAMES}
    ran = verbs(again(folder))
    assert ran[0] == "reward fit"
    assert set(ran) <= {"reward fit", "dpo_hybrid predict", "dpo_hybrid fit", "dpo_logged predict", "dpo_logged fit"}
    assert "dpo_hybrid predict" in ran
    unchanged = NAMES[: NAMES.index("reward")]
    assert {name: fingerprint(folder / "run", name) for name in unchanged} == {name: kept[name] for name in unchanged}
    assert fingerprint(folder / "run", "reward") != kept["reward"]
    assert again(folder) == []


def test_an_optional_step_runs_where_the_recipe_has_a_file_for_it(folder):
    """Another tagger: the quantizer that mines with it is fitted again. Without a file of its own none is asked for."""
    steps, overlay = folder / "recipes" / "handful", overlays(0.0)
    overlay["tagger"]["data"]["init_args"]["seed"] = 1
    write(steps / "tagger.yaml", overlay["tagger"])
    assert verbs(again(folder, "--until", "quantizer")) == ["tagger fit", "quantizer fit"]
    (steps / "tagger.yaml").unlink()
    shutil.rmtree(folder / "run" / "tagger")
    write(steps / "quantizer.yaml", overlay["quantizer"])
    assert verbs(again(folder, "--until", "quantizer")) == ["quantizer fit"]
    assert not (folder / "run" / "tagger").exists()
    assert again(folder, "--until", "quantizer") == []


def test_a_damaged_artefact_is_made_again(folder):
    """Both the quantizer, which learns without gradients, and a generator are healed to what they were, byte for byte.

    What depends on them is then up to date, since nothing changed.
    """
    run = folder / "run"
    kept = {name: fingerprint(run, name) for name in ("quantizer", "sft_align")}
    (run / "quantizer" / "spec.json").write_text("{}", "utf-8")
    (run / "sft_align" / "adapter.safetensors").unlink()
    assert verbs(again(folder)) == ["quantizer fit", "sft_align fit"]
    assert {name: fingerprint(run, name) for name in kept} == kept


@pytest.mark.parametrize(
    ("stage", "stated", "read"),
    [
        ("quantizer", {}, {"log", "encoder"}),
        ("quantizer", {"tagger": True}, {"log", "encoder", "tagger"}),
        ("sft_align", {}, {"log", "quantizer"}),
        ("sft_cooccur", {}, {"log", "quantizer", "sft_align"}),
        ("sft_personalize", {"init_from": "sft_align"}, {"log", "quantizer", "sft_align"}),
        ("sft_personalize", {"init_from": None}, {"log", "quantizer"}),
        ("dpo_hybrid", {}, {"log", "quantizer", "sft_personalize", "reward"}),
    ],
)
def test_a_step_reads_what_its_configuration_says(stage, stated, read, tmp_path):
    """The last file wins; a tagger that no keyword is mined with, and a stage that nobody starts from, are not read."""
    step = next(step for step in STEPS if step.name == stage)
    files = [CONFIGS / f"{stage}.yaml", write(tmp_path / "overlay.yaml", {"model": {"init_args": stated}})]
    found = needs(step, files)
    assert set(found) == read
    assert len(found) == len(read)


@pytest.mark.parametrize(
    ("file", "is_counted"),
    [
        *(("tasks/task.py", True), ("tasks/templates/en.yaml", True), ("data/samples.py", False)),
        *(("tasks/show.py", False), ("serve/service.py", False), ("serve/http/app.py", False)),
    ],
)
def test_code_that_only_prints_or_serves_repeats_no_stage(file, is_counted, tmp_path, monkeypatch):
    code = Path(shutil.copytree(Path(onesearch.__file__).parent, tmp_path / "onesearch"))
    monkeypatch.setattr(onesearch, "__file__", str(code / "__init__.py"))
    known = code_version()
    with (code / file).open("a") as source:
        source.write("# changed\n")
    assert (code_version() != known) == is_counted
    assert code_version([file]) != known  # unless it is asked for


def test_no_stage_imports_what_stands_beside_the_stages():
    """Or else a change there would leave an artefact that it made as it was."""
    printed = {"report"}  # what the tokenizer doctor finds, in the terminal
    beside = {f"onesearch.{place.removesuffix('.py').replace('/', '.')}" for place in {*BESIDE_THE_STAGES} - printed}
    graph = grimp.build_graph("onesearch")
    assert beside <= graph.modules
    for makes in ("stages", "log", "data.sft", "data.reward", "data.preferences"):
        read = graph.find_upstream_modules(f"onesearch.{makes}", as_package=True)
        assert not {module for module in read if any(f"{module}.".startswith(f"{place}.") for place in beside)}


def test_a_further_round_has_a_folder_of_its_own(folder):
    """It starts from the last generator, with lists of its own, and then answers; the rounds before stay as they are.

    A file that names no folder of its own, or no start, is refused: it would train over the first round.
    """
    run, path = folder / "run", folder / "recipes" / "handful" / "dpo_hybrid_2.yaml"
    before = {stage: fingerprint(run, stage) for stage in ("dpo_hybrid", "dpo_logged")}
    for stated in ({"name": "dpo_hybrid_2"}, {"name": "dpo_hybrid", "init_from": "dpo_logged"}):
        write(path, {"model": {"init_args": stated}})
        with pytest.raises(UserError, match=r"dpo_hybrid_2.yaml is a further round of dpo_hybrid: .* 'name' to dpo_h"):
            configs(steps_of(path.parent)[-1], path.parent)
    write(path, {"model": {"init_args": {"name": "dpo_hybrid_2", "init_from": "dpo_logged"}}})
    assert verbs(again(folder)) == ["dpo_hybrid_2 predict", "dpo_hybrid_2 fit"]
    assert {stage: fingerprint(run, stage) for stage in before} == before
    parents = read_manifest(run / "dpo_hybrid_2_lists").parents
    assert (parents["generator"], parents["reward"]) == (before["dpo_logged"], fingerprint(run, "reward"))
    assert trained(run)[-3:] == ["dpo_hybrid", "dpo_logged", "dpo_hybrid_2"]
    verify(run / "dpo_hybrid_2", "generator", [run / "dpo_hybrid_2_lists"])
    assert len(SearchEngine.open(run).search(Log.open(run / "log"), "kettle", k=3)) == 3
    assert again(folder, "--until", "dpo_hybrid_2") == []


def test_rounds_come_one_after_the_other(tmp_path):
    """In the order of their numbers, then of the stages; what is no stage of preferences has no rounds."""
    for name in ("dpo_logged_2", "dpo_hybrid_10", "dpo_hybrid_2", "dpo_hybrid_1", "sft_align_2", "dpo_hybrid_02"):
        (tmp_path / f"{name}.yaml").touch()
    assert [step.name for step in steps_of(tmp_path)] == [*NAMES, "dpo_hybrid_2", "dpo_logged_2", "dpo_hybrid_10"]


def test_what_is_begun_and_ended_elsewhere_is_up_to_date_here(whole_run, tmp_path, capsys):
    """dpo_hybrid: one process writes its lists, all train on them; ended, it is skipped; begun anew, it is not."""
    place, copy = whole_run.parent / "recipes" / "handful", tmp_path / "run"
    shutil.copytree(whole_run, copy)
    assert begin("dpo_hybrid", copy, place) == []
    commands = begin("dpo_hybrid", copy, place, seed=3)
    assert [command.split()[:2] for command in commands] == [["one", "predict"], ["all", "fit"]]
    assert commands[1].endswith("--seed_everything 3 --data.init_args.seed 3 --model.init_args.seed 3")
    assert begin("dpo_hybrid", copy, place, seed=3) == commands
    end("dpo_hybrid", copy, place)  # in good faith: what the older commands left is intact
    assert begin("dpo_hybrid", copy, place, seed=3) == []
    arguments = ("pipeline", "--run", str(tmp_path / "none"), "--recipe", str(place))
    assert "ends before it has begun" in refusal(capsys, *arguments, "--end", "reward")
    assert "has no step 'rewards': use one of log, " in refusal(capsys, *arguments, "--begin", "rewards")


def test_until_ends_early(tmp_path):
    """Only the steps up to the named one."""
    recipe(tmp_path / "recipes" / "handful")
    assert verbs(again(tmp_path, "--until", "encoder")) == ["log prepare", "encoder fit"]
    assert not (tmp_path / "run" / "quantizer").exists()


def test_another_seed_draws_the_stages_anew_but_not_the_log(tmp_path):
    """`--seed` is part of what a stage was made with; the log is the question and stays the same."""
    recipe(tmp_path / "recipes" / "handful")
    again(tmp_path, "--until", "encoder")
    first = fingerprint(tmp_path / "run", "encoder")
    ((name, arguments),) = again(tmp_path, "--until", "encoder", "--seed", "7")
    assert (name, arguments[-4:]) == ("encoder", ["--seed_everything", "7", "--data.init_args.seed", "7"])
    assert fingerprint(tmp_path / "run", "encoder") != first
    assert again(tmp_path, "--until", "encoder", "--seed", "7") == []


def test_data_and_first_test_day_reach_the_log(tmp_path):
    """`--data` and `--test_from` stand for the log's own options; a changed one repeats the step."""
    recipe(tmp_path / "recipes" / "handful")
    shutil.move(tmp_path / "recipes" / "handful" / "files", tmp_path / "elsewhere")
    options = ("--until", "log", "--data", str(tmp_path / "elsewhere"), "--test_from", "2025-03-08")
    ((name, arguments),) = again(tmp_path, *options)
    assert (name, arguments[-4:-2]) == ("log", ["--source.folder", str(tmp_path / "elsewhere")])
    assert facts(tmp_path / "run", "log")["split"]["test from"].startswith("2025-03-08")
    assert again(tmp_path, *options) == []
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "nowhere")
    assert verbs(again(tmp_path, "--until", "log", "--data", str(tmp_path / "nowhere"))) == ["log prepare"]


def test_a_killed_step_goes_on_from_its_last_checkpoint(whole_run, tmp_path):
    """sft_align is killed after two epochs: the next run starts there, and its steps count on."""
    folder = shutil.copytree(whole_run.parent, tmp_path / "copy")
    config = overlays()["sft_align"]
    config["trainer"] |= {"max_epochs": 4, "check_val_every_n_epoch": 1}
    config["trainer"]["callbacks"] = [{"class_path": "handful.Pause", "init_args": {"epoch": 2}}]
    write(folder / "recipes" / "handful" / "sft_align.yaml", config)
    command = ["pipeline", "--run", str(folder / "run"), "--recipe", str(folder / "recipes" / "handful")]
    command += ["--until", "sft_align"]
    paused = folder / "run" / "paused"
    places = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": places, "HANDFUL_PAUSE": str(paused)}
    running = subprocess.Popen(
        [sys.executable, "-m", "onesearch.main", *command], env=environment, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while not paused.exists() and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert paused.exists()
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    stamp = json.loads((folder / "run" / "training" / "sft_align" / "step.json").read_text("utf-8"))
    assert stamp["done"] is False
    assert fingerprint(folder / "run", "sft_align") == fingerprint(whole_run, "sft_align")  # the older one still stands
    assert verbs(again(folder, "--until", "sft_align")) == ["sft_align fit"]
    epochs, steps = (logged(folder / "run", "sft_align", name) for name in ("epoch", "step"))
    assert set(epochs) == {2, 3}
    assert max(steps) == facts(folder / "run", "sft_align")["num_steps"] - 1


def test_a_step_needs_only_what_stands_before_it():
    """The list can be run from top to bottom: each step's inputs are earlier steps."""
    for place, step in enumerate(STEPS):
        assert set(step.needs) <= set(NAMES[:place])


def test_launch_is_what_a_user_types(whole_run, tmp_path):
    """A stage run by hand on a copy of the run gives the very bytes that the pipeline's gave."""
    run = Path(shutil.copytree(whole_run, tmp_path / "run"))
    launch(run, "fit", "sft_cooccur", overlays(0.0)["sft_cooccur"])
    assert fingerprint(run, "sft_cooccur") == fingerprint(whole_run, "sft_cooccur")
