"""Lists and labels of the reward model, on contexts written by hand."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from onesearch.artifacts import write_json
from onesearch.data.reward import NegativeDrawer, candidates_of, labels_of, read_catalogue
from onesearch.types import SearchContext


def search(**fields):
    empty = dict.fromkeys(SearchContext._fields, ())
    return SearchContext(**{**empty, "query": "tv", "day": 3, "impressed": None, **fields})


def drawer(contexts=(), categories=(0, 0, 0, 0, 1, 1, 1, -1), num=6):
    return NegativeDrawer(contexts, np.array(categories), num, seed=0)


def test_shown_items_are_the_list_clicked_first():
    """Shown 1 2 3 4, clicked 3: the list 3 1 2, cut at three, keeps the click."""
    context = search(impressed=(1, 2, 3, 4), clicked=(3,))
    assert candidates_of(context, 3, drawer()) == [3, 1, 2]
    assert candidates_of(search(impressed=(1, 2)), 5, drawer()) == [1, 2]


def test_searches_that_teach_nothing_have_no_list():
    """Nothing shown, or nothing recorded as shown and nothing clicked."""
    assert candidates_of(search(impressed=()), 5, drawer()) == []
    assert candidates_of(search(), 5, drawer()) == []


def test_drawn_negatives_are_distinct_unclicked_and_of_all_three_kinds():
    """Of six, two come from the cold start (0 is clicked: 7, 6 stay), two from category 0, the rest by popularity."""
    context = search(clicked=(0,), cold_start=(0, 7, 6, 5))
    for _ in range(20):
        drawn = drawer().draw(context)
        assert drawn[:2] == [7, 6]
        assert 0 not in drawn and len(set(drawn)) == len(drawn) <= 6
    same = [item for _ in range(50) for item in drawer().draw(context)[2:4]]
    assert set(same) & {1, 2, 3}


def test_popular_items_are_drawn_more():
    """Item 5 has 1,000 clicks, item 4 none: with weights 1000.1 to .1 it is in practically every draw."""
    popular = drawer([search(clicked=(5,))] * 1000, categories=[-1] * 8, num=3)
    draws = [popular.draw(search(clicked=(0,))) for _ in range(50)]
    assert sum(5 in drawn for drawn in draws) == 50
    assert sum(4 in drawn for drawn in draws) < 10


def test_draws_repeat_with_the_seed():
    context = search(clicked=(0,), cold_start=(0, 7))
    assert [drawer().draw(context) for _ in range(3)] == [drawer().draw(context)] * 3


def test_labels_and_padding():
    """Item 2 clicked and bought, 3 bought elsewhere without a click: no order of this list."""
    contexts = [search(clicked=(2,), purchased=(2, 3), impressed=(2, 3)), search(clicked=(1,))]
    labels = labels_of(contexts, [[2, 3], [1]], orders_known=True)
    assert labels.clicked.tolist() == [[1, 0], [1, 0]]
    assert labels.purchased.tolist() == [[1, 0], [0, 0]]
    assert labels.drawn.tolist() == [False, True]
    assert labels.orders_known.tolist() == [True, True]


def test_catalogue_is_read_in_item_order(tmp_path):
    pq.write_table(
        pa.table({"item_id": ["a", "b"], "codes": pa.array([[1, 2], [3, 4]], pa.list_(pa.int32()))}),
        tmp_path / "items.parquet",
    )
    write_json(tmp_path / "spec.json", {"rq_sizes": [4], "opq_sizes": [5]})
    save_file({"items": torch.eye(2), "queries": torch.eye(2)}, tmp_path / "embeddings.safetensors")
    catalogue = read_catalogue(tmp_path, [["a"], None])
    assert catalogue.codes.tolist() == [[1, 2], [3, 4]]
    assert catalogue.categories.tolist() == [0, -1]
    assert torch.equal(catalogue.embeddings, torch.eye(2))
