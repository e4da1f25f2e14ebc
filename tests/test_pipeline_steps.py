"""A step of `onesearch pipeline`: when its artefact is up to date, and how it is refused or fails."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from handful import CONFIGS, in_this_process, recipe, refusal, write
from onesearch.artifacts import writing
from onesearch.main import main
from onesearch.pipeline import STEPS, configs, is_current, run_pipeline, run_step
from onesearch.resilience.signals import NotFinished
from onesearch.tasks.template import TEMPLATES
from onesearch.types import UserError


def test_a_step_is_current_until_its_configuration_or_a_parent_changes(tmp_path, monkeypatch):
    """By hand-made artefacts: what skips a step is what `is_current` says of it."""
    encoder, config = STEPS[1], write(tmp_path / "encoder.yaml", {"seed_everything": 0})
    with writing(tmp_path / "log", "log"):
        pass

    def fit(*_) -> None:
        with writing(tmp_path / "encoder", "encoder", [tmp_path / "log"]):
            pass

    monkeypatch.setattr("onesearch.pipeline._launch", fit)
    assert not is_current(encoder, tmp_path, [config])
    run_step(encoder, tmp_path, [config])
    assert is_current(encoder, tmp_path, [config])
    assert not is_current(encoder, tmp_path, [config], options=["--data.init_args.seed", "1"])
    assert not is_current(encoder, tmp_path, [write(tmp_path / "other.yaml", {"seed_everything": 1})])
    shutil.rmtree(tmp_path / "log")
    assert not is_current(encoder, tmp_path, [config])


def test_the_words_of_a_template_of_ones_own_are_configuration(tmp_path, monkeypatch):
    """A heading changes in the file that the configuration names: the step runs again, for a comment it does not."""
    align = next(step for step in STEPS if step.name == "sft_align")
    words = Path(shutil.copy(TEMPLATES / "en.yaml", tmp_path / "words.yaml"))
    config = write(tmp_path / "sft_align.yaml", {"data": {"init_args": {"template": str(words)}}})
    for name in ("log", "quantizer", "sft_align"):
        with writing(tmp_path / name, name):
            pass
    monkeypatch.setattr("onesearch.pipeline._launch", lambda *_: None)
    run_step(align, tmp_path, [config])
    words.write_text("# a comment\n" + words.read_text("utf-8"), "utf-8")
    assert is_current(align, tmp_path, [config])
    words.write_text(words.read_text("utf-8").replace("The query is", "What was typed is"), "utf-8")
    assert not is_current(align, tmp_path, [config])
    words.unlink()
    with pytest.raises(UserError, match="There is no template"):
        is_current(align, tmp_path, [config])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("model:\n  init_args:\n    form: [sid\n", r"overlay.yaml, line 4: .*: mend it there or just above"),
        ("model:\n\tinit_args: {}", r"overlay.yaml, line 2: found character .*, and indent by spaces, never by tabs"),
        ("a: 1\na: 2", "overlay.yaml, line 2: found duplicate key a"),
        ("- model\n- data", "overlay.yaml: a list stands where names with values belong"),
        ("model: [1]", "overlay.yaml: a list stands where names with values belong"),
        ("model:\n  init_args:\n", "overlay.yaml: 'model.init_args' is empty: write options beneath it"),
        ("3", "overlay.yaml: Invalid loaded object type: int: correct it, or take it out"),
    ],
)
def test_a_recipe_that_cannot_be_read_is_refused_with_file_and_line(content, sentence, tmp_path):
    align, overlay = next(step for step in STEPS if step.name == "sft_align"), tmp_path / "overlay.yaml"
    overlay.write_text(content, "utf-8")
    with pytest.raises(UserError, match=sentence) as refused:
        run_step(align, tmp_path, [CONFIGS / "sft_align.yaml", overlay])
    assert "\n" not in str(refused.value)


def test_a_failing_step_stops_the_pipeline_with_a_sentence(tmp_path):
    """The log's files are gone: the step names the file, the pipeline the step, and nothing after it runs."""
    shutil.rmtree(recipe(tmp_path / "recipes" / "handful") / "files")
    command = ["pipeline", "--run", str(tmp_path / "run"), "--recipe", str(tmp_path / "recipes" / "handful")]
    program = [sys.executable, "-m", "onesearch.main"]
    done = subprocess.run([*program, *command], capture_output=True, text=True, check=False)
    sentences = [line for line in done.stderr.splitlines() if line.startswith("onesearch: ")]
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(sentences) == 2
    assert "items.csv" in sentences[0]
    assert sentences[1].startswith("onesearch: The step 'log' failed (exit code 2)")
    assert not (tmp_path / "run" / "encoder").exists()


def test_unknown_steps_and_incomplete_recipes_are_refused(tmp_path, capsys):
    folder = recipe(tmp_path / "recipes" / "handful")
    arguments = ("pipeline", "--run", str(tmp_path / "run"), "--recipe")
    unknown = refusal(capsys, *arguments, str(folder), "--until", "sft")
    assert unknown.startswith("There is no step 'sft': use one of log, encoder,")
    assert refusal(capsys, *arguments, str(tmp_path)).startswith(f"{tmp_path} has no log.yaml")
    (folder / "encoder.yaml").unlink()
    (folder.parent / "encoder.yaml").unlink()
    with in_this_process():
        sentence = refusal(capsys, *arguments, str(folder), "--until", "encoder").split("onesearch: ")[-1]
    assert sentence.startswith("The step 'encoder' has no configuration")


@pytest.mark.parametrize("ending", [75, -signal.SIGTERM, -signal.SIGUSR1])
def test_a_step_that_was_asked_to_stop_is_no_failure(tmp_path, monkeypatch, capsys, ending):
    """Whether it stopped by itself or was killed before it listened: one sentence, 75, and the same command again."""
    steps = recipe(tmp_path / "recipes" / "handful")
    monkeypatch.setattr("onesearch.pipeline.run_child", lambda command: ending)
    with pytest.raises(SystemExit) as stopped:
        main(["pipeline", "--run", str(tmp_path / "run"), "--recipe", str(steps)])
    assert stopped.value.code == 75
    told = "onesearch: The step 'log' was asked to stop and is not finished: start the same command again."
    assert capsys.readouterr().err.splitlines()[-1] == told


def test_asked_between_two_steps_it_begins_no_other(tmp_path, monkeypatch):
    """What ran is done, and will not run again."""
    steps = recipe(tmp_path / "recipes" / "handful")
    heard = iter([None, signal.SIGTERM])
    monkeypatch.setattr("onesearch.pipeline.asked", lambda: next(heard))

    def prepare(command):
        main(command[3:])
        return 0

    monkeypatch.setattr("onesearch.pipeline.run_child", prepare)
    with pytest.raises(NotFinished, match="Stopped by SIGTERM before the step 'encoder': start the same command"):
        run_pipeline(tmp_path / "run", steps)
    assert is_current(STEPS[0], tmp_path / "run", configs(STEPS[0], steps))
