"""Lists and labels of the reward model, on contexts written by hand."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from onesearch.artifacts import write_json
from onesearch.data.reward import NegativeDrawer, RewardData, candidates_of, kept_places, positions_of, read_catalogue
from onesearch.data.reward_rows import KeptRows
from onesearch.types import SearchContext, UserError


def search(**fields):
    empty = dict.fromkeys(SearchContext._fields, ())
    return SearchContext(**{**empty, "search_id": "s", "query": "tv", "day": 3, "impressed": None, **fields})


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
    for number in range(20):
        drawn = drawer().draw(context._replace(search_id=str(number)))
        assert drawn[:2] == [7, 6]
        assert 0 not in drawn and len(set(drawn)) == len(drawn) <= 6
    same = [item for number in range(50) for item in drawer().draw(context._replace(search_id=str(number)))[2:4]]
    assert set(same) & {1, 2, 3}


def test_popular_items_are_drawn_more():
    """Item 5 has 1,000 clicks, item 4 none: with weights 1000.1 to .1 it is in practically every draw."""
    popular = drawer([search(clicked=(5,))] * 1000, categories=[-1] * 8, num=3)
    draws = [popular.draw(search(clicked=(0,), search_id=str(number))) for number in range(50)]
    assert sum(5 in drawn for drawn in draws) == 50
    assert sum(4 in drawn for drawn in draws) < 10


def test_draws_hang_on_seed_and_search_alone():
    """Not on what was drawn before."""
    context, one = search(clicked=(0,), cold_start=(0, 7)), drawer()
    assert [one.draw(context) for _ in range(3)] == [drawer().draw(context)] * 3
    assert len({tuple(one.draw(context._replace(search_id=str(number)))) for number in range(20)}) > 1


def test_places_on_the_page():
    """Shown 4 7 5: 5 is third, 4 first. Beside a clicked 9 that was not shown no place is told; nothing recorded.

    The sixtieth place is the last that is told apart.
    """
    assert positions_of(search(impressed=(4, 7, 5)), [5, 4]) == [3, 1]
    assert positions_of(search(impressed=(4, 7, 5)), [9, 5]) == [0, 0]
    assert positions_of(search(impressed=tuple(range(60))), [59, 1]) == [50, 2]
    assert positions_of(search(impressed=None), [5]) == [0]


def test_clicked_ones_are_kept_and_a_share_of_the_others():
    """400 lists of 20 with one click and one place of padding: every click, and .25 of 18·400 ± 4 deviations."""
    clicked, shown = np.zeros((400, 20), bool), np.ones((400, 20), bool)
    clicked[:, 3], shown[:, 19] = True, False
    places = kept_places(clicked, shown, 0.25, (0, 0, range(400)))
    assert ((places == 3).sum(1) == 1).all()
    assert not (places == 19).any()
    others = int((places >= 0).sum()) - 400
    assert abs(others - 1800) < 4 * (7200 * 0.25 * 0.75) ** 0.5
    for row in places.tolist():
        kept = [place for place in row if place >= 0]
        assert kept == sorted(set(kept)) and row == kept + [-1] * (len(row) - len(kept))


def test_what_is_kept_hangs_on_seed_epoch_and_search_alone():
    """Not on which searches are drawn beside it."""
    clicked, shown = np.zeros((2, 30), bool), np.ones((2, 30), bool)

    def kept(*chance, at=0):
        return [place for place in kept_places(clicked, shown, 0.5, chance)[at].tolist() if place >= 0]

    assert kept(0, 0, [7, 8]) == kept(0, 0, [9, 7], at=1)
    assert len({tuple(kept(*chance, [7, 8])) for chance in ((0, 0), (0, 1), (1, 0))}) == 3


def ready(run, **options):
    data = RewardData(run, batch_size=16, **options)
    data.setup("fit")
    return data


def test_rows_that_are_kept_are_those_that_are_built(tiny_run):
    """In any order and with any neighbours; without memory nothing is kept."""
    data = ready(tiny_run)
    found = data.examples["fit"]
    kept, built = (KeptRows(data.features, found.searches, found.candidates, size) for size in (1.0, 0.0))
    for index in ([5, 0, 17], [3]):
        for one, other in zip(kept.take(index), built.take(index), strict=True):
            assert torch.equal(one, other)
    assert kept.kept is not None and built.kept is None


def test_splits_share_what_is_kept_and_too_little_is_told(tiny_run):
    """The shares of training and validation are the whole; that they take more is said once."""
    data = ready(tiny_run, memory=1e-6)
    assert sum(rows.memory for rows in data.rows.values()) == pytest.approx(1e-6)
    rows = data.rows["fit"]
    with pytest.warns(UserWarning, match=r"features of \d+ searches take more than the .* 'data.init_args.memory'"):
        rows.take([0])
    rows.take([1])


def test_an_epoch_is_another_order_which_the_seed_fixes(tiny_run):
    """The order of epoch 3 is the same for who goes on and who starts there."""

    def order(data, epoch):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        return list(loader.sampler)

    data = ready(tiny_run)
    assert order(data, 3) == order(ready(tiny_run), 3) != order(data, 2)
    assert order(ready(tiny_run, seed=1), 3) != order(data, 3)
    assert sorted(order(data, 3)) == list(range(len(data.examples["fit"].queries)))


def test_labels_of_a_batch(tiny_run):
    """Clicked ones first; of a log that records both, bought ones are clicked ones; anonymous negatives are drawn.

    With a tenth of the negatives the clicks stay, with the places on the page where they were shown.
    """
    data, thin = ready(tiny_run), ready(tiny_run, keep_negatives=0.1)
    batches, thinned = (list(found._loader("fit", shuffle=False)) for found in (data, thin))
    for batch, few in zip(batches, thinned, strict=True):
        labels, mask = batch.labels, batch.inputs.mask
        assert (labels.purchased <= labels.clicked).all() and not labels.clicked[~mask].any()
        assert (labels.kept == 1).all() and torch.allclose(few.labels.kept, torch.tensor(0.1))
        assert torch.equal(few.labels.clicked.sum(1), labels.clicked.sum(1))
        assert ((batch.inputs.position > 0) <= ~labels.drawn[:, None] & mask).all()
        at, kept = labels.clicked > 0, few.labels.clicked > 0
        assert torch.equal(few.inputs.item[kept], batch.inputs.item[at])
        assert torch.equal(few.inputs.position[kept], batch.inputs.position[at])
    assert sum(int(few.inputs.mask.sum()) for few in thinned) < 0.5 * sum(int(b.inputs.mask.sum()) for b in batches)
    assert sum(float(batch.labels.purchased.sum()) for batch in batches) > 0
    assert any(batch.labels.drawn.any() for batch in batches)


def test_a_share_of_lists_shorter_than_the_longest_of_the_split(tiny_run):
    """A batch whose lists are narrower than those of the split keeps its clicks where they are."""
    data = ready(tiny_run)
    found = data.examples["fit"]
    lengths = (found.candidates >= 0).sum(1)
    index = np.flatnonzero(lengths < lengths.max())[:3].tolist()
    thin = data._batch("fit", 0.5, index)
    assert len(index) == 3 and thin.inputs.mask.shape[1] < lengths.max()
    assert thin.labels.clicked.sum(1).tolist() == found.clicked[index].sum(1).tolist()


def test_validation_draws_the_same_negatives_alone_and_beside_a_fit(tiny_run):
    alone = RewardData(tiny_run)
    alone.setup("validate")
    one, other = alone.examples["validation"], ready(tiny_run).examples["validation"]
    assert one.drawn.any()
    np.testing.assert_array_equal(one.candidates, other.candidates)


def test_a_share_is_a_share(tmp_path):
    for share in (0.0, 1.5):
        with pytest.raises(UserError, match="keep_negatives"):
            RewardData(tmp_path, keep_negatives=share)


def test_catalogue_is_read_in_item_order(tmp_path):
    pq.write_table(
        pa.table({"item_id": ["a", "b"], "codes": pa.array([[1, 2], [3, 4]], pa.list_(pa.int32()))}),
        tmp_path / "items.parquet",
    )
    write_json(tmp_path / "spec.json", {"rq_sizes": [4], "opq_sizes": [5]})
    save_file({"items": torch.eye(2), "queries": torch.eye(2)}, tmp_path / "embeddings.safetensors")
    empty = dict.fromkeys(("title", "brand", "seller", "price", "attributes"), [None] * 2)
    items = {**empty, "category": [["a"], None]}
    catalogue = read_catalogue(tmp_path, items)
    assert catalogue.codes.tolist() == [[1, 2], [3, 4]]
    assert catalogue.categories.tolist() == [0, -1]
    assert torch.equal(catalogue.embeddings, torch.eye(2))
