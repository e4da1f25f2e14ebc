"""SearchEngine against a brute force over all SIDs, and what it refuses."""

import json
import shutil

import numpy as np
import pytest
import torch

from onesearch.artifacts import ArtifactError
from onesearch.khqe import Khqe
from onesearch.serve.engine import SearchEngine
from onesearch.tasks.prompt import Views


@pytest.fixture(scope="module")
def searches(tiny_log):
    """Ten searches of the test period: known and unknown users, seen and unseen queries."""
    return tiny_log.contexts("test")[:10]


@pytest.fixture
def make_engine(tiny_engine, tiny_khqe):
    def make(form="search", views=None, **options):
        tokenizer = tiny_engine.writer.tokenizer
        return SearchEngine(tiny_khqe, tiny_engine.generator, tokenizer, form, views or Views(), **options)

    return make


@torch.no_grad()
def test_wide_beams_equal_brute_force(make_engine, searches, tiny_khqe):
    """As many beams as SIDs: each search's items are all SIDs by falling log-probability, buckets opened in order."""
    sids = torch.from_numpy(tiny_khqe.table.sids)
    engine = make_engine(num_beams=len(sids))
    encoded = engine.generator.encode(engine.batch(searches))
    scores = engine.generator.sid_log_probs(encoded, sids.expand(len(searches), -1, -1)).sum(-1).double().numpy()
    for ranked, row in zip(engine.rank(searches, 36), scores, strict=True):
        # Items stand by falling score, and each score is that of the item's own SID.
        of_item = row[tiny_khqe.table.sid_rows(tiny_khqe.item_codes[ranked.items])]
        assert np.allclose(ranked.scores, of_item, atol=1e-4)
        assert (np.diff(of_item) < 1e-4).all()
        want = sum(min(5, len(tiny_khqe.table.bucket(sid))) for sid in range(len(sids)))
        assert len(ranked.items) == min(36, want)


def test_items_are_known_and_none_comes_twice(tiny_engine, searches):
    for ranked in tiny_engine.rank(searches, 10):
        assert len(ranked.items) == len(set(ranked.items.tolist())) == 10
        assert ranked.items.min() >= 0
        assert ranked.items.max() < 36
        assert (np.diff(ranked.scores) <= 1e-9).all()


def test_an_answer_does_not_depend_on_the_batch(tiny_engine, searches):
    """Asked alone, a search gets the same items with the same scores."""
    together = tiny_engine.rank(searches, 10)
    for context, ranked in zip(searches, together, strict=True):
        alone = tiny_engine.rank([context], 10)[0]
        assert np.allclose(alone.scores, ranked.scores, atol=1e-4)
        assert alone.items[0] == ranked.items[0]


def test_the_answer_is_not_read(tiny_engine, searches):
    """Clicks, orders and impressions of the search itself change nothing."""
    bare = [context._replace(clicked=(), purchased=(), impressed=None, search_id="") for context in searches]
    for one, two in zip(tiny_engine.rank(searches, 10), tiny_engine.rank(bare, 10), strict=True):
        assert np.array_equal(one.items, two.items)


def test_a_shared_sid_shows_its_best_items_first(tiny_khqe, tiny_engine):
    """Even rows share one SID, odd rows another; higher rows come first, two of each SID are shown, three are asked."""
    codes = tiny_khqe.table.sids[[0, 1] * 18]
    shared = Khqe(tiny_khqe.encoder, tiny_khqe.codebook, [], codes, tiny_khqe.item_embeddings, np.arange(36.0))
    tokenizer = tiny_engine.writer.tokenizer
    engine = SearchEngine(shared, tiny_engine.generator, tokenizer, "search", Views(), per_bucket=2)
    ranked = engine.expand(codes[[1, 0]], np.array([-0.5, -1.5]), 3)
    assert ranked.items.tolist() == [35, 33, 34]
    assert ranked.scores.tolist() == [-0.5, -0.5, -1.5]


@pytest.mark.parametrize(("form", "asked"), [("sid", "<to_sid>"), ("cooccur", "<to_item>"), ("search", "<to_item>")])
def test_each_form_asks_its_own_prompt(make_engine, searches, form, asked):
    """Query text alone, SID_q alone, or the whole search."""
    engine = make_engine(form)
    writer, context = engine.writer, searches[0]
    tokens = engine.prompt(context).tokens
    assert tokens[0] == writer.vocabulary.marker(asked)
    if form == "sid":
        assert tokens[2:-1] == writer.text(context.query)
    elif form == "cooccur":
        assert tokens[2:-1] == writer.sid(engine.khqe.sid_of(context.query))
    else:
        assert tokens == writer.search(context).tokens
    assert len(engine.rank([context], 3)[0].items) == 3


def test_ranking_leaves_the_model_in_its_mode(make_engine, searches):
    """In validation the generator goes on training afterwards; dropout is off while it answers."""
    engine = make_engine()
    want = engine.rank(searches[:1], 5)[0]
    engine.generator.train()
    got = engine.rank(searches[:1], 5)[0]
    assert engine.generator.training
    engine.generator.eval()
    assert np.array_equal(got.scores, want.scores)


def test_search_answers_with_titles_and_sids(tiny_engine, tiny_log, tiny_khqe):
    """As typed, for a user and for nobody; each hit is an item of the log with its own SID."""
    for user in ("u0", None, "nobody we know"):
        hits = tiny_engine.search(tiny_log, "  Red-BOOTS!", user, k=4)
        assert len(hits) == 4
        for hit in hits:
            row = tiny_log.row_of[hit.item_id]
            assert hit.title == tiny_log.items["title"][row].as_py()
            assert hit.sid == tiny_khqe.spec.render(tiny_khqe.item_codes[row].tolist())
            assert hit.score <= 0
    assert tiny_engine.search(tiny_log, "red boots", "u0", 4) == tiny_engine.search(tiny_log, "RED BOOTS", "u0", 4)


def test_open_takes_the_last_finished_stage(tiny_run, tiny_khqe):
    assert SearchEngine.open(tiny_run, khqe=tiny_khqe).form == "search"
    assert SearchEngine.open(tiny_run, "sft_align", tiny_khqe).form == "sid"


def test_open_reads_the_sids_itself(tiny_run, tiny_engine, searches):
    again = SearchEngine.open(tiny_run)
    assert np.array_equal(again.rank(searches, 5)[3].items, tiny_engine.rank(searches, 5)[3].items)


def test_an_untrained_run_says_so(tmp_path):
    with pytest.raises(ArtifactError, match="no trained generator yet"):
        SearchEngine.open(tmp_path)


def test_a_stage_that_is_not_there_is_named(tiny_run, tiny_khqe):
    with pytest.raises(ArtifactError, match="dpo_hybrid holds no finished artefact"):
        SearchEngine.open(tiny_run, "dpo_hybrid", tiny_khqe)


def test_a_generator_of_another_codebook_is_refused(tiny_run, tmp_path, tiny_khqe):
    """Both codebooks are named: the one it was trained on, and the one that is there."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    path = run / "quantizer" / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    trained_on = manifest["fingerprint"]
    path.write_text(json.dumps(manifest | {"fingerprint": "feedfacefeedface"}), "utf-8")
    with pytest.raises(ArtifactError, match=f"quantizer {trained_on}, but quantizer feedfacefeedface"):
        SearchEngine.open(run, khqe=tiny_khqe)
