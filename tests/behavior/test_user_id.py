"""User ID: published weights, hand-worked blends, and a reference that goes row by row."""

import math

import numpy as np
import pytest
import torch

from onesearch.behavior.user_id import NONE, blend, blend_embeddings, recency_weights, user_id


def test_weights_of_three_are_the_published_ones():
    """λ_i = e^√i/Σ: e^1 = 2.718, e^1.414 = 4.113, e^1.732 = 5.652, sum 12.484: .218 .330 .453."""
    assert recency_weights(3).round(3).tolist() == [0.218, 0.329, 0.453]  # .3295 prints as .330 from 4 digits
    assert recency_weights(3).tolist() == pytest.approx([0.21775, 0.32950, 0.45276], abs=1e-4)


def test_weights_of_a_long_history_sum_to_one():
    weights = recency_weights(100_000)
    assert weights.sum() == pytest.approx(1)
    assert (np.diff(weights) > 0).all()


def test_blend_by_hand():
    """Codes 10, 20, 30: .21775·10 + .3295·20 + .45276·30 = 22.35, up to 23; the padded 999 counts for nothing."""
    codes = np.array([[[10, 0], [20, 0], [30, 1], [999, 999]]])
    assert blend(codes, np.array([3])).tolist() == [[23, 1]]


def test_blend_of_one_code_is_that_code():
    """⌈7·Σλ⌉ = 7 for each length, although Σλ is 1 only up to rounding."""
    lengths = np.arange(1, 60)
    codes = np.full((59, 59, 5), 4095)
    assert (blend(codes, lengths) == 4095).all()


def test_blend_equals_the_formula_row_by_row():
    rng = np.random.default_rng(0)
    codes, lengths = rng.integers(0, 1024, size=(50, 9, 5)), rng.integers(1, 10, size=50)
    for row, length, got in zip(codes, lengths, blend(codes, lengths), strict=True):
        weights = [math.exp(math.sqrt(i + 1)) for i in range(length)]
        want = [
            math.ceil(sum(w * int(c) for w, c in zip(weights, column, strict=False)) / sum(weights) - 1e-9)
            for column in row.T
        ]
        assert got.tolist() == want


def test_user_id_is_short_then_long_and_empty_is_none():
    """Short history empty: NONE five times; long history of one item: its codes."""
    empty, item = np.zeros((1, 2, 5), dtype=int), np.array([[[1, 2, 3, 4, 5], [0, 0, 0, 0, 0]]])
    assert user_id(empty, np.array([0]), item, np.array([1])).tolist() == [[NONE] * 5 + [1, 2, 3, 4, 5]]


def test_embeddings_are_blended_by_the_same_weights():
    """Three at right angles: the blend leans on each as λ says, .21775 : .32950 : .45276 over its length .60081."""
    blended = blend_embeddings(torch.eye(3))
    assert blended.tolist() == pytest.approx([0.21775 / 0.60081, 0.32950 / 0.60081, 0.45276 / 0.60081], abs=1e-4)
    assert torch.allclose(blend_embeddings(torch.tensor([[0.6, 0.8]])), torch.tensor([0.6, 0.8]))
    assert blend_embeddings(torch.eye(3)[:, [2, 1, 0]]).tolist() == blended.tolist()[::-1]
