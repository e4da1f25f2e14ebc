"""Windows, cold start and relevant search units against small lists one can follow by eye."""

import numpy as np
import torch
from torch import tensor

from onesearch.behavior.cold import with_default
from onesearch.behavior.relevant import most_similar, same_category
from onesearch.behavior.window import PADDING, slide, window


def test_slide_ends_shift_behaviours_before_the_present():
    """Of 1…6, the three that end two before the present are 2, 3, 4; far enough back there is nothing."""
    sequence = (1, 2, 3, 4, 5, 6)
    assert slide(sequence, 0, 3) == (4, 5, 6)
    assert slide(sequence, 2, 3) == (2, 3, 4)
    assert slide(sequence, 5, 3) == (1,)
    assert slide(sequence, 9, 3) == ()
    assert slide(np.array(sequence), 1, 2).tolist() == [4, 5]


def test_window_pads_on_the_right():
    values, lengths = window([(1, 2, 3), (), (4,)], size=2)
    assert values.tolist() == [[2, 3], [PADDING, PADDING], [4, PADDING]]
    assert lengths.tolist() == [2, 0, 1]
    assert window([(1, 2, 3)], size=2, shift=1).values.tolist() == [[1, 2]]
    assert window([], size=2).values.shape == (0, 2)


def test_cold_start_puts_the_most_clicked_last():
    """Best first 9, 8, 7: the two best are 9 and 8, and 9 takes the newest place. A real history is cut to size."""
    assert with_default((), (9, 8, 7), 2) == (8, 9)
    assert with_default((1, 2, 3), (9, 8), 2) == (2, 3)
    assert with_default((), (), 2) == ()


def test_most_similar_keeps_time_order_and_skips_padding():
    """Largest cosines .9 at 3 and .8 at 0 stand in time order; the 1.0 at 4 is padding."""
    similarity = tensor([[0.8, 0.1, 0.2, 0.9, 1.0]])
    mask = tensor([[True, True, True, True, False]])
    assert most_similar(similarity, mask, 2).tolist() == [[0, 3]]
    assert most_similar(similarity, mask, 6).tolist() == [[0, 1, 2, 3, PADDING, PADDING]]


def test_same_category_keeps_the_latest():
    """Category 5 stands at 0, 2, 3: the latest two are 2 and 3. An unknown category (−1) matches no padding."""
    history = tensor([5, 6, 5, 5, -1])
    assert same_category(tensor(5), history, 2).tolist() == [2, 3]
    assert same_category(tensor(7), history, 2).tolist() == [PADDING, PADDING]
    assert same_category(tensor(-1), history, 2).tolist() == [PADDING, PADDING]


def test_search_units_work_over_candidates():
    """[B, X] candidates against one history [B, 1, T] broadcast by hand give [B, X, k]."""
    history = tensor([[[1, 2, 1]]]).expand(1, 2, 3)
    assert same_category(tensor([[1, 2]]), history, 2).tolist() == [[[0, 2], [1, PADDING]]]
    assert torch.equal(most_similar(torch.zeros(2, 0), torch.zeros(2, 0).bool(), 2), torch.full((2, 2), PADDING))
