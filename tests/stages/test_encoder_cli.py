"""`onesearch fit` of the encoder, on a handful of items that it can learn by heart."""

import shutil

import lightning
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from handful import CONFIGS, THINGS, copied, facts, fingerprint, logged, refusal
from onesearch.artifacts import verify
from onesearch.data.alignment import AlignmentData
from onesearch.log.prepared import Log
from onesearch.log.text import item_texts
from onesearch.main import main
from onesearch.models.text_encoder import TextEncoder
from onesearch.stages.encoder import EncoderStage

QUIET = ("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false")


def test_learns_which_items_a_query_leads_to(encoder_run):
    """Each thing is asked for and comes in four colours: the four items nearest to "kettle" are the four kettles."""
    log, encoder = Log.open(encoder_run / "log"), TextEncoder.load(encoder_run / "encoder")
    items, queries = encoder.embed(item_texts(log.items)), encoder.embed(THINGS)
    assert torch.allclose(items.norm(dim=1), torch.ones(16), atol=1e-5)
    nearest = (queries @ items.T).topk(4).indices.tolist()
    kinds = [[log.items["category"][row].as_py()[-1] for row in rows] for rows in nearest]
    assert kinds == [[thing] * 4 for thing in THINGS]


def test_the_loss_falls_and_is_logged_by_part(encoder_run):
    """56 clicks and 32 orders (even days) before the test are 88 pairs, 11 batches an epoch; the loss is halved."""
    loss = logged(encoder_run, "encoder", "train/loss")
    assert len(loss) == facts(encoder_run, "encoder")["num_steps"]
    assert len(loss) % 11 == 0
    assert sum(loss[-11:]) < 0.5 * sum(loss[:11])
    for part in ("q2i", "rank"):
        assert logged(encoder_run, "encoder", f"train/{part}")


def test_validation_finds_the_clicked_items_in_the_whole_catalogue(encoder_run):
    """The figures of the end are those of the exported encoder, counted one query at a time.

    Every query is learnt from (fit_splits holds validation): there are no figures of unseen ones.
    """
    log, encoder = Log.open(encoder_run / "log"), TextEncoder.load(encoder_run / "encoder")
    clicked = {}
    for context in log.contexts("validation"):
        clicked.setdefault(context.query, set()).update(context.clicked)
    items = encoder.embed(item_texts(log.items)).double()
    recalls, reciprocals = [], []
    for query, wanted in clicked.items():
        best = (items @ encoder.embed([query])[0].double()).argsort(descending=True).tolist()[:10]
        recalls.append(len(wanted & set(best)) / len(wanted))
        reciprocals.append(1 / min(place for place, item in enumerate(best, 1) if item in wanted))
    (recall_10,), (mrr_10,) = (logged(encoder_run, "encoder", f"val/{name}") for name in ("recall@10", "mrr@10"))
    assert recall_10 == pytest.approx(sum(recalls) / len(recalls))
    assert mrr_10 == pytest.approx(sum(reciprocals) / len(reciprocals))
    assert logged(encoder_run, "encoder", "val/recall@100") == [1.0]  # of 16 items
    assert logged(encoder_run, "encoder", "val/recall@10_unseen") == []
    assert facts(encoder_run, "encoder")["metrics"]["val/recall@10"] == pytest.approx(recall_10)


def read(run, table):
    """Names and vectors of all parts, whichever the format."""
    names, vectors = [], []
    for path in sorted((run / "embeddings").glob(f"{table}-*.parquet")):
        part = pq.read_table(path)
        array = path.with_suffix(".npy")
        found = np.load(array, mmap_mode="r") if array.is_file() else np.stack(part["embedding"].to_numpy())
        assert found.dtype == np.float32
        names += part.column(0).to_pylist()
        vectors.append(found)
    return names, np.concatenate(vectors)


@pytest.mark.parametrize("form", ["parquet", "numpy"])
def test_predict_embeds_the_catalogue_with_the_exported_encoder(encoder_run, tmp_path, form):
    """With the shipped configuration alone, whose sizes are others: what was fitted is read, and nothing is trained."""
    run = copied(encoder_run, tmp_path / "run")
    before = fingerprint(run, "tokenizer")
    options = ("--model.init_args.embeddings", form, "--data.init_args.embed_batch_size", "5")
    main(["predict", "-c", str(CONFIGS / "encoder.yaml"), "--run", str(run), *QUIET, *options])
    log, encoder = Log.open(run / "log"), TextEncoder.load(run / "encoder")
    names, vectors = read(run, "items")
    assert names == log.item_ids
    np.testing.assert_allclose(vectors, encoder.embed(item_texts(log.items)).numpy(), atol=1e-5)
    names, vectors = read(run, "queries")
    assert names == log.queries["query"].to_pylist()
    np.testing.assert_allclose(vectors, encoder.embed(names).numpy(), atol=1e-5)
    found = verify(run / "embeddings", "embeddings", [run / "log", run / "encoder"]).facts
    assert found == {"format": form, "num_items": 16, "num_queries": len(names)}
    assert fingerprint(run, "tokenizer") == before
    assert sorted(path.name for path in run.iterdir() if path.name.startswith(".")) == []


def test_some_of_the_catalogue_replaces_no_embeddings(encoder_run, tmp_path, capsys):
    """A rehearsal writes nothing; a limit is refused, as a number or as a share; one above all texts limits nothing."""
    run = copied(encoder_run, tmp_path / "run")
    predict = ("predict", "-c", str(CONFIGS / "encoder.yaml"), "--run", str(run), *QUIET)
    few = (*predict, "--data.init_args.embed_batch_size", "2", "--trainer.limit_predict_batches")
    main([*few, "100"])
    before = fingerprint(run, "embeddings")
    main([*predict, "--trainer.fast_dev_run", "true"])
    for limit in ("3", "0.5"):
        sentence = refusal(capsys, *few, limit)
        assert sentence.startswith(f"trainer.limit_predict_batches is {limit}: {run}/embeddings would hold some")
    assert fingerprint(run, "embeddings") == before
    assert facts(run, "embeddings")["num_items"] == 16
    assert sorted(path.name for path in run.iterdir() if path.name.startswith(".")) == []


def test_one_writer_serves_several_predictions(tiny_run_copy, monkeypatch):
    stage, data = EncoderStage(tiny_run_copy), AlignmentData(tiny_run_copy)
    writers = stage.configure_callbacks()
    monkeypatch.setattr(EncoderStage, "configure_callbacks", lambda _: writers)
    options = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    trainer = lightning.Trainer(accelerator="cpu", default_root_dir=tiny_run_copy, **options)
    for _ in range(2):
        trainer.predict(stage, data)
        assert facts(tiny_run_copy, "embeddings")["num_items"] == 36


def test_two_processes_share_the_work(encoder_run, tmp_path):
    """Each writes every second row, none is lost and none written twice (3 queries more than items: odd numbers)."""
    run = copied(encoder_run, tmp_path / "run")
    two = ("--trainer.devices", "2", "--trainer.strategy", "ddp_fork")
    main(["predict", "-c", str(CONFIGS / "encoder.yaml"), "--run", str(run), *QUIET, *two])
    log = Log.open(run / "log")
    assert sorted(path.name for path in (run / "embeddings").glob("items-*")) == [
        "items-00000.parquet",
        "items-00001.parquet",
    ]
    names, vectors = read(run, "items")
    assert names == log.item_ids[::2] + log.item_ids[1::2]
    want = TextEncoder.load(run / "encoder").embed(item_texts(log.items)).numpy()
    np.testing.assert_allclose(vectors, want[[log.row_of[name] for name in names]], atol=1e-5)
    assert sorted(read(run, "queries")[0]) == sorted(log.queries["query"].to_pylist())


def test_predict_without_an_encoder_says_what_to_run(shop_run, tmp_path, capsys):
    shutil.copytree(shop_run / "log", tmp_path / "run" / "log")
    sentence = refusal(capsys, "predict", "-c", str(CONFIGS / "encoder.yaml"), "--run", str(tmp_path / "run"), *QUIET)
    assert sentence.startswith(f"{tmp_path}/run/encoder holds no finished artefact")


def test_hands_on_an_artefact_of_this_log(encoder_run):
    """It knows its log and its width."""
    manifest = verify(encoder_run / "encoder", "encoder", [encoder_run / "log"])
    assert manifest.facts["dim"] == 32


def test_without_a_log_it_says_what_to_run(tmp_path, capsys):
    sentence = refusal(capsys, "fit", "-c", str(CONFIGS / "encoder.yaml"), "--run", str(tmp_path / "nowhere"))
    assert sentence.startswith(f"{tmp_path}/nowhere/log holds no finished artefact")
