"""SIGTERM and SIGUSR1 are heard from the first moment on, reach a child, and set a flag alone."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from handful import CONFIGS
from onesearch.resilience import signals

CHILD = """
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
open(sys.argv[1], "w").close()
time.sleep(30)
"""

AT_ONCE = """
import os, signal, sys

class Asks:
    def find_spec(self, name, *_):
        if name == "torch":
            os.kill(os.getpid(), signal.SIGTERM)

from onesearch.main import main
assert "torch" not in sys.modules
sys.meta_path.insert(0, Asks())
main()
"""


@pytest.fixture(autouse=True)
def handlers():
    """As they were."""
    before = [signal.getsignal(signum) for signum in signals.STOPS]
    signals.listen()
    yield
    for signum, handler in zip(signals.STOPS, before, strict=True):
        signal.signal(signum, handler)
    signals._heard.asked = None


def test_a_signal_sets_a_flag():
    """The first one counts; whoever listens from the start has heard nothing yet."""
    assert signals.asked() is None
    for signum in (signal.SIGUSR1, signal.SIGTERM):
        os.kill(os.getpid(), signum)
    assert signals.asked() == signal.SIGUSR1
    signals.listen_again()
    assert signals.asked() == signal.SIGUSR1
    signals.listen()
    assert signals.asked() is None


def test_a_child_is_asked_too(tmp_path):
    """Once it listens, we are asked: it ends in its own way, and its code is ours."""
    ready = tmp_path / "ready"

    def ask():
        while not ready.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=ask)
    thread.start()
    code = signals.run([sys.executable, "-c", CHILD, str(ready)])
    thread.join()
    assert code == signals.NOT_FINISHED == 75
    assert code in signals.ENDINGS


def test_a_child_that_starts_while_we_are_asked_ends_at_once():
    """Killed before it could listen: an ending like any other."""
    os.kill(os.getpid(), signal.SIGTERM)
    started = time.monotonic()
    assert signals.run([sys.executable, "-c", "import time; time.sleep(30)"]) in signals.ENDINGS
    assert time.monotonic() - started < 20
    assert signals.run([sys.executable, "-c", "pass"]) in (0, -signal.SIGTERM)


def test_a_signal_in_the_first_moments_ends_in_a_sentence(tiny_run, tmp_path):
    """Sent while torch is about to be imported; the stage would be trained else, and its artefact is not there."""
    command = ["fit", "-c", str(CONFIGS / "reward.yaml"), "--run", str(tmp_path), "--trainer.accelerator", "cpu"]
    for folder in ("log", "encoder", "quantizer"):
        (tmp_path / folder).symlink_to(tiny_run / folder)
    done = subprocess.run([sys.executable, "-c", AT_ONCE, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 75
    told = done.stderr.splitlines()[-1]
    assert told.startswith("onesearch: stopped by SIGTERM: no step of this start was taken.")
    assert not (tmp_path / "reward").exists()
