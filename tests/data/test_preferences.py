"""Preference lists as batches: written by hand as an artefact, read back as SIDs."""

import warnings
from types import SimpleNamespace

import lightning
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from onesearch.artifacts import ArtifactError, writing
from onesearch.data.preferences import PreferenceData
from onesearch.serve import invalid


def write_lists(run, rows, reference="sft_personalize"):
    with writing(run / "dpo_lists", "preferences", [run / "log", run / "quantizer", run / reference]) as folder:
        pq.write_table(pa.Table.from_pylist(rows), folder / "lists.parquet")


def data_of(run, **options):
    return PreferenceData(run, "dpo", "sft_personalize", **options)


@pytest.fixture
def searches(tiny_log):
    return [context for context in tiny_log.contexts("train") if context.clicked]


@pytest.fixture
def run(tiny_run_copy, searches):
    """Two lists: i00 above i01 and i02, and i30 above i31."""
    rows = [
        (searches[-1], "i00", -1.0, ["i01", "i02"], [-2.0, -3.0], [1.5, 0.5]),
        (searches[-2], "i30", -4.0, ["i31"], [-5.0], [2.5]),
    ]
    names = ("search_id", "chosen", "reference_chosen", "rejected", "reference_rejected", "weights")
    write_lists(tiny_run_copy, [dict(zip(names, (c.search_id, *rest), strict=True)) for c, *rest in rows])
    return tiny_run_copy


def test_a_batch_by_hand(run, searches, tiny_khqe, tiny_engine):
    """Rows in either order (they are shuffled); what is missing is masked, its SID a repeat of the chosen one."""
    data = data_of(run)
    data.setup("fit")
    (batch,) = data.train_dataloader()
    codes = tiny_khqe.item_codes
    row = batch.reference[:, 0].tolist().index(-1.0)
    assert batch.codes[row].tolist() == codes[[0, 1, 2]].tolist()
    assert batch.codes[1 - row].tolist() == codes[[30, 31, 30]].tolist()
    assert batch.reference[row].tolist() == [-1.0, -2.0, -3.0]
    assert batch.reference[1 - row].tolist() == [-4.0, -5.0, 0.0]
    assert batch.weights[[row, 1 - row]].tolist() == [[1.5, 0.5], [2.5, 0.0]]
    assert batch.mask[[row, 1 - row]].tolist() == [[True, True], [True, False]]
    assert batch.shares is None and batch.invalid is None  # written before there were any
    # The prompts are those that the reference answers in a search.
    want = tiny_engine.batch([searches[-1], searches[-2]])
    assert torch.equal(batch.prompt.input_ids[[row, 1 - row]], want.input_ids)


def test_what_no_item_has_stands_behind_the_items(tiny_run_copy, searches, tiny_khqe):
    """A soft list of two items and a SID of none, one of three items alone: the SID is rejected, without a chance."""
    sid = [7, 5, 3, 3, 3]
    rows = [
        {"chosen": "i00", "rejected": ["i01"], "reference_rejected": [-2.0], "weights": [1.0], "shares": [0.7, 0.3]}
        | {"invalid": [sid], "reference_invalid": [-6.0], "invalid_weight": 1.0, "reference_chosen": -1.0},
        {"chosen": "i30", "rejected": ["i31", "i32"], "reference_rejected": [-5.0, -7.0], "weights": [1.0, 1.0]}
        | {"invalid": [], "reference_invalid": [], "invalid_weight": 1.0, "reference_chosen": -4.0}
        | {"shares": [0.5, 0.3, 0.2]},
    ]
    found = [row | {"search_id": searches[place].search_id} for place, row in enumerate(rows)]
    write_lists(tiny_run_copy, found)
    data = data_of(tiny_run_copy)
    data.setup("fit")
    (batch,) = data.train_dataloader()
    order = [batch.reference[:, 0].tolist().index(log) for log in (-1.0, -4.0)]
    codes = tiny_khqe.item_codes
    assert batch.codes[order].tolist() == [[*codes[[0, 1]].tolist(), sid], codes[[30, 31, 32]].tolist()]
    assert batch.reference[order].tolist() == [[-1, -2, -6], [-4, -5, -7]]
    assert batch.weights[order].tolist() == [[0, 0], [0, 0]]  # soft lists have none
    torch.testing.assert_close(batch.shares[order], torch.tensor([[0.7, 0.3, 0.0], [0.5, 0.3, 0.2]]))
    assert batch.mask.all()
    assert batch.invalid[order].tolist() == [[False, True], [False, False]]


@pytest.mark.parametrize("shares", [None, [0.7, 0.3]])
def test_a_sid_that_an_item_has_got_since_is_not_rejected(tiny_run_copy, searches, monkeypatch, shares):
    """Of two SIDs of no item the first is an item's by the time of `fit`: it goes with what belongs to it, aloud."""
    sids = [[7, 5, 3, 3, 3], [7, 5, 3, 3, 2]]
    row = {"search_id": searches[0].search_id, "chosen": "i00", "rejected": ["i01"], "shares": shares}
    row |= {"reference_chosen": -1.0, "reference_rejected": [-2.0], "weights": None if shares else [1.5]}
    row |= {"invalid": sids, "reference_invalid": [-6.0, -7.0], "invalid_weight": None if shares else 3.0}
    write_lists(tiny_run_copy, [row])
    data = data_of(tiny_run_copy)
    data.setup("fit")
    assert data.lists[0].invalid == sids
    monkeypatch.setattr(invalid, "read_added", lambda run: SimpleNamespace(items=[1], item_codes=np.array(sids[:1])))
    with pytest.warns(UserWarning, match=r"dpo_lists: 1 of the SIDs that no item had .* have one by now"):
        data.setup("fit")
    (found,) = data.lists
    assert (found.invalid, found.reference) == (sids[1:], [-1.0, -2.0, -7.0])
    assert found.weights == ([] if shares else [1.5, 3.0])
    (batch,) = data.train_dataloader()
    assert batch.codes.shape[1] == 3 and batch.invalid.tolist() == [[False, True]]


def test_searches_to_predict_are_the_latest_answered_ones(tiny_run, searches):
    data = data_of(tiny_run, num_searches=7)
    data.setup("predict")
    lists, _ = data.predict_dataloader()
    assert [c.search_id for batch in lists for c in batch] == [c.search_id for c in searches[-7:]]


def test_searches_without_a_click_may_give_lists_too(tiny_run, tiny_log):
    data = data_of(tiny_run, answered=False)
    data.setup("predict")
    found = [c.search_id for batch in data.predict_dataloader()[0] for c in batch]
    assert found == [c.search_id for c in tiny_log.contexts("train")]
    assert any(not c.clicked for c in tiny_log.contexts("train"))


def test_searches_that_only_judge_are_of_a_split_without_lists(tiny_run, tiny_log):
    """The validation split's, at most 5; none where that split gives lists itself."""
    data = data_of(tiny_run, num_judged=5)
    data.setup("predict")
    _, judging = data.predict_dataloader()
    found = {c.search_id for batch in judging for c in batch}
    assert len(found) == 5
    assert found <= {c.search_id for c in tiny_log.contexts("validation") if c.clicked}
    for options in ({"splits": ("train", "validation")}, {"num_judged": 0}):
        data = data_of(tiny_run, **options)
        data.setup("predict")
        assert len(data.predict_dataloader()) == 1


def test_validation_is_cut_and_of_its_split(tiny_run, tiny_log):
    data = data_of(tiny_run, num_validation=4)
    data.setup("predict")
    allowed = {c.search_id for c in tiny_log.contexts("validation") if c.clicked}
    found = [c.search_id for batch in data.val_dataloader() for c in batch]
    assert len(found) == 4
    assert set(found) <= allowed


@pytest.fixture
def many(tiny_run_copy, searches):
    """Twelve lists; the chosen items' log-probabilities are their numbers."""
    names = ("search_id", "chosen", "reference_chosen", "rejected", "reference_rejected", "weights")
    rows = ((c.search_id, "i00", -float(n), ["i01"], [0.0], [1.0]) for n, c in enumerate(searches[:12]))
    write_lists(tiny_run_copy, [dict(zip(names, row, strict=True)) for row in rows])
    return tiny_run_copy


def shown(data, epoch):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [batch.reference[:, 0].tolist() for batch in loader]


def test_seed_and_epoch_fix_the_order(many):
    """Whatever torch drew before; each epoch, and each seed, has another one of the same twelve."""

    def order(seed, epoch):
        torch.manual_seed(epoch + 7)
        data = data_of(many, batch_size=4, seed=seed)
        data.setup("fit")
        return shown(data, epoch)

    assert order(0, 1) == order(0, 1)
    orders = [order(0, 0), order(0, 1), order(1, 0)]
    assert len({str(found) for found in orders}) == 3
    assert all(sorted(-log for batch in found for log in batch) == list(range(12)) for found in orders)


class Reader(lightning.LightningModule):
    """Notes the lists that it is shown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.shown = []

    def training_step(self, batch, _):
        self.shown.append((self.current_epoch, batch.reference[:, 0].tolist()))
        return self.weight

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_fit_goes_on_inside_its_epoch(many, tmp_path):
    """Two epochs of three batches, stopped after the fourth: the rest is that of a fit in one piece."""

    def read(max_steps, ckpt_path=None):
        reader, data = Reader(), data_of(many, batch_size=4)
        keep = ModelCheckpoint(tmp_path / str(max_steps), save_last=True, every_n_train_steps=1, save_top_k=0)
        quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
        trainer = lightning.Trainer(
            max_epochs=2, max_steps=max_steps, accelerator="cpu", limit_val_batches=0, callbacks=[keep], **quiet
        )
        trainer.fit(reader, data, ckpt_path=ckpt_path)
        return reader.shown

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole, first = read(-1), read(4)
        rest = read(-1, tmp_path / "4" / "last.ckpt")
    assert len(whole) == 6
    assert [*first, *rest] == whole


def test_no_lists_yet(tiny_run):
    with pytest.raises(ArtifactError, match="dpo_lists holds no finished artefact"):
        data_of(tiny_run).setup("fit")


def test_lists_of_another_reference_are_refused(run):
    """Their log-probabilities are another model's: naming both fingerprints."""
    write_lists(run, [{"search_id": "s", "chosen": "i00"}], reference="sft_align")
    with pytest.raises(ArtifactError, match=r"made from generator \w+, but generator \w+"):
        data_of(run).setup("fit")
