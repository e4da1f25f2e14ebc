"""SIGTERM and SIGUSR1 ask a process to stop: they set a flag, and whoever trains stops where nothing is lost.

Exit code 75 (EX_TEMPFAIL) then says: not finished, start the same command again. A scheduler that takes a machine back
sends one of the two some time before it kills. Nothing heavy is imported here: `main` listens before all else.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

NOT_FINISHED = os.EX_TEMPFAIL
"""Exit code 75."""

STOPS = (signal.SIGTERM, signal.SIGUSR1)
ENDINGS = (NOT_FINISHED, *(-signum for signum in STOPS))
"""How a child ends that was asked to stop; killed by the signal itself where it came before anybody listened."""


class NotFinished(Exception):  # noqa: N818  # no error: what was asked for
    """Asked to stop, and stopped where nothing is lost.

    Args:
        sentence: what is kept, and how to go on.
        code: of the exit.
    """

    def __init__(self, sentence: str, code: int = NOT_FINISHED) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass
class _Heard:
    """What this process was asked, and the child that must hear of it too."""

    asked: signal.Signals | None = None
    child: "subprocess.Popen[bytes] | None" = None


_heard = _Heard()


def listen() -> None:
    """Hear SIGTERM and SIGUSR1 from now on; only the main thread can."""
    _heard.asked = None
    listen_again()


def listen_again() -> None:
    """The same, where a library has put handlers of its own in place since; what was heard stays heard."""
    if threading.current_thread() is threading.main_thread():
        for signum in STOPS:
            signal.signal(signum, _hear)


def asked() -> signal.Signals | None:
    """The signal that asked this process to stop, if any has."""
    return _heard.asked


def run(command: Sequence[str]) -> int:
    """Run a child, which is asked to stop when this process is; its exit code, negative where a signal killed it."""
    _heard.child = subprocess.Popen(command)
    try:
        if _heard.asked is not None:  # between the last look and now
            _heard.child.send_signal(_heard.asked)
        return _heard.child.wait()
    except BaseException:
        _heard.child.kill()
        raise
    finally:
        _heard.child = None


def _hear(signum: int, _: FrameType | None) -> None:
    _heard.asked = _heard.asked or signal.Signals(signum)
    if _heard.child is not None:
        _heard.child.send_signal(signum)
