"""What goes wrong in `onesearch pipeline`: recipes that cannot be read, steps that fail or are killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from handful import CONFIGS, facts, fingerprint, in_this_process, logged, overlays, recipe, refusal, write
from onesearch.main import main
from onesearch.pipeline import STEPS, run_step
from onesearch.types import UserError


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
    with in_this_process() as launched:
        main(command)
    assert [(name, arguments[0]) for name, arguments in launched] == [("sft_align", "fit")]
    epochs, steps = (logged(folder / "run", "sft_align", name) for name in ("epoch", "step"))
    assert set(epochs) == {2, 3}
    assert max(steps) == facts(folder / "run", "sft_align")["num_steps"] - 1


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
