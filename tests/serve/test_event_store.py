"""Events on disk and in memory."""

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from onesearch.serve.events import Event, EventStore
from onesearch.types import UserError


def click(user: str, us: int, item: str = "i01", query: str | None = "red boots") -> Event:
    return Event(user, "click", us, item, query)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kept" / "events.jsonl"


def test_a_restart_has_all_that_was_told(path):
    """Chinese, quotes, microseconds and what is left out come back as they were; only the owner may read the file."""
    told = [
        Event('we"ird\n', "search", 1_700_000_000_123_456, None, "红色 靴子"),
        click("u", 1),
        Event("u", "order", 2, "i02", None),
    ]
    store = EventStore(path)
    store.append(told[:1])
    store.append(told[1:])
    store.close()
    again = EventStore(path)
    assert again.of('we"ird\n') == (told[0],)
    assert again.of("u") == tuple(told[1:])
    assert again.of("somebody") == again.of(None) == ()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text("utf-8").splitlines()) == 3


def test_a_line_cut_short_costs_that_line_alone(path):
    """As after a power failure: the next event begins a line of its own."""
    store = EventStore(path)
    store.append([click("u", 1), click("u", 2)])
    store.close()
    path.write_bytes(path.read_bytes()[:-20])
    store = EventStore(path)
    assert (store.of("u"), store.num_damaged) == ((click("u", 1),), 1)
    store.append([click("u", 3)])
    store.close()
    store = EventStore(path)
    assert (store.of("u"), store.num_damaged) == ((click("u", 1), click("u", 3)), 1)


@pytest.mark.parametrize(
    "line", ["[]", "{}", '{"time": 3}', '{"time": "2024-01-01", "user_id": 7, "kind": "click"}', "\xff"]
)
def test_lines_of_another_kind_are_passed_over(path, line):
    path.parent.mkdir()
    path.write_bytes(line.encode("latin-1") + b"\n")
    assert EventStore(path).num_damaged == 1


def test_memory_is_bounded(path):
    """Two events a shopper, two shoppers; the file has all."""
    store = EventStore(path, per_shopper=2, max_shoppers=2)
    store.append([click("a", 1), click("b", 2), click("a", 3), click("a", 4), click("c", 5)])
    assert [[event.us for event in store.of(user)] for user in "abc"] == [[3, 4], [], [5]]
    assert len(path.read_bytes().splitlines()) == 5


def test_a_full_disk_takes_all_or_none(path, monkeypatch):
    """The disk fails in the middle of the second write: the file is as before, and so is memory."""
    store = EventStore(path)
    store.append([click("u", 1)])
    before = path.read_bytes()
    write = os.write

    def fails_halfway(file: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, bytes(data)[: len(data) - 10])

    monkeypatch.setattr(os, "write", fails_halfway)
    with pytest.raises(OSError, match="No space"):
        store.append([click("u", 2)])
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert store.of("u") == (click("u", 1),)
    store.append([click("u", 3)])
    assert [json.loads(line)["item_id"] for line in path.read_text("utf-8").splitlines()] == ["i01", "i01"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"events\.jsonl cannot be written .* --events"):
        EventStore(tmp_path / "file" / "events.jsonl")


def test_two_services_do_not_write_to_one_file(path):
    """Or else what one of them cuts off after a failure could be what the other one has just told is kept."""
    first = EventStore(path)
    with pytest.raises(UserError, match=r"events\.jsonl is written by another service: .* --events"):
        EventStore(path)
    first.close()
    first.close()
    EventStore(path).close()


def test_a_file_that_others_may_read_is_shut(path):
    path.parent.mkdir()
    path.touch(0o644)
    EventStore(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_folders_of_a_new_file_are_on_disk(path, monkeypatch):
    """The one that was made, and the one in which it was made: else the file is not there after a power failure."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink()))
    EventStore(path).close()
    assert {path.parent, path.parent.parent} == set(synced)
