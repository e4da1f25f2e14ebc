"""Preference lists as batches: written by hand as an artefact, read back as SIDs."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from onesearch.artifacts import ArtifactError, writing
from onesearch.data.preferences import PreferenceData


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
    # The prompts are those that the reference answers in a search.
    want = tiny_engine.batch([searches[-1], searches[-2]])
    assert torch.equal(batch.prompt.input_ids[[row, 1 - row]], want.input_ids)


def test_searches_to_predict_are_the_latest_answered_ones(tiny_run, searches):
    data = data_of(tiny_run, num_searches=7)
    data.setup("predict")
    assert [c.search_id for batch in data.predict_dataloader() for c in batch] == [c.search_id for c in searches[-7:]]


def test_validation_is_cut_and_of_its_split(tiny_run, tiny_log):
    data = data_of(tiny_run, num_validation=4)
    data.setup("predict")
    allowed = {c.search_id for c in tiny_log.contexts("validation") if c.clicked}
    found = [c.search_id for batch in data.val_dataloader() for c in batch]
    assert len(found) == 4
    assert set(found) <= allowed


def test_no_lists_yet(tiny_run):
    with pytest.raises(ArtifactError, match="dpo_lists holds no finished artefact"):
        data_of(tiny_run).setup("fit")


def test_lists_of_another_reference_are_refused(run):
    """Their log-probabilities are another model's: naming both fingerprints."""
    write_lists(run, [{"search_id": "s", "chosen": "i00"}], reference="sft_align")
    with pytest.raises(ArtifactError, match=r"made from generator \w+, but generator \w+"):
        data_of(run).setup("fit")
