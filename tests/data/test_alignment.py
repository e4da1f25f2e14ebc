"""The batches of the encoder, read back as texts."""

import pytest
import torch

from onesearch.data.alignment import AlignmentData
from onesearch.data.hard_negatives import HardNegatives
from onesearch.data.relations import Relations
from onesearch.log.pairs import Swing


@pytest.fixture(autouse=True)
def same_chance():
    """The loader's order is drawn from torch's own seed."""
    torch.manual_seed(0)


@pytest.fixture
def make_data(tiny_run):
    def make(relations=None, **options):
        options = {"batch_size": 8, "vocab_size": 400, "typo_rate": 0.0, "fragment_rate": 0.0} | options
        data = AlignmentData(tiny_run, **options)
        data.prepare_data()
        data.setup("fit")
        if relations is not None:
            data.fit_relations = data.known_relations = relations
        return data

    return make


@pytest.fixture
def read(tiny_run):
    """The batch's texts: queries, then items."""

    def read(data, batch):
        tokenizer = data.train_dataloader().collate_fn.tokenizer
        texts = [*batch.queries.input_ids, *batch.items.input_ids]
        return [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in texts]

    return read


def test_a_batch_says_what_the_relations_say(make_data, read, tiny_log):
    """Two q2i pairs, one q2q, one i2i, one ranked search without order, one judgment: read back as texts."""
    given = Relations(
        q2i=[("red boots", 0), ("rug", 30)],
        q2q=[("boots", "red boots")],
        i2i=[(0, 6)],
        ranked=[("rug", None, 30, 31)],
        judged=[("red boots", 6, 1)],
    )
    data = make_data(given, relation_share=0.5)
    batch = next(iter(data.train_dataloader()))
    texts = read(data, batch)
    item = data.item_texts.__getitem__

    def pairs(rows):
        return {tuple(texts[row] for row in pair) for pair in rows.tolist()}

    assert pairs(batch.q2i) == {("red boots", item(0)), ("rug", item(30))}
    assert pairs(batch.q2q) == {("boots", "red boots")}
    assert pairs(batch.i2i) == {(item(0), item(6))}
    assert pairs(batch.judged) == {("red boots", item(6))}
    query, ordered, *others = batch.ranked[0].tolist()
    assert (texts[query], ordered, [texts[row] for row in others]) == ("rug", -1, [item(30), item(31)])
    assert batch.grades.tolist() == [1.0]
    assert len(set(texts)) == len(texts)  # each text once
    assert len(set(batch.identity.tolist())) == len(texts)


def test_a_typo_means_what_its_query_means(make_data, read):
    """Misspelt every time: the number of distinct meanings stays that of the queries and items."""
    given = Relations([("red boots", 0), ("red boots", 6), ("blue kettle", 13)], [], [], [], [])
    data = make_data(given, typo_rate=1.0)
    batch = next(iter(data.train_dataloader()))
    texts, identity = read(data, batch), batch.identity.tolist()
    num_queries = len(batch.queries.input_ids)
    assert set(texts[:num_queries]) & {"red boots", "blue kettle"} == set()
    assert len(set(identity[:num_queries])) == 2
    assert len(set(identity)) == 2 + 3
    # Both wordings of 'red boots' share a number where they differ.
    rows = {query for query, item in batch.q2i.tolist() if texts[item] in (data.item_texts[0], data.item_texts[6])}
    assert len({identity[row] for row in rows}) == 1


def test_fragments_are_words_of_the_clicked_title(make_data, read):
    given = Relations([("red boots", 0)] * 4, [], [], [], [])
    data = make_data(given, fragment_rate=1.0)
    texts = read(data, batch := next(iter(data.train_dataloader())))
    for row in range(len(batch.queries.input_ids)):
        assert set(texts[row].split()) <= {"red", "boots", "by", "acme"}
    assert "red boots, acme" not in texts


def test_validation_is_clean_and_of_its_own_split(make_data, read, tiny_log):
    """No typo and no fragment, whatever the rates: every query is one of the validation searches or its relations."""
    data = make_data(typo_rate=1.0, fragment_rate=1.0)
    known = {c.query for c in tiny_log.contexts("validation")} | {"red boots", "blue kettle"}
    for batch in data.val_dataloader()[0]:
        assert set(read(data, batch)[: len(batch.queries.input_ids)]) <= known
    q2i = {(c.query, item) for c in tiny_log.contexts("validation") for item in c.clicked}
    assert set(data.validation_relations.q2i) == q2i


def test_batches_repeat_with_the_seed(make_data):
    def first(seed):
        torch.manual_seed(0)
        return next(iter(make_data(typo_rate=0.5, fragment_rate=0.5, seed=seed).train_dataloader()))

    one, two, other = first(1), first(1), first(2)
    assert torch.equal(one.queries.input_ids, two.queries.input_ids)
    assert torch.equal(one.identity, two.identity)
    assert one.queries.input_ids.shape != other.queries.input_ids.shape or not torch.equal(
        one.queries.input_ids, other.queries.input_ids
    )


def test_every_pair_is_seen_in_an_epoch(make_data):
    """The last, smaller batch is dropped: 8 of each, all different pairs."""
    data = make_data()
    loader = data.train_dataloader()
    sizes = [len(batch.q2i) for batch in loader]
    assert sizes == [8] * (len(data.fit_relations.q2i) // 8)


def test_the_catalogue_and_the_queries_are_for_retrieval(make_data, tiny_log):
    """Behind the losses: 36 items in order, then each clicked query of the validation split with all its items."""
    data = make_data(embed_batch_size=10)
    _, items, queries = data.val_dataloader()
    assert [row for batch in items for row in batch.rows.tolist()] == list(range(36))
    assert [text for batch in items for text in batch.texts] == data.item_texts
    want = {}
    for context in tiny_log.contexts("validation"):
        if context.clicked:
            want.setdefault(context.query, set()).update(context.clicked)
    got, unseen = {}, set()
    for batch in queries:
        got |= {text: set(row) - {-1} for text, row in zip(batch.texts, batch.clicked.tolist(), strict=True)}
        unseen |= {text for text, new in zip(batch.texts, batch.unseen.tolist(), strict=True) if new}
    assert got == want
    assert unseen == set(want) - {context.query for context in tiny_log.contexts("train")}


def test_no_query_is_unseen_where_validation_is_learnt_from(make_data):
    *_, queries = make_data(fit_splits=("train", "validation")).val_dataloader()
    assert not any(batch.unseen.any() for batch in queries)


def test_validation_leaves_the_order_of_training_alone(make_data):
    """One number of torch's own source an iteration of the first loader, and none by the other two."""
    loaders = make_data().val_dataloader()
    states = []
    for chosen in (loaders, loaders[:1]):
        torch.manual_seed(5)
        for loader in chosen:
            list(loader)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_prediction_reads_the_texts_alone(tiny_run, tiny_log):
    """All items, then all queries before the test; nothing is mined."""
    data = AlignmentData(tiny_run)
    data.setup("predict")
    items, queries = data.predict_dataloader()
    assert [name for batch in items for name in batch.names] == tiny_log.item_ids
    assert [name for batch in queries for name in batch.texts] == tiny_log.queries["query"].to_pylist()
    assert not hasattr(data, "fit_relations")


def test_miners_are_chosen(make_data):
    """In this shop two queries share at most one item: ItemCF pairs them, Swing does not; together they are ItemCF."""
    alone, both = make_data().fit_relations, make_data(swing=Swing()).fit_relations
    assert make_data(item_cf=None, swing=Swing()).fit_relations.q2q == []
    assert both.q2q == alone.q2q != []


def letters(texts):
    """An embedding that anybody can follow: how often each letter occurs, to length 1."""
    counts = [[text.lower().count(chr(letter)) for letter in range(97, 123)] for text in texts]
    return torch.nn.functional.normalize(torch.tensor(counts, dtype=torch.float32), dim=1)


def test_hard_negatives_join_their_query(make_data, read):
    """Nothing before `first_epoch`; then two items a pair, none of them clicked for the query; typos have them too."""
    data = make_data(hard=HardNegatives(2, first_rank=0, last_rank=12, first_epoch=1), typo_rate=0.5)
    loader = data.train_dataloader()
    data.mine(0, letters)
    assert next(iter(loader)).hard.shape == (8, 0)
    data.mine(1, letters)
    clicked = {}
    for query, item in data.fit_relations.q2i:
        clicked.setdefault(query, set()).add(data.item_texts[item])
    batch = next(iter(loader))
    texts = read(data, batch)
    assert batch.hard.shape == (8, 2)
    assert (batch.hard >= len(batch.queries.input_ids)).all()
    meant = {text: query for text, query in zip(texts, texts, strict=True) if query in clicked}
    checked = 0
    for (query, item), hard in zip(batch.q2i.tolist(), batch.hard.tolist(), strict=True):
        assert texts[item] not in {texts[row] for row in hard}
        if texts[query] in meant:
            assert not clicked[texts[query]] & {texts[row] for row in hard}
            checked += 1
    assert 0 < checked < 8


def test_judgments_of_low_cosine_are_left_out(make_data):
    """The tiny log has 12: half of them are drawn from, and among those no grade is invented."""
    data = make_data(hard=HardNegatives(judged_share=0.5, first_epoch=0))
    loader = data.train_dataloader()
    data.mine(0, letters)
    assert len(data.fit_relations.judged) == 12
    assert len(loader.collate_fn.judged) == 6
    assert set(loader.collate_fn.judged) <= set(data.fit_relations.judged)
    assert next(iter(loader)).hard.shape == (8, 0)


def test_all_judgments_need_no_cosines(make_data):
    """Hard negatives alone embed the clicked queries and the catalogue, and nothing else."""
    data = make_data(hard=HardNegatives(1, 0, 12, first_epoch=0))
    loader = data.train_dataloader()
    asked = []
    data.mine(0, lambda texts: asked.append(texts) or letters(texts))
    assert asked == [sorted({query for query, _ in data.fit_relations.q2i}), data.item_texts]
    assert loader.collate_fn.judged == data.fit_relations.judged


def test_a_fragment_has_no_hard_negatives(make_data):
    """ "acme" is no query of the log: what is near to the query that it replaces may well answer it."""
    given = Relations([("red boots", 0)] * 8, [], [], [], [])
    data = make_data(given, fragment_rate=1.0, hard=HardNegatives(2, 0, 12, first_epoch=0))
    loader = data.train_dataloader()
    data.mine(0, letters)
    batch = next(iter(loader))
    queries = [
        loader.collate_fn.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in batch.queries.input_ids
    ]
    for (query, _), hard in zip(batch.q2i.tolist(), batch.hard.tolist(), strict=True):
        assert (min(hard) >= 0) == (queries[query] == "red boots")
    assert set(queries) != {"red boots"}


def test_mined_again_only_when_due():
    """Every second epoch from the second on, and at once when a fit goes on."""
    hard = HardNegatives(1, refresh=2, first_epoch=1)
    assert [hard.due(epoch, True) for epoch in range(5)] == [False, False, True, False, True]
    assert [hard.due(epoch, False) for epoch in range(4)] == [False, True, True, True]
    assert not HardNegatives().due(3, False)
