"""An epoch's order: all examples once, another order each epoch, the same whenever it is asked for."""

from itertools import pairwise

from lightning.pytorch.utilities.data import _is_dataloader_shuffled
from torch.utils.data import DataLoader

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


def test_lightning_knows_that_it_shuffles():
    """Else several processes would be dealt an order that is never told of its epoch: the same one in each."""
    assert _is_dataloader_shuffled(DataLoader("abc", sampler=Shuffled("abc", 0)))
