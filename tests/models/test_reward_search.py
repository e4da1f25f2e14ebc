"""The search units of the reward model, by hand and by definition."""

import math

import pytest
import torch
from reward_inputs import DIM, model, random_input
from torch import tensor

from onesearch.models.reward_search import NOTHING, best, latest, latest_of_category, nearest


def found(picks):
    """The positions that were found for each candidate of one search, in the order of time."""
    scores, positions = picks
    rows = zip(scores[0], positions[0], strict=True)
    return [sorted(place for score, place in zip(*row, strict=True) if score > NOTHING) for row in rows]


def test_hard_search_picks_the_latest_of_the_category():
    """History categories 0 1 0 0 −1, one pick: candidate of category 0 → position 3, of 1 → 1, unknown → nothing."""
    inputs = random_input(1, 3)._replace(
        long_category=tensor([[0, 1, 0, 0, -1]]),
        item_category=tensor([[0, 1, -1]]),
        long_mask=tensor([[True] * 4 + [False]]),
    )
    assert found(latest_of_category(inputs, 1)) == [[3], [1], []]
    assert found(latest_of_category(inputs, 9)) == [[0, 2, 3], [1], []]


def test_soft_search_picks_the_nearest():
    """Cosines .1 .8 .5 .2 and .9 on padding: the nearest two are .8 and .5; asked for nine, all four that exist."""
    cosines = tensor([0.1, 0.8, 0.5, 0.2, 0.9])
    history = torch.zeros(1, 5, DIM)
    history[0, :, 0], history[0, :, 1] = cosines, (1 - cosines**2).sqrt()
    inputs = random_input(1, 1)._replace(
        item=torch.eye(DIM)[None, :1], long=history, long_mask=tensor([[True, True, True, True, False]])
    )
    scores, positions = nearest(inputs, 2)
    assert found((scores, positions)) == [[1, 2]]
    assert sorted(scores[0, 0].tolist()) == pytest.approx([0.5, 0.8])
    assert found(nearest(inputs, 9)) == [[0, 1, 2, 3]]


@pytest.mark.parametrize(("length", "k"), [(5, 9), (300, 1), (321, 20), (1000, 20), (1000, 200)])
def test_the_best_are_those_of_a_sort(length, k):
    """Also by way of groups, whose last one is cut short where 8 does not divide the length."""
    scores = torch.randn(3, 4, length, generator=torch.Generator().manual_seed(0)).clamp(min=NOTHING)
    values, positions = best(scores, k)
    want = scores.sort(descending=True).values[..., : min(k, length)]
    assert torch.equal(values.sort(descending=True).values, want)
    assert torch.equal(scores.gather(-1, positions), values)
    assert all(len(set(row.tolist())) == min(k, length) for row in positions.flatten(0, 1))


def test_without_a_search_the_latest_are_read():
    """Histories of 4 and 1 of 5 places, two read: places 2 and 3; place 0 and nothing."""
    mask = tensor([[True] * 4 + [False], [True] + [False] * 4])
    scores, positions = latest(mask, 2)
    assert positions.tolist() == [[[2, 3]], [[0, 0]]]
    assert (scores > NOTHING).tolist() == [[[True, True]], [[False, True]]]


def test_exact_search_equals_attention_by_definition():
    """Projected key by key, head by head: softmax(q·k/√d) over the picks; the learned vector where there are none."""
    unit, inputs = model().body.interest, random_input()
    draw = torch.Generator().manual_seed(1)
    positions = torch.stack([torch.randperm(5, generator=draw)[:3] for _ in range(12)]).view(3, 4, 3)
    exists = torch.rand(3, 4, 3, generator=draw) < 0.6
    exists[0, 1] = False
    torch.nn.init.constant_(unit.nothing, 7.0)
    got = unit(inputs, positions, exists)
    gaps = torch.nn.functional.one_hot(inputs.long_gap, 14)
    for b, x, head in ((b, x, head) for b in range(3) for x in range(4) for head in range(2)):
        at, kept = slice(4 * head, 4 * head + 4), positions[b, x][exists[b, x]]
        if len(kept):
            behaviors = torch.cat([inputs.long[b, kept], gaps[b, kept].float()], -1)
            key, value = unit.key(behaviors)[:, at], unit.value(behaviors)[:, at]
            weight = (key @ unit.candidate(inputs.item[b, x])[at] / math.sqrt(4)).softmax(0)
            torch.testing.assert_close(got[b, x, at], weight @ value)
    assert (got[0, 1] == 7).all()
    assert not (got[0, 0] == 7).all()
