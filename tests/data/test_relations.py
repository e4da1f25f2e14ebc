"""Relations mined from the tiny log."""

import pytest

from onesearch.data.relations import mine_relations
from onesearch.log.pairs import ItemCf


@pytest.fixture(scope="module")
def relations(tiny_log):
    return mine_relations(tiny_log, tiny_log.contexts("train"), [ItemCf(0.1, 20)])


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
    assert mine_relations(tiny_log, [context, alone], [ItemCf(0.1, 5)]).ranked == [("rug", 4, 2, 1)]


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
    relations = mine_relations(tiny_log, [], [ItemCf(0.1, 5)])
    assert (relations.q2i, relations.q2q, relations.i2i, relations.ranked) == ([], [], [], [])
