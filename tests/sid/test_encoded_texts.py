"""What is kept of encoded texts, and what is forgotten."""

import pytest
import torch

from onesearch.khqe import Khqe
from onesearch.sid.encoded_texts import EncodedTexts


def add(texts: EncodedTexts, *names: str) -> None:
    """Each text under a code and an embedding of its own."""
    texts.add(names, torch.tensor([[float(len(name))] for name in names]), [[ord(name[0])] for name in names])


def test_the_latest_used_of_what_comes_later_stay():
    """Bounded at 2: `a` and `b` are there for good; c, d, c again, e: d was used the longest ago."""
    texts = EncodedTexts()
    add(texts, "a", "b")
    texts.bound(2)
    add(texts, "c", "dd")
    assert texts["c"].codes == [ord("c")]
    add(texts, "e")
    assert [name in texts for name in ("a", "b", "c", "dd", "e")] == [True, True, True, False, True]
    assert len(texts) == 4
    assert texts["e"].embedding.tolist() == [1.0]
    with pytest.raises(KeyError):
        texts["dd"]


def test_a_kept_embedding_does_not_keep_its_batch():
    """Of a batch of 1,000 rows one is left: its storage is one row."""
    texts = EncodedTexts()
    texts.bound(1)
    texts.add([str(row) for row in range(1000)], torch.rand(1000, 8), [[0]] * 1000)
    assert len(texts) == 1
    assert texts["999"].embedding.untyped_storage().nbytes() == 8 * 4


def test_at_least_one_is_kept():
    with pytest.raises(ValueError, match="most is 0"):
        EncodedTexts().bound(0)


def test_what_was_forgotten_is_encoded_again(tiny_run):
    """A thousand new queries leave ten, and a forgotten one has the SID that it had."""
    khqe = Khqe.open(tiny_run)
    known = len(khqe.texts)
    khqe.texts.bound(10)
    first = khqe.sid_of("query 0 of many")
    khqe.learn(f"query {number} of many" for number in range(1000))
    assert len(khqe.texts) == known + 10
    assert not khqe.knows("query 0 of many")
    assert khqe.sid_of("query 0 of many") == first
    assert len(khqe.texts) == known + 10
