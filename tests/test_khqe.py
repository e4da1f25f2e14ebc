"""KHQE over the tiny run: fusion by hand, SIDs that stay what they are, the RSU by brute force."""

import json
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn.functional import normalize

from onesearch.artifacts import ArtifactError, writing
from onesearch.behavior.categories import UNKNOWN
from onesearch.keywords.lexicon import Keyword, Lexicon
from onesearch.khqe import KeywordEncoder, Khqe
from onesearch.log.text import item_texts
from onesearch.tasks.evidence import Asked
from onesearch.tasks.prompt import Views


@pytest.fixture
def fresh(tiny_run):
    """A Khqe of its own: what it learns stays with the test."""
    return Khqe.open(tiny_run)


def test_embedding_by_hand(tiny_khqe):
    """½·e + ½·mean of the keywords found; 'boots' twice counts once, and a text without keywords keeps its e."""
    plain = tiny_khqe.encoder.encoder
    lexicon = Lexicon((Keyword("Color", "red", 9), Keyword("Entity", "boots", 5), Keyword("Entity", "rug", 4)))
    e, red, boots = plain.embed(["red boots for boots", "red", "boots"])
    got = KeywordEncoder(plain, lexicon).embed(["red boots for boots", "something else"])
    assert torch.allclose(got[0], normalize(0.5 * e + 0.25 * (red + boots), dim=0), atol=1e-5)
    assert torch.allclose(got[1], plain.embed(["something else"])[0], atol=1e-5)


def test_mined_keywords_are_the_attribute_values(tiny_khqe):
    """The shop's queries name colours and kinds: both are core keywords."""
    assert {"red", "boots", "kettle"} <= set(tiny_khqe.encoder.matcher.values)


def test_item_embeddings_are_those_of_the_item_texts(tiny_khqe, tiny_log):
    """Stored at fitting, encoded again here."""
    again = tiny_khqe.encoder.embed(item_texts(tiny_log.items))
    assert torch.allclose(again, tiny_khqe.item_embeddings, atol=1e-5)
    assert tiny_khqe.item_ids == tiny_log.item_ids


def test_a_text_has_one_sid_however_it_is_asked(fresh):
    """Alone, among others, a second time, and straight from the codebook."""
    texts = ["yellow rug", "never seen before", "靴", "red boots"]
    alone = [fresh.sid_of(text) for text in texts[:2]]
    fresh.learn(texts + texts)
    assert [fresh.sid_of(text) for text in texts[:2]] == alone
    want = fresh.codebook.encode(fresh.encoder.embed(texts)).tolist()
    assert [fresh.sid_of(text) for text in texts] == want
    assert torch.allclose(fresh.embedding_of("靴"), fresh.encoder.embed(["靴"])[0], atol=1e-5)
    assert torch.allclose(fresh.embedding_of("not learnt yet").norm(), torch.tensor(1.0), atol=1e-5)


def test_stored_queries_are_not_encoded_again(tiny_run, tiny_log, monkeypatch):
    """Every query of the fit has the SID that a fresh encoding gives, without running the encoder."""
    khqe = Khqe.open(tiny_run)
    queries = tiny_log.queries["query"].to_pylist()
    want = khqe.codebook.encode(khqe.encoder.embed(queries)).tolist()
    monkeypatch.setattr(khqe.encoder, "embed", lambda texts: pytest.fail(f"encoded {texts}"))
    assert [khqe.sid_of(query) for query in queries] == want


def test_saved_and_opened_it_is_the_same(tiny_run_copy):
    """Write it once more under the same parents: codes, embeddings, centroids, priorities, queries."""
    first = Khqe.open(tiny_run_copy)
    with writing(tiny_run_copy / "quantizer", "quantizer", [tiny_run_copy / p for p in ("encoder", "log")]) as folder:
        first.save(folder, ["red boots", "brand new"])
    again = Khqe.open(tiny_run_copy)
    assert np.array_equal(again.item_codes, first.item_codes)
    assert np.array_equal(again.priority, first.priority)
    assert torch.equal(again.item_embeddings, first.item_embeddings)
    assert all(map(torch.equal, again.centroids, first.centroids))
    assert pq.read_table(tiny_run_copy / "quantizer" / "queries.parquet")["query"].to_pylist() == [
        "red boots",
        "brand new",
    ]
    assert again.sid_of("brand new") == first.sid_of("brand new")


def test_without_queries_it_can_be_written_too(fresh, tmp_path):
    fresh.save(tmp_path, [])
    assert pq.read_table(tmp_path / "queries.parquet").num_rows == 0


def test_another_encoder_is_refused(tiny_run_copy):
    """The encoder was trained again (here: its manifest says so): the SIDs are not its own any more."""
    path = tiny_run_copy / "encoder" / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    old, manifest["fingerprint"] = manifest["fingerprint"], "0123456789abcdef"
    path.write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(ArtifactError, match=f"made from encoder {old}, but encoder 0123456789abcdef"):
        Khqe.open(tiny_run_copy)


def test_relevant_is_the_nearest_in_order(tiny_khqe):
    """Brute force over a history with repeats: the four largest cosines, in the order of the history."""
    history, query = [3, 17, 8, 30, 12, 25, 1, 6], "green kettle"
    cosines = (tiny_khqe.item_embeddings @ tiny_khqe.embedding_of(query)).tolist()
    kept = sorted(sorted(range(8), key=lambda place: -cosines[history[place]])[:4])
    assert tiny_khqe.relevant(query, history, 4) == [history[place] for place in kept]
    assert tiny_khqe.relevant(query, history[:3], 4) == history[:3]
    assert tiny_khqe.relevant(query, [], 4) == []


def test_it_remembers_the_clicks_of_the_log(fresh, tiny_log):
    """Those of "red boots" by falling number, as counted here, and of its neighbours; none on the log's first day."""
    searches = tiny_log.contexts("train", "validation")
    clicks = Counter((context.query, item) for context in searches for item in context.clicked)
    first, after = searches[0].day, searches[-1].day + 1
    own = fresh.memory.own("red boots", after, 50)
    counted = [clicks["red boots", item] for item in own]
    assert sorted(own) == sorted(item for query, item in clicks if query == "red boots")
    assert counted == sorted(counted, reverse=True)
    assert fresh.memory.own("red boots", first, 5) == fresh.memory.similar("red boots", first, 5) == ()
    assert set(fresh.memory.similar("red boots", after, 5)) <= {item for query, item in clicks if query != "red boots"}
    assert len(fresh.memory.trending(after, 5)) == 5


def test_a_querys_own_record_is_the_logs(tiny_khqe, tiny_log):
    """What is counted here for any day is what the log wrote beside each search."""
    searches = tiny_log.contexts("train", "validation", "test")
    assert any(search.cold_start for search in searches)
    for search in searches:
        assert tiny_khqe.memory.own(search.query, search.day, len(search.cold_start)) == search.cold_start


def test_table_and_trie_hold_the_catalogue(tiny_khqe):
    """Distinct item codes, and every item in the bucket of its own SID."""
    distinct = sorted({tuple(codes) for codes in tiny_khqe.item_codes.tolist()})
    assert [tuple(sid) for sid in tiny_khqe.trie.sids.tolist()] == distinct
    rows = tiny_khqe.table.sid_rows(tiny_khqe.item_codes)
    assert all(item in tiny_khqe.table.bucket(row) for item, row in enumerate(rows.tolist()))


def test_centroids_have_the_sizes_of_the_layers(tiny_khqe):
    assert [len(table) for table in tiny_khqe.centroids] == list(tiny_khqe.spec.sizes)
    assert [len(table) for table in tiny_khqe.history_centroids] == list(tiny_khqe.spec.rq_sizes)


def test_the_writer_shows_these_sids(tiny_khqe, tiny_engine):
    """And picks the RSU by their embeddings."""
    writer = tiny_khqe.writer(tiny_engine.writer.tokenizer, Views())
    assert writer.item_tokens[7] == writer.sid(tiny_khqe.item_codes[7].tolist())
    assert writer.evidence.rsu("red boots", UNKNOWN, [1, 2, 3, 4], 2) == tiny_khqe.relevant(
        "red boots", [1, 2, 3, 4], 2
    )


def test_what_it_remembers_is_forgotten_with_the_next_log(fresh, tiny_log):
    """Another log's queries take the first one's place; a log without clicks has no neighbours."""
    day = tiny_log.contexts("train")[-1].day + 1
    found = fresh.memory.similar("red boots", day, 5)
    counts = {"pair_counts": tiny_log.pair_counts, "item_counts": tiny_log.item_counts}
    fresh.remember(SimpleNamespace(clicked_items={"lamp": [3]}, **counts))
    assert set(fresh.memory.similar("red boots", day, 5)) <= {3}
    fresh.remember(SimpleNamespace(clicked_items={}, **counts))
    assert fresh.memory.similar("red boots", day, 5) == ()
    fresh.remember(tiny_log)
    assert fresh.memory.similar("red boots", day, 5) == found != ()


def test_nearest_items_by_brute_force(tiny_khqe):
    """All 36 in the order of their cosine to the query; the first three are the first three of them."""
    cosine = (tiny_khqe.item_embeddings @ tiny_khqe.embedding_of("red boots")).tolist()
    want = sorted(range(36), key=lambda row: -cosine[row])
    assert [cosine[row] for row in tiny_khqe.nearest("red boots", 99)] == [cosine[row] for row in want]
    assert tiny_khqe.nearest("red boots", 3) == tiny_khqe.nearest("red boots", 99)[:3]


def test_a_blended_sid_is_that_of_the_mean_embedding_and_is_kept(fresh, monkeypatch):
    """λ of two are e^1 and e^√2 over their sum; asked again, the codebook is not."""
    older, newer = math.e, math.exp(math.sqrt(2))
    mean = (older * fresh.item_embeddings[3] + newer * fresh.item_embeddings[20]) / (older + newer)
    want = fresh.codebook.encode(normalize(mean, dim=0)[None]).tolist()[0]
    assert fresh.blended_sid([3, 20]) == want
    monkeypatch.setattr(fresh.codebook, "encode", None)
    assert fresh.blended_sid((3, 20)) == want


def test_blended_sids_are_forgotten_when_they_are_many(fresh, monkeypatch):
    monkeypatch.setattr("onesearch.khqe.MOST_BLENDED", 2)
    blended = [fresh.blended_sid([row, 0]) for row in range(5)]
    assert len(fresh._blended) <= 2
    assert [fresh.blended_sid([row, 0]) for row in range(5)] == blended


def test_categories_are_those_of_the_log(tiny_khqe, tiny_log):
    """Two items have one number exactly where they have one path; clicks for kettles ask for kettles."""
    paths, numbers = tiny_log.items["category"].to_pylist(), tiny_khqe.categories.of_items
    assert len({(tuple(path), number) for path, number in zip(paths, numbers, strict=True)}) == len(set(numbers)) == 6
    kettles = [row for row, path in enumerate(paths) if path[-1] == "Kettle"]
    assert tiny_khqe.categories.wanted("whatever", kettles[:1]) == numbers[kettles[-1]]


def test_a_writer_picks_by_category_and_blends_where_its_views_say_so(tiny_khqe, tiny_engine, tiny_log):
    """On every search of the log: the RSU is of one category, and the user ID is the codebook's own answer."""
    views = Views(relevant_by="category", user_id_by="centroids", num_relevant=5)
    evidence = tiny_khqe.writer(tiny_engine.writer.tokenizer, views).evidence
    shown = [(context, evidence.of(Asked(context, context.query, 2.0))) for context in tiny_log.contexts("test")]
    sizes = {len({tiny_khqe.categories.of_items[row] for row in one.history[2]}) for _, one in shown}
    assert sizes == {0, 1}
    for context, one in shown:
        want = [tiny_khqe.blended_sid(rows) for rows in (context.recent_clicks[-5:], context.long_clicks) if rows]
        assert (one.user or []) == want
