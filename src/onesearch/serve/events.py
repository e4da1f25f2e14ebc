"""What shoppers do while the service runs: kept in memory for the next search, and on disk for the next start.

One JSON object a line, written and synced before the event counts. The file holds who did what: it is for its owner's
eyes alone (mode 600), and to forget a shopper is to take their lines out and start again.
"""

import datetime
import fcntl
import json
import os
import stat
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from onesearch.log.text import normalize_query
from onesearch.types import UserError

KINDS = ("search", "click", "order")


class Event(NamedTuple):
    """Something that a shopper did."""

    user_id: str
    kind: str  # one of `KINDS`
    us: int  # microseconds since 1970
    item_id: str | None  # None for a search
    query: str | None  # normalised; None for a click or order outside search


class EventStore:
    """The latest events of the latest shoppers.

    Args:
        path: a file of JSON lines; it is made where it is missing, and read where it is there.
        per_shopper: events kept in memory of each shopper.
        max_shoppers: shoppers kept in memory; those without an event for the longest time are forgotten first.

    Attributes:
        num_damaged: lines of the file that could not be read, such as one cut short by a power failure.

    Raises:
        UserError: the file cannot be opened, or another service writes to it.
    """

    def __init__(self, path: Path, per_shopper: int = 200, max_shoppers: int = 100_000) -> None:
        self.path = path
        self.num_damaged = 0
        self._per_shopper = per_shopper
        self._max_shoppers = max_shoppers
        self._of: OrderedDict[str, deque[Event]] = OrderedDict()
        self._memory, self._disk = threading.Lock(), threading.Lock()  # a search never waits for the disk
        self._closed = False
        try:
            self._file = _open(path)
        except BlockingIOError as error:
            raise UserError(
                f"{path} is written by another service: end that one first, or name another file with --events."
            ) from error
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}): name another file with --events.") from error
        self._remember(self._read())

    def of(self, user_id: str | None) -> tuple[Event, ...]:
        """Events of a shopper, oldest first."""
        with self._memory:
            return tuple(self._of.get(user_id or "", ()))

    def append(self, events: Sequence[Event]) -> None:
        """Write events to disk, all of them or none, then let the next search know.

        If the power fails meanwhile, some may be there: nobody has been told so.

        Raises:
            OSError: they could not be written.
        """
        with self._disk:
            size = os.fstat(self._file).st_size
            lines = memoryview("".join(_line(event) for event in events).encode())
            try:
                while lines:
                    lines = lines[os.write(self._file, lines) :]
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, size)  # half a line would spoil the next one
                raise
            self._remember(events)

    def close(self) -> None:
        """Close the file; another service may then write to it."""
        with self._disk:
            if not self._closed:
                os.close(self._file)
            self._closed = True

    def _remember(self, events: Iterable[Event]) -> None:
        with self._memory:
            for event in events:
                self._of.setdefault(event.user_id, deque(maxlen=self._per_shopper)).append(event)
                self._of.move_to_end(event.user_id)
                if len(self._of) > self._max_shoppers:
                    self._of.popitem(last=False)

    def _read(self) -> Iterable[Event]:
        ended = True
        with self.path.open("rb") as file:
            for line in file:
                ended = line.endswith(b"\n")
                try:
                    yield _event(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    self.num_damaged += 1
        if not ended:
            os.write(self._file, b"\n")  # what comes next begins a line of its own


def _open(path: Path) -> int:
    """Open a file for ourselves alone; it and its folders are there after a power failure.

    Raises:
        BlockingIOError: another process has it open so.
        OSError: it cannot be opened, or not be kept from others' eyes.
    """
    made = [folder for folder in path.absolute().parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # or a write of theirs could be cut off with one of ours
        if stat.S_IMODE(os.fstat(file).st_mode) != 0o600:
            os.fchmod(file, 0o600)
        for folder in {path.absolute().parent, *(folder.parent for folder in made)}:
            _sync(folder)
    except OSError:
        os.close(file)
        raise
    return file


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _line(event: Event) -> str:
    time = datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(microseconds=event.us)
    told = {"time": time.isoformat(), "user_id": event.user_id, "kind": event.kind}
    told |= {name: value for name, value in (("item_id", event.item_id), ("query", event.query)) if value is not None}
    return json.dumps(told, ensure_ascii=False) + "\n"


def _event(told: dict[str, str]) -> Event:
    us = microseconds(datetime.datetime.fromisoformat(told["time"]))
    query = told.get("query")
    if told["kind"] not in KINDS or not isinstance(told["user_id"], str):
        raise ValueError(told["kind"])
    return Event(told["user_id"], told["kind"], us, told.get("item_id"), normalize_query(query) if query else None)


def microseconds(time: datetime.datetime) -> int:
    """Since 1970; a time without a zone is UTC."""
    aware = time if time.tzinfo else time.replace(tzinfo=datetime.UTC)
    return (aware - datetime.datetime.fromtimestamp(0, datetime.UTC)) // datetime.timedelta(microseconds=1)
