"""Relations mined from the tiny log, and the batches of the encoder read back as texts."""

import pytest
import torch

from onesearch.data.alignment import AlignmentData, Relations, mine_relations


@pytest.fixture(autouse=True)
def same_chance():
    """The loader's order is drawn from torch's own seed."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def relations(tiny_log):
    return mine_relations(tiny_log, tiny_log.contexts("train"), 0.1, 20)


@pytest.fixture
def make_data(tiny_run):
    def make(relations=None, **options):
        options = {"batch_size": 8, "vocab_size": 400, "typo_rate": 0.0, "fragment_rate": 0.0} | options
        data = AlignmentData(tiny_run, **options)
        data.prepare_data()
        data.setup("fit")
        if relations is not None:
            data.fit_relations = relations
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


def test_q2i_are_the_clicks_of_training(tiny_log, relations):
    """A bought item stands twice, for its click and for its order; nothing of validation and test is in it."""
    contexts = tiny_log.contexts("train")
    assert len(relations.q2i) == sum(len(c.clicked) + len(c.purchased) for c in contexts)
    assert set(relations.q2i) == {(c.query, item) for c in contexts for item in c.clicked}
    assert sum(len(c.purchased) for c in contexts) > 0


def test_ranked_has_at_least_two_kinds_in_the_order_of_the_loss(tiny_log, relations):
    """The ordered and the skipped item are known, or the clicked and the skipped: bought items were clicked too."""
    assert len(relations.ranked) > 50
    shown = {(c.query, item) for c in tiny_log.contexts("train") for item in c.impressed or ()}
    for query, ordered, clicked, skipped in relations.ranked:
        known = [item for item in (ordered, clicked, skipped) if item is not None]
        assert len(known) >= 2
        assert len(set(known)) == len(known)
        assert (query, skipped) in shown


def test_ranked_by_hand(tiny_log, tmp_path):
    """Shown 1 2 3 4, clicked 2 4, bought 4: ordered 4, clicked 2, skipped 1. A lone click ranks nothing."""
    context = tiny_log.contexts("train")[0]._replace(
        query="rug", impressed=(1, 2, 3, 4), clicked=(2, 4), purchased=(4,)
    )
    alone = context._replace(impressed=None, clicked=(2,), purchased=())
    assert mine_relations(tiny_log, [context, alone], 0.1, 5).ranked == [("rug", 4, 2, 1)]


def test_judgments_meet_their_queries_by_key(relations):
    """'Blue  Kettle!' was judged: its key is what shoppers' queries are compared by."""
    assert {query for query, _, _ in relations.judged} == {"red boots", "blue kettle"}
    assert {grade for *_, grade in relations.judged} == {1, 3}
    assert ("red boots", 0, 3) in relations.judged


def test_mined_pairs_are_rows_and_queries_of_the_log(tiny_log, relations):
    """'red boots' and 'boots' lead to the same item; an item pair is two different rows."""
    assert ("boots", "red boots") in relations.q2q
    assert all(left != right and 0 <= left < 36 and 0 <= right < 36 for left, right in relations.i2i)


def test_no_clicks_no_relations(tiny_log):
    relations = mine_relations(tiny_log, [], 0.1, 5)
    assert (relations.q2i, relations.q2q, relations.i2i, relations.ranked) == ([], [], [], [])


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
    for batch in data.val_dataloader():
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
