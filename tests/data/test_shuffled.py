"""An epoch's order: all examples once, another order each epoch, the same whenever it is asked for."""

from itertools import islice, pairwise

import torch.distributed as dist

from onesearch.data.shuffled import Shuffled


def order(epoch, seed=0):
    sampler = Shuffled("abcdefghijklmnopqrst", seed)
    numbers = iter(sampler)
    sampler.set_epoch(epoch)  # Lightning tells of it after it has asked for an iterator
    return list(numbers)


def test_seed_and_epoch_fix_the_order():
    orders = [order(0), order(1), order(2), order(0, seed=1)]
    assert all(sorted(found) == list(range(20)) for found in orders)
    assert all(one != other for one, other in pairwise(orders))
    assert order(2) == orders[2]


def test_processes_share_an_epoch(monkeypatch):
    """Three processes, 20 examples: seven each in the order of one process, dealt out in turn, one shown twice."""
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        parts.append(order(1))
    dealt = [number for row in zip(*parts, strict=True) for number in row]
    monkeypatch.undo()
    assert dealt == [*order(1), order(1)[0]]


def test_goes_on_behind_what_was_shown():
    """Once, and only in the epoch that was begun."""
    first = Shuffled("abcdefghijklmnopqrst", 0)
    first.set_epoch(3)
    shown = list(islice(first, 8))
    for epoch, missing in ((3, 8), (4, 0)):
        rest = Shuffled("abcdefghijklmnopqrst", 0)
        rest.load_state_dict(first.state_dict())
        rest.set_epoch(epoch)
        assert list(rest) == order(epoch)[missing:]
        assert list(rest) == order(epoch)
    assert shown == order(3)[:8]
