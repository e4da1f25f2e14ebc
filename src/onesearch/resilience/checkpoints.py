"""Checkpoints that are whole or not there, and the newest whole one to go on from.

A file is written beside its place, flushed to the disk, and renamed over the old one: whatever happens meanwhile, one
of the two stands. torch writes a zip archive with a CRC of each part, by which a damaged file is known when it is read.
"""

import os
import zipfile
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_warn

from onesearch.types import UserError

ENDING = ".ckpt"
UNFINISHED = ".unfinished"


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all; reads nothing that is damaged, and nothing that could run code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any = None) -> None:
        """Write a checkpoint in place of an older one.

        Raises:
            UserError: the disk is full, or cannot be written to. The older one stands.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.parent.glob(f".*{UNFINISHED}"):  # of a process that was killed in the middle
            leftover.unlink()
        unfinished = target.with_name(f".{target.name}{UNFINISHED}")
        try:
            with unfinished.open("wb") as file:
                torch.save(checkpoint, file)  # noqa: TID251  # Lightning's own way there is a copy from /tmp
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, target)
            _flush_folder(target.parent)
        except Exception as error:
            unfinished.unlink(missing_ok=True)
            cause = error if isinstance(error, OSError) else error.__context__  # torch's writer hides it in its own
            if not isinstance(cause, OSError):
                raise
            raise UserError(
                f"The checkpoint {target} could not be written ({os.strerror(cause.errno or 0)}): those written before "
                "it stand, so make room there and start the same command again."
            ) from error

    def load_checkpoint(
        self, path: _PATH, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint of this machine's, to the CPU where nothing else is said; never more than data.

        Raises:
            UserError: it is not there, or damaged.
        """
        found = Path(path)
        if not found.exists():
            raise UserError(f"There is no checkpoint {path}: name a file of this machine, or leave --ckpt_path out.")
        if problem := damage(found):
            raise UserError(f"The checkpoint {path} is damaged ({problem}): go on from another one by --ckpt_path.")
        place = map_location or "cpu"
        checkpoint: dict[str, Any] = torch.load(found, map_location=place, weights_only=True)  # noqa: TID251
        return checkpoint


def newest(folders: Iterable[Path]) -> Path | None:
    """The newest whole checkpoint; each damaged one on the way to it is named in a warning."""
    found = {path.resolve() for folder in folders for path in folder.glob(f"*{ENDING}") if path.exists()}
    damaged: list[str] = []
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        if not (problem := damage(path)):
            if damaged:
                rank_zero_warn(f"{_and(damaged)}: skipped, training goes on from {path}.")
            return path
        damaged.append(f"The checkpoint {path} is damaged ({problem})")
    if damaged:
        rank_zero_warn(f"{_and(damaged)}, and there is no whole one: training begins anew.")
    return None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint; None: it is as it was written, or a folder (sharded), which is not read."""
    if path.is_dir():
        return None
    state = path.stat()
    return _damage(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=16)
def _damage(path: Path, *_: int) -> str | None:
    """Every part is read once; what the parts' directory says is left to torch, which is stricter than Python there."""
    try:
        with zipfile.ZipFile(path) as archive:
            if part := archive.testzip():
                return f"its part {part} was changed"
        torch.load(path, map_location="cpu", mmap=True, weights_only=True)  # noqa: TID251  # reads no tensor
    except Exception as error:  # whatever a damaged directory leads to: zipfile raises five kinds of errors
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return None


def _and(sentences: list[str]) -> str:
    return "; ".join(sentences)


def _flush_folder(folder: Path) -> None:
    """Or a crash of the machine could undo the rename."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
