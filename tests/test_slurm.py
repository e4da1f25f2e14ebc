"""slurm/ without a SLURM: what is submitted, and what a job does with each way that a stage can end.

`sbatch`, `srun`, `scontrol` and `squeue` are stand-ins that write down how they are called. `make slurm-test` runs the
same scripts on a real SLURM.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from handful import CONFIGS, recipe
from onesearch.handover import stages
from onesearch.main import main

ROOT = CONFIGS.parent
SCRIPTS = sorted(
    path for pattern in ("slurm/*", "docker/*.sh") for path in ROOT.glob(pattern) if path.name != "site.sh"
)

FAKES = {
    "sbatch": 'printf "%s\\n" "$*" >> submitted; echo $((10 + $(wc -l < submitted)))',
    "scontrol": 'echo "$*" >> called',
    "squeue": "echo ${STATE:-RUNNING}",
    # What it starts is what comes after its own options, in its own place, as a task is signalled for `srun`.
    "srun": 'echo "srun $*" >> called; while [[ "$1" == --* ]]; do shift; done; exec "$@"',
    "onesearch": 'case "$*" in *--stages*) cat stages;; *--begin*) cat commands;; *--end*);; *) . ./training;; esac',
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch) -> Path:
    """A folder like a user's: slurm/, and .venv/bin, where jobs look first, with the stand-ins."""
    shutil.copytree(ROOT / "slurm", tmp_path / "slurm", ignore=shutil.ignore_patterns("site.sh"))
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for name, body in FAKES.items():
        (binaries / name).write_text(f"#!/usr/bin/env bash\n{body}\n", "utf-8")
        (binaries / name).chmod(0o755)
    (tmp_path / "called").touch()
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_", "ONESEARCH_"))]:
        monkeypatch.delenv(name)
    return tmp_path


def run(project: Path, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", f"slurm/{script}", *arguments]
    return subprocess.run(
        command, cwd=project, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def submitted(project: Path) -> list[str]:
    return (project / "submitted").read_text("utf-8").splitlines()


def option(line: str, name: str) -> str | None:
    found = re.search(rf"--{name}=(\S+)", line)
    return found and found[1]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_have_no_known_faults(path):
    shellcheck = Path(sys.executable).with_name("shellcheck")
    linted = subprocess.run([shellcheck, "-x", path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert linted.stdout == ""


def test_the_stages_of_a_recipe_are_those_that_the_pipeline_runs(tmp_path, capsys):
    """Each with what it can use: the codebook is fitted on one device, and a tagger is there where there is a file."""
    place = recipe(tmp_path / "recipes" / "handful")
    (place / "dpo_logged_2.yaml").touch()
    main(["pipeline", "--run", str(tmp_path / "run"), "--recipe", str(place), "--stages", "true"])
    lines = capsys.readouterr().out.splitlines()
    trained = ("sft_align", "sft_cooccur", "sft_personalize", "reward", "dpo_hybrid", "dpo_logged", "dpo_logged_2")
    assert lines == ["log cpu", "encoder all", "tagger all", "quantizer one", *(f"{name} all" for name in trained)]
    (place / "tagger.yaml").unlink()
    assert stages(place, "quantizer") == ["log cpu", "encoder all", "quantizer one"]
    assert not (tmp_path / "run").exists()


def test_each_stage_is_submitted_on_the_one_before(project):
    """On two nodes of four GPUs: what one device fits gets one, what needs none goes where there are none."""
    (project / "stages").write_text("log cpu\nencoder all\nquantizer one\n", "utf-8")
    cluster = {"ONESEARCH_NODES": "2", "ONESEARCH_GPUS": "4", "ONESEARCH_CPU_PARTITION": "thin"}
    done = run(project, "pipeline.sh", "runs/x", "--recipe", "y z", **cluster, ONESEARCH_SBATCH="--mem=0")
    assert done.returncode == 0, done.stderr
    log, encoder, quantizer, compare = submitted(project)
    assert log.endswith("slurm/stage.sbatch runs/x log --recipe y z")
    assert option(log, "dependency") is None
    assert [option(line, "partition") for line in (log, encoder, compare)] == ["thin", None, "thin"]
    waits = [option(line, "dependency") for line in (encoder, quantizer, compare)]
    assert waits == ["afterok:11", "afterok:12", "afterok:13"]
    for line, *sizes in ((log, "1", "1", None), (encoder, "2", "4", "4"), (quantizer, "1", "1", "1")):
        assert [option(line, name) for name in ("nodes", "ntasks-per-node", "gpus-per-node")] == sizes
    assert [option(line, "job-name") for line in (log, encoder)] == ["onesearch-log", "onesearch-encoder"]
    assert all("--kill-on-invalid-dep=yes" in line and " --mem=0 " in line for line in submitted(project))
    assert compare.endswith("slurm/command.sbatch compare --run runs/x -- report --run runs/x")
    lines = done.stdout.splitlines()
    assert lines[:4] == ["log: job 11", "encoder: job 12", "quantizer: job 13", "compare: job 14"]
    assert "follow:  squeue --jobs 11,12,13,14" in lines
    assert "cancel:  scancel 11 12 13 14" in lines


def test_seeds_are_arrays_task_after_task(project):
    """The log is one job; after it a seed waits for the same seed alone. With --until there is nothing to compare."""
    (project / "stages").write_text("log cpu\nencoder all\nquantizer one\n", "utf-8")
    assert run(project, "pipeline.sh", "runs/x", "--seeds", "0-2", "--recipe", "y").returncode == 0
    log, encoder, quantizer, compare = submitted(project)
    assert [option(line, "array") for line in (log, encoder, quantizer, compare)] == [None, "0-2", "0-2", "0-2"]
    waits = [option(line, "dependency") for line in (encoder, quantizer, compare)]
    assert waits == ["afterok:11", "aftercorr:12", "aftercorr:13"]
    assert compare.endswith("compare --run runs/x/seed-{} -- report --run runs/x/seed-{}")
    (project / "submitted").unlink()
    assert run(project, "pipeline.sh", "runs/x", "--until", "quantizer").returncode == 0
    assert len(submitted(project)) == 3


def test_an_ablation_trains_its_first_variant_first_and_judges_last(project):
    for name in ("01-all", "02-less", "03-none"):
        (project / "studies" / "views" / name).mkdir(parents=True)
    done = run(project, "ablate.sh", "runs/x", "studies/views", "--seeds", "0-2,7", "--recipe", "y")
    assert done.returncode == 0, done.stderr
    lines = submitted(project)
    assert [option(line, "array") for line in lines] == ["0-2,7", "0-2,7", "0-2,7", None]
    waits = [option(line, "dependency") for line in lines]
    assert waits == [None, "aftercorr:11", "aftercorr:11", "afterok:11,afterok:12,afterok:13"]
    common = "ablate --run runs/x --study studies/views --recipe y"
    assert lines[1].endswith(f"{common} --only [02-less] --seeds [{{}}] --table false")
    assert lines[3].endswith(f"{common} --seeds [0,1,2,7]")


def test_a_refused_job_takes_back_those_before_it(project):
    (project / "stages").write_text("log cpu\nencoder all\n", "utf-8")
    (project / ".venv" / "bin" / "sbatch").write_text(
        '#!/bin/sh\ncase "$*" in *"x log"*) echo 5;; *) exit 1;; esac\n', "utf-8"
    )
    (project / ".venv" / "bin" / "scancel").write_text('#!/bin/sh\necho "$*" > cancelled\n', "utf-8")
    (project / ".venv" / "bin" / "scancel").chmod(0o755)
    done = run(project, "pipeline.sh", "runs/x")
    assert done.returncode == 1
    assert "encoder was refused" in done.stderr
    assert (project / "cancelled").read_text("utf-8") == "5\n"


SAVES = "touch runs/x/training/reward/checkpoints/last.ckpt\n"


@pytest.mark.parametrize(
    ("training", "state", "restarts", "code", "requeued"),
    [
        ("exit 0", "RUNNING", "", 0, False),
        ("exit 75", "RUNNING", "", 75, True),  # saved, as it was asked to
        ("exit 75", "COMPLETING", "", 75, False),  # cancelled, or in the queue already: not a second time
        ("exit 75", "RUNNING", "100", 75, False),  # often enough
        (f"{SAVES}kill -KILL $$", "RUNNING", "", 137, True),  # it had got further than at its start
        ("kill -KILL $$", "RUNNING", "", 137, False),  # it had not: it would be killed for ever
        (f"{SAVES}exit 2", "RUNNING", "", 2, False),  # a user's mistake is there at the next start too
    ],
)
def test_a_job_goes_on_where_that_is_of_use(project, training, state, restarts, code, requeued):
    (project / "runs" / "x" / "training" / "reward" / "checkpoints").mkdir(parents=True)
    (project / "commands").write_text("all fit --run 'runs/x' --seed 3\n", "utf-8")
    (project / "training").write_text(training, "utf-8")
    job = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "4", "STATE": state}
    done = run(project, "stage.sbatch", "runs/x", "reward", "--recipe", "y", **job, SLURM_RESTART_COUNT=restarts)
    assert done.returncode == code, done.stderr
    called = (project / "called").read_text("utf-8").splitlines()
    assert called[0].endswith("--nodes=1 --ntasks=1 onesearch pipeline --run runs/x --recipe y --begin reward")
    assert called[1].endswith("onesearch fit --run runs/x --seed 3 --trainer.num_nodes 2 --trainer.devices 4")
    assert ("requeue 7" in called) == requeued
    assert any("--end reward" in line for line in called) == (code == 0)


def test_what_is_up_to_date_is_not_started(project):
    (project / "commands").touch()
    assert run(project, "stage.sbatch", "runs/x", "reward", SLURM_JOB_ID="7").returncode == 0
    assert len((project / "called").read_text("utf-8").splitlines()) == 1


def test_a_task_of_an_array_is_a_seed_on_the_one_log(project):
    """It goes back into the queue by its own name: the array's would start every task again."""
    (project / "runs" / "x" / "log").mkdir(parents=True)
    (project / "commands").write_text("one predict\n", "utf-8")
    (project / "training").write_text("exit 75", "utf-8")
    array = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "4"}
    assert run(project, "stage.sbatch", "runs/x", "dpo_hybrid", "--recipe", "y", **array).returncode == 75
    assert (project / "runs" / "x" / "seed-4" / "log").samefile(project / "runs" / "x" / "log")
    called = (project / "called").read_text("utf-8").splitlines()
    assert called[0].endswith("pipeline --run runs/x/seed-4 --recipe y --seed 4 --begin dpo_hybrid")
    assert called[1].endswith("--nodes=1 --ntasks=1 onesearch predict --trainer.num_nodes 1 --trainer.devices 1")
    assert called[2] == "requeue 9_4"


@pytest.mark.parametrize("hears", [True, False])
def test_the_signal_before_the_time_limit_ends_in_the_queue(project, hears):
    """It comes to the shell, which hands it on; a process that dies of it, not yet listening, did nothing wrong."""
    (project / "commands").write_text("all fit\n", "utf-8")
    heard = 'trap "exit 75" USR1\n' if hears else ""
    (project / "training").write_text(f"{heard}touch started; while :; do sleep 0.05; done", "utf-8")
    command, environment = ["bash", "slurm/stage.sbatch", "runs/x", "reward"], {**os.environ, "SLURM_JOB_ID": "7"}
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    job = subprocess.Popen(command, cwd=project, env=environment, **both)
    deadline = time.monotonic() + 20
    while not (project / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    out, _ = job.communicate(timeout=20)
    assert job.returncode == (75 if hears else 128 + signal.SIGUSR1)
    assert "SIGUSR1: asked to end" in out
    assert (project / "called").read_text("utf-8").splitlines()[-1] == "requeue 7"


def test_a_container_is_started_by_srun_and_on_the_login_node(project):
    """The site's file names it; `onesearch` is looked for inside of it."""
    (project / "slurm" / "site.sh").write_text(': "${ONESEARCH_CONTAINER:=contain image}"\n', "utf-8")
    (project / ".venv" / "bin" / "contain").write_text('#!/bin/sh\necho "in $*" >> called; shift; exec "$@"\n', "utf-8")
    (project / ".venv" / "bin" / "contain").chmod(0o755)
    (project / "stages").write_text("== A banner of the image ==\nlog cpu\n", "utf-8")
    (project / "commands").write_text("== A banner of the image ==\n\none prepare\n", "utf-8")
    (project / "training").write_text("", "utf-8")
    assert run(project, "pipeline.sh", "runs/x").returncode == 0
    assert [option(line, "job-name") for line in submitted(project)] == ["onesearch-log", "onesearch-compare"]
    assert run(project, "stage.sbatch", "runs/x", "log", SLURM_JOB_ID="7").returncode == 0
    called = [line for line in (project / "called").read_text("utf-8").splitlines() if line.startswith("in ")]
    assert [line.split()[2:4] for line in called] == [["onesearch", "pipeline"]] * 2 + [
        ["onesearch", "prepare"],
        ["onesearch", "pipeline"],
    ]


def test_the_example_of_a_site_changes_nothing(project):
    """All its lines are to be taken in by hand."""
    lines = (ROOT / "slurm" / "site.example.sh").read_text("utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
