"""Checkpoints are whole or not there, whatever happens while one is written, and a damaged one is known for it."""

import multiprocessing
import os
import random
import resource
import signal
import time

import pytest
import torch

from onesearch.resilience.checkpoints import WholeCheckpoints, damage, newest
from onesearch.types import UserError

SIZE = 250_000


def checkpoint(number: int) -> dict[str, object]:
    """A megabyte that is the same number everywhere."""
    return {"weights": torch.full((SIZE,), float(number)), "step": number, "order": {"epoch": 1, "shown": number}}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def save_for_ever(path):
    for number in range(1_000_000):
        WholeCheckpoints().save_checkpoint(checkpoint(number), path)


def test_a_process_killed_at_any_time_leaves_a_whole_checkpoint(tmp_path):
    """It does nothing but write; killed twelve times, mostly in the middle of a file. What lay about is cleared."""
    path, context, rng = tmp_path / "last.ckpt", multiprocessing.get_context("fork"), random.Random(0)
    WholeCheckpoints().save_checkpoint(checkpoint(0), path)
    leftovers = 0
    for _ in range(12):
        process = context.Process(target=save_for_ever, args=(path,))
        process.start()
        time.sleep(rng.uniform(0.02, 0.08))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        found = WholeCheckpoints().load_checkpoint(path)
        assert (found["weights"] == found["step"]).all()
        leftovers += len(list(tmp_path.glob(".*")))
    assert leftovers  # else it was never killed while it wrote
    WholeCheckpoints().save_checkpoint(checkpoint(1), path)
    assert names(tmp_path) == ["last.ckpt"]


def test_a_full_disk_leaves_the_old_one(tmp_path):
    """Half a checkpoint is as much as a file may hold here."""
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint(checkpoint(1), path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * SIZE, limits[1]))
    try:
        with pytest.raises(UserError, match=rf"checkpoint {path} could not be written \(File too large\)"):
            WholeCheckpoints().save_checkpoint(checkpoint(2), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == ["last.ckpt"]
    assert WholeCheckpoints().load_checkpoint(path)["step"] == 1


def test_what_is_no_fault_of_the_disk_keeps_its_words(tmp_path):
    with pytest.raises(AttributeError):
        WholeCheckpoints().save_checkpoint({"local": lambda: None}, tmp_path / "last.ckpt")
    assert not names(tmp_path)


def test_a_flipped_bit_is_seen_or_does_not_matter(tmp_path):
    """Anywhere in the file: either it is called damaged, or all that is read is what was written."""
    path, rng = tmp_path / "last.ckpt", random.Random(0)
    state = {"weights": torch.randn(2000), "step": 3}
    WholeCheckpoints().save_checkpoint(state, path)
    whole, seen = path.read_bytes(), 0
    places = [*rng.sample(range(len(whole)), 60), *range(len(whole) - 600, len(whole), 7)]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        if damage(path):
            seen += 1
            continue
        found = WholeCheckpoints().load_checkpoint(path)
        assert found["step"] == 3
        assert torch.equal(found["weights"], state["weights"])
    assert seen > len(places) // 2


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.999])
def test_a_truncated_last_is_named_and_skipped(tmp_path, kept):
    """`last.ckpt` leads to the newest file; without it training goes on from the one before."""
    for number, name in enumerate(("step=5.ckpt", "step=9.ckpt")):
        WholeCheckpoints().save_checkpoint(checkpoint(number), tmp_path / name)
        os.utime(tmp_path / name, (number, number))
    (tmp_path / "last.ckpt").symlink_to("step=9.ckpt")
    assert newest([tmp_path]) == tmp_path / "step=9.ckpt"
    last = tmp_path / "step=9.ckpt"
    last.write_bytes(last.read_bytes()[: int(kept * last.stat().st_size)])
    os.utime(last, (1, 1))
    with pytest.warns(UserWarning, match=rf"The checkpoint {last} is damaged .* goes on from {tmp_path}/step=5.ckpt"):
        assert newest([tmp_path]) == tmp_path / "step=5.ckpt"
    with pytest.raises(UserError, match=rf"The checkpoint {last} is damaged .* by --ckpt_path"):
        WholeCheckpoints().load_checkpoint(last)


def test_without_a_whole_one_training_begins_anew(tmp_path):
    assert newest([tmp_path, tmp_path / "gone"]) is None
    (tmp_path / "last.ckpt").write_bytes(b"no archive")
    (tmp_path / "dangling.ckpt").symlink_to("gone.ckpt")
    with pytest.warns(UserWarning, match=r"last.ckpt is damaged \(File is not a zip file\).* begins anew"):
        assert newest([tmp_path]) is None


def test_nothing_that_could_run_code_is_read(tmp_path):
    """A class by its name is refused before anything is made of it; a place elsewhere is no file of this machine."""
    torch.save({"path": tmp_path}, tmp_path / "last.ckpt")  # noqa: TID251  # as somebody else might
    with pytest.raises(UserError, match="Weights only load failed"):
        WholeCheckpoints().load_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    with pytest.raises(UserError, match=r"There is no checkpoint https://example.org/last.ckpt: name a file"):
        WholeCheckpoints().load_checkpoint("https://example.org/last.ckpt")
