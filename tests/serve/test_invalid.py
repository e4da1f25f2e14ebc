"""SIDs that no item has, against free beams of the engine that are looked up one by one."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from onesearch.decoding.free import EverySid
from onesearch.serve import invalid
from onesearch.serve.engine import SearchEngine
from onesearch.serve.invalid import InvalidSids


@pytest.fixture(scope="module")
def engine(tiny_run, tiny_khqe):
    found = SearchEngine.open(tiny_run, "sft_personalize", tiny_khqe)
    found.generator.eval()
    return found


@pytest.fixture(scope="module")
def searches(tiny_log):
    return tiny_log.contexts("validation")[:6]


@torch.inference_mode()
def found_by(sids, engine, searches, most):
    found = sids.most_probable(engine.generator, engine.generator.encode(engine.batch(searches)), 4, most)
    return [one.tolist() for one in found]


def free_beams(engine, searches, num_beams):
    engine.num_beams = num_beams
    return engine.beams_within(searches, EverySid(engine.khqe.spec.sizes))[0].codes.tolist()


@pytest.mark.parametrize("most", [1, 5, 12])
def test_the_most_probable_of_the_free_beams(tiny_run, tiny_khqe, engine, searches, most):
    """Those of 4 + 2·`most` beams that are not among the items' SIDs, in their order; this generator writes many."""
    taken = {tuple(codes) for codes in tiny_khqe.item_codes.tolist()}
    beams = free_beams(engine, searches, 4 + 2 * most)
    want = [[sid for sid in one if tuple(sid) not in taken][:most] for one in beams]
    found = found_by(InvalidSids.open(tiny_run, tiny_khqe), engine, searches, most)
    assert found == want
    assert all(1 <= len(one) <= most for one in found)


def test_none_are_asked_for(tiny_run, tiny_khqe, engine, searches):
    """Nothing is searched, whatever the beams would be."""
    found = InvalidSids.open(tiny_run, tiny_khqe).most_probable(
        engine.generator, engine.generator.encode(engine.batch(searches)), 0, 0
    )
    assert [one.shape for one in found] == [(0, tiny_khqe.spec.num_layers)] * len(searches)


def test_an_item_that_came_later_has_its_sid(tiny_run, tiny_khqe, engine, searches, monkeypatch):
    """Every SID found at first is taken by a new item: less probable ones are found in their place."""

    def found():
        return found_by(InvalidSids.open(tiny_run, tiny_khqe), engine, searches, 12)

    before = found()
    codes = np.array([sid for one in before for sid in one])
    monkeypatch.setattr(invalid, "read_added", lambda run: SimpleNamespace(items=codes, item_codes=codes))
    after = found()
    assert not {tuple(sid) for one in after for sid in one} & {tuple(sid) for sid in codes.tolist()}
    assert all(len(one) > 0 for one in before)
