"""The one entry: `onesearch VERB`. fit, validate, test and predict go to LightningCLI, the rest to `commands`."""

import argparse
import os
import sys
from collections.abc import Sequence

from onesearch.resilience.signals import NotFinished, listen

STAGE_VERBS = ("fit", "validate", "test", "predict")
STOPPABLE = (*STAGE_VERBS, "pipeline", "ablate")
"""Verbs that stop where nothing is lost when they are asked to (SIGTERM, SIGUSR1)."""

QUIET = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
"""transformers prints a bar and a report for each small folder it reads; its environment is cheaper than its import."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one verb; a user's mistake ends in one sentence and exit code 2, what was asked to stop in one and 75.

    Args:
        argv: the command line without the program's name; None: that of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in STOPPABLE:
        listen()  # first of all: what is imported below takes seconds
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from onesearch.types import UserError  # torch

    try:
        if arguments and arguments[0] in STAGE_VERBS:
            from onesearch.training import launch  # torch, lightning and transformers: seconds, paid only here

            launch(arguments)
        else:
            from onesearch.commands import run_command

            run_command(arguments)
    except NotFinished as error:
        if error.code:
            print(f"onesearch: {error}", file=sys.stderr)
        sys.exit(error.code)
    except (UserError, argparse.ArgumentError) as error:
        if os.environ.get("ONESEARCH_TRACEBACK"):
            raise
        sentence = " ".join(line.strip() for line in str(error).splitlines())  # the parser takes several lines
        print(f"onesearch: {sentence}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
