"""`make slurm-test`: the pipeline on a real SLURM of two virtual nodes, with faults, beside a run without a cluster.

Not a part of `make test`. It needs Debian's slurm-wlm and munge, and starts its own daemons, as the user who calls it,
on ports and in a folder of its own: nothing of the machine's SLURM, if there is one, is touched.

What happens to the jobs: a training process is killed by SIGKILL, one job is preempted by a more urgent one, one is
signalled as before its time limit. All of them must go on by themselves and end COMPLETED, and the run must be the one
that was made without a cluster and without a fault: the same artefacts, byte for byte, and the same compare.json.
"""

import argparse
import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning

from handful import CONFIGS, fingerprint, overlays, recipe, write

ROOT = CONFIGS.parent
PORT = 26817
SLURM = """
ClusterName=onesearch
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=cred_expire=10,socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmctldPort={port}
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdSpoolDir={folder}/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=30
MinJobAge=3600
ReturnToService=2
SchedulerParameters=sched_interval=2,batch_sched_delay=0
PartitionName=main Nodes=ALL Default=YES MaxTime=60 PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=60 PriorityTier=2 PreemptMode=OFF
"""
NODE = "NodeName=n{i} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=4000 State=UNKNOWN"


class Slow(lightning.Callback):
    """Makes a training that is over at once last long enough to be disturbed; it computes nothing."""

    def on_train_batch_end(self, *_: Any) -> None:
        """Wait, where the environment says for how long."""
        time.sleep(float(os.environ.get("HANDFUL_SLOW", "0")))


@contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """Munge, a controller and two nodes for as long as the block lasts."""
    places = {"host": socket.gethostname().split(".")[0], "user": getpass.getuser(), "folder": folder, "port": PORT}
    for name in ("state", "spool-n1", "spool-n2", "munge"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "munge").chmod(0o700)
    (folder / "munge" / "key").write_bytes(os.urandom(1024))
    (folder / "munge" / "key").chmod(0o400)
    nodes = [NODE.format(**places | {"i": i, "port": PORT + i}) for i in (1, 2)]
    (folder / "slurm.conf").write_text("\n".join([SLURM.format(**places), *nodes, ""]), "utf-8")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munge = [f"--{option}={folder}/munge/{name}" for option, name in files.items()]
    try:
        shell("munged", "--force", *munge)
        shell("slurmctld", "-c")
        for i in (1, 2):
            shell("slurmd", "-N", f"n{i}")
        until(lambda: shell("sinfo", "-h", "-o", "%T %D").strip() == "idle 2", "two idle nodes", 30)
        yield
    finally:
        for name in ("slurmd-n1.pid", "slurmd-n2.pid", "slurmctld.pid", "munge/pid"):
            if (folder / name).is_file():
                os.kill(int((folder / name).read_text()), signal.SIGTERM)


def shell(*command: str, **environment: str) -> str:
    """A command in the project's folder; what it printed."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed with code {done.returncode}")
    return done.stdout


def until(holds: Callable[[], bool], what: str, seconds: float = 600) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.2)


def submit(run: Path, *options: str, **environment: str) -> dict[str, int]:
    """slurm/pipeline.sh; the job of each stage."""
    out = shell("slurm/pipeline.sh", str(run), *options, **environment)
    print(out)
    return {name: int(job) for name, job in re.findall(r"^(\w+): job (\d+)$", out, re.MULTILINE)}


def told(job: int, field: str) -> str:
    """What SLURM says of a job."""
    found = re.search(rf"\b{field}=(\S+)", shell("scontrol", "show", "job", str(job)))
    return found[1] if found else ""


def started(run: Path, stage: str, job: int) -> None:
    """Wait until the training of a job has a checkpoint and is further than that."""
    folder = run / "training" / stage / "checkpoints"
    until(lambda: told(job, "JobState") in ("RUNNING", "COMPLETED", "FAILED", "CANCELLED"), f"the job of {stage}")
    until(lambda: any(folder.glob("*.ckpt")) or told(job, "JobState") != "RUNNING", f"a checkpoint of {stage}")
    time.sleep(2)
    assert told(job, "JobState") == "RUNNING", f"{stage} ended before it could be disturbed"


def training(job: int) -> list[int]:
    """The training processes of a job."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environment = (place / "environ").read_bytes().split(b"\0")
            arguments = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:  # gone, or not ours
            continue
        if f"SLURM_JOB_ID={job}".encode() in environment and b"fit" in arguments[2:3]:
            found.append(int(place.name))
    return found


def completed(jobs: dict[str, int]) -> None:
    """Wait for the end of all jobs; print how each went; each must be COMPLETED."""
    final = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
    for name, job in jobs.items():
        until(lambda job=job: told(job, "JobState") in final, f"the end of {name}", 1200)
    states = {name: told(job, "JobState") for name, job in jobs.items()}
    for name, job in jobs.items():
        print(f"{name:16} job {job:3} {states[name]:10} started {int(told(job, 'Restarts')) + 1} times")
    assert set(states.values()) == {"COMPLETED"}, states


def differences(run: Path, other: Path, stages: list[str]) -> list[str]:
    """Artefacts and comparisons that are not the same in both runs."""
    found = [stage for stage in stages if fingerprint(run, stage) != fingerprint(other, stage)]
    first, second = (json.loads((place / "compare.json").read_text("utf-8")) for place in (run, other))
    return found + (["compare.json"] if first != second else [])


def disturbed_recipe(folder: Path) -> Path:
    """The handful's recipe; three of its trainings last for some epochs, each with a checkpoint, and can be slowed."""
    place = recipe(folder)
    for stage in ("sft_align", "sft_cooccur", "reward"):
        config = overlays(0.0)[stage]
        config["trainer"] |= {"max_epochs": 4, "check_val_every_n_epoch": 1}
        config["trainer"]["callbacks"] = [{"class_path": "real_slurm.Slow"}]
        write(place / f"{stage}.yaml", config)
    return place


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "slurm-test", help="made anew")
    parser.add_argument("--recipe", type=Path, help="another recipe, without faults, such as configs/demo")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the daemons are stopped then too
    folder = options.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    os.environ |= {"ONESEARCH_CPUS": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    os.environ["MASTER_ADDR"] = "127.0.0.1"  # both nodes are this machine, whose name server knows no n1
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    place = options.recipe or disturbed_recipe(folder / "recipes" / "handful")
    on_cluster, local = folder / "cluster", folder / "local"
    recipe_of = ("--recipe", str(place))
    with cluster(folder / "slurm"):
        jobs = submit(on_cluster, *recipe_of, HANDFUL_SLOW="0.5")
        if not options.recipe:
            disturb(on_cluster, jobs)
        completed(jobs)
        shell("onesearch", "pipeline", "--run", str(local), *recipe_of)
        shell("onesearch", "compare", "--run", str(local))
        stages = [name for name in jobs if name != "compare"]
        found = differences(on_cluster, local, stages)
        print(f"{len(stages)} artefacts and compare.json beside those of a run without a cluster: {found or 'equal'}")
        assert not found
        if not options.recipe:
            two_nodes(folder, on_cluster, recipe_of)


def disturb(run: Path, jobs: dict[str, int]) -> None:
    """SIGKILL, preemption, and the signal before the time limit."""
    started(run, "sft_align", jobs["sft_align"])
    (victim,) = training(jobs["sft_align"])
    print(f"sft_align: SIGKILL to its training process {victim}")
    os.kill(victim, signal.SIGKILL)

    started(run, "sft_cooccur", jobs["sft_cooccur"])
    print("sft_cooccur: preempted by a job of both nodes in a partition of higher priority")
    urgent = ("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1")
    shell(*urgent)

    started(run, "reward", jobs["reward"])
    print("reward: SIGUSR1 to the shell of its job, as SLURM sends it before the time limit")
    shell("scancel", "--batch", "--signal=USR1", str(jobs["reward"]))


def two_nodes(folder: Path, run: Path, recipe_of: tuple[str, ...]) -> None:
    """A stage as one training of two processes on two nodes, disturbed and undisturbed: the same weights."""
    places = [folder / "two_nodes", folder / "two_nodes_disturbed"]
    for place in places:
        for name in ("log", "encoder", "tagger", "tokenizer", "quantizer"):
            if (run / name).is_dir():
                shutil.copytree(run / name, place / name)
                if name != "tokenizer":
                    shutil.copytree(run / "training" / name, place / "training" / name)
        jobs = submit(place, *recipe_of, "--until", "sft_align", ONESEARCH_NODES="2", HANDFUL_SLOW="0.5")
        if place == places[1]:
            started(place, "sft_align", jobs["sft_align"])
            print("sft_align on two nodes: SIGUSR1 to the shell of its job")
            shell("scancel", "--batch", "--signal=USR1", str(jobs["sft_align"]))
        completed(jobs)
        assert told(jobs["sft_align"], "NumNodes") == "2"
    equal = fingerprint(places[0], "sft_align") == fingerprint(places[1], "sft_align")
    print(f"sft_align on two nodes, disturbed beside undisturbed: {'equal' if equal else 'different'}")
    assert equal
    assert fingerprint(places[0], "sft_align") != fingerprint(run, "sft_align")  # twice the batch: another training


if __name__ == "__main__":
    main()
