"""Windows, cold start and relevant search units against small lists one can follow by eye."""

import numpy as np
import torch
from torch import tensor

from onesearch.behavior.cold import with_default
from onesearch.behavior.relevant import most_similar, same_category
from onesearch.behavior.window import PADDING, latest, slide_back, window
from onesearch.types import SearchContext


def test_the_latest_behaviours():
    """Of 1…6 the last three; all of a shorter sequence; none of none."""
    sequence = (1, 2, 3, 4, 5, 6)
    assert latest(sequence, 3) == (4, 5, 6)
    assert latest(sequence, 9) == sequence
    assert latest(sequence, 0) == latest((), 3) == ()
    assert latest(np.array(sequence), 2).tolist() == [5, 6]


def test_window_pads_on_the_right():
    values, lengths = window([(1, 2, 3), (), (4,)], size=2)
    assert values.tolist() == [[2, 3], [PADDING, PADDING], [4, PADDING]]
    assert lengths.tolist() == [2, 0, 1]
    assert window([], size=2).values.shape == (0, 2)


def shopper():
    """Three searches, at 10, 20 and 30; the second led to clicks 5 and 6, of which 6 was bought, the others to 4 and 7.

    Outside search, 8 was clicked at 15 and bought at 25, and 9 was clicked at 30, at the time of the last search.
    """
    return SearchContext(
        **dict.fromkeys(("search_id", "user_id", "query", "profile"), ""),
        **dict.fromkeys(("cold_start", "clicked", "purchased", "impressed"), ()),
        day=1,
        recent_queries=("a", "b", "c"),
        recent_query_times=(10, 20, 30),
        recent_clicks=(4, 5, 6, 7),
        recent_click_times=(10, 20, 20, 30),
        long_clicks=(4, 8, 5, 6, 9, 7),
        long_click_days=(0, 0, 1, 1, 2, 2),
        long_click_times=(10, 15, 20, 20, 30, 30),
        long_orders=(6, 8),
        long_order_times=(20, 25),
    )


def known(context):
    return context.recent_queries, context.recent_clicks, context.long_clicks, context.long_orders


def test_the_window_slides_by_the_time_of_the_click_that_ends_it():
    """One click back ends with 6, at 20: query c and all that happened later are hidden, the order at 25 as well.

    Two back ends with 5, which 6 goes with, as both are of one search; three back with 4, at 10.
    """
    assert known(slide_back(shopper(), 1)) == (("a", "b"), (4, 5, 6), (4, 8, 5, 6), (6,))
    assert known(slide_back(shopper(), 2)) == known(slide_back(shopper(), 1))
    assert known(slide_back(shopper(), 3)) == (("a",), (4,), (4,), ())


def test_days_and_times_slide_with_what_they_belong_to():
    slid = slide_back(shopper(), 1)
    assert (slid.long_click_days, slid.long_click_times) == ((0, 0, 1, 1), (10, 15, 20, 20))
    assert (slid.recent_query_times, slid.recent_click_times, slid.long_order_times) == ((10, 20), (10, 20, 20), (20,))
    assert slide_back(slid, 0) == slid


def test_sliding_leaves_the_rest_of_the_search_alone():
    """Nothing to slide by: unchanged. Farther than the first click: as at that click. Query, day and answer stay."""
    assert slide_back(shopper(), 0) == shopper()
    nobody = shopper()._replace(recent_clicks=(), recent_click_times=())
    assert slide_back(nobody, 2) == nobody
    assert slide_back(shopper(), 99) == slide_back(shopper(), 3)
    behavior = {name: () for name in SearchContext._fields if name.startswith(("recent_", "long_"))}
    assert slide_back(shopper(), 3)._replace(**behavior) == shopper()._replace(**behavior)


def test_no_sequence_shows_what_another_one_hides():
    """Every time that is left is at or before the cut, for each shift; the query and click of the cut are left."""
    for shift in range(5):
        slid = slide_back(shopper(), shift)
        end = slid.recent_click_times[-1]
        times = (slid.recent_query_times, slid.long_click_times, slid.long_order_times)
        assert all(time <= end for sequence in times for time in sequence)
        assert all(map(len, (slid.recent_queries, slid.long_clicks)))


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
