"""The options of the views that choose items and codes: RSU by category, user ID by centroids, cold start."""

import numpy as np
import pytest

from onesearch.behavior.categories import Categories
from onesearch.behavior.user_id import blend

KNOWN = {"recent_clicks": (0, 1), "long_clicks": (2, 0, 1), "long_orders": (1,)}


@pytest.fixture
def categories():
    """Items 0 and 1 are boots, item 2 is a rug; whatever is asked, the rug is nearest."""
    return Categories(np.array([0, 0, 1]), lambda query, k: [2][:k])


def by_category(make_writer, categories, **options):
    return make_writer(categories=categories, relevant_by="category", num_relevant=2, **options)


def test_the_rsu_is_of_the_category_that_the_query_was_clicked_for(make_writer, categories, make_search, read):
    """Clicked for it until the day before: item 1, boots. So of clicks 2 0 1 the boots, listed and as a sequence."""
    prompt = by_category(make_writer, categories).search(make_search(cold_start=(1,), **KNOWN))
    assert "<relevant> 0.1.2.0.1 1.1.0.2.0 <user>" in read(prompt.tokens)
    assert prompt.history == ((2, 0, 1), (1,), [0, 1])


def test_without_clicks_of_its_own_its_neighbours_say_what_it_asks_for(
    make_writer, categories, make_memory, make_search
):
    """They were clicked for item 0, boots; where they are not asked, the nearest item, a rug, decides."""
    memory = make_memory(similar=(0,))
    prompt = by_category(make_writer, categories, memory=memory, num_similar=0).search(make_search(**KNOWN))
    assert prompt.history[2] == [0, 1]
    assert [question[:4] for question in memory.asked] == [("similar", "red boots", 5, 10)]
    assert by_category(make_writer, categories).search(make_search(**KNOWN)).history[2] == [2]


def test_a_query_shown_as_unknown_hides_its_clicks_from_the_category_too(make_writer, categories, make_search):
    """Its own record says boots; hidden, or under a typo that nobody typed, the nearest item says rug."""
    context, writer = make_search(cold_start=(1,), **KNOWN), by_category(make_writer, categories)
    assert writer.search(context).history[2] == [0, 1]
    assert writer.search(context, hidden_from=0.8).history[2] == [2]
    assert writer.search(context, "erd boots").history[2] == [2]


def test_the_user_id_by_centroids_is_asked_for_both_histories(make_writer, make_search, read):
    """Each half from its rows, oldest first; a half without behaviour is not asked for."""
    asked = []

    def blended(rows):
        asked.append(tuple(rows))
        return [1, 1, 1, 1, 1]

    writer = make_writer(blend=blended, user_id_by="centroids")
    assert "<user> 1.1.1.1.1 1.1.1.1.1 <history>" in read(writer.search(make_search(**KNOWN)).tokens)
    assert asked == [(0, 1), (2, 0, 1)]
    shown = read(writer.search(make_search(long_clicks=(2,))).tokens)
    assert "<user> 1.1.1.1.1 <history>" in shown
    assert asked[2:] == [(2,)]


@pytest.mark.parametrize("by", ["codes", "centroids"])
def test_orders_alone_make_no_user_id(make_writer, make_search, read, by):
    """Bought, but never clicked: both halves are empty, so their heading is left out; the order is in the history."""
    prompt = make_writer(blend=lambda rows: [1] * 5, user_id_by=by).search(make_search(long_orders=(1,)))
    assert read(prompt.tokens) == "<to_item> <query> red boots 2.2.0.0.0 <history> <slot> <slot> <slot> </s>"
    assert prompt.history == ((), (1,), ())


def test_code_numbers_are_averaged_unless_asked_otherwise(make_writer, make_search, read):
    """The published form never asks for a blend of embeddings."""
    writer = make_writer(blend=lambda rows: [0, 0, 0, 0, 0])
    long = blend(writer.item_codes[None, [2, 0, 1]], np.array([3]))[0]
    assert f"{'.'.join(map(str, long))} <history>" in read(writer.search(make_search(**KNOWN)).tokens)


def test_default_sequences_stand_for_a_new_user(make_writer, make_search, read):
    """Most clicked 2, then 0: as the short and the long click sequence, weakest first, in place of `<popular>`."""
    context = make_search(cold_start=(2, 0))
    prompt = make_writer(cold_start="sequences").search(context)
    assert read(prompt.tokens) == (
        "<to_item> <query> red boots 2.2.0.0.0 <clicks> 0.1.2.0.1 3.0.1.1.1 <history> <slot> <slot> <slot> </s>"
    )
    assert prompt.history == ((0, 2), (), ())
    listed = make_writer(cold_start="list").search(context)
    assert "<popular> 3.0.1.1.1 0.1.2.0.1 <history>" in read(listed.tokens)
    assert listed.history == ((2, 0), (), ())


def test_default_sequences_leave_a_known_user_alone(make_writer, make_search):
    context = make_search(cold_start=(2, 0), **KNOWN)
    options = {"cold_start": "sequences", "cold_user_id": True}
    assert make_writer(**options).search(context) == make_writer().search(context)


def test_default_sequences_are_cut_and_may_stand_beside_the_list(make_writer, make_search, read):
    """Three popular items, of which the short sequence takes the two best; shown to all, the list stays."""
    context = make_search(cold_start=(2, 0, 1))
    prompt = make_writer(cold_start="sequences", num_recent_clicks=2, popular_for_all=True).search(context)
    assert "<popular> 3.0.1.1.1 0.1.2.0.1 1.1.0.2.0 <clicks> 0.1.2.0.1 3.0.1.1.1 <history>" in read(prompt.tokens)
    assert prompt.history[0] == (1, 0, 2)


@pytest.mark.parametrize("cold_start", ["list", "sequences"])
def test_a_new_user_may_have_an_id(make_writer, make_search, read, cold_start):
    """Blended from the default, 0 then 2, for both halves; where nothing is known of the query there is none."""
    writer = make_writer(cold_start=cold_start, cold_user_id=True)
    code = ".".join(map(str, blend(writer.item_codes[None, [0, 2]], np.array([2]))[0]))
    assert f"<user> {code} {code} <history>" in read(writer.search(make_search(cold_start=(2, 0))).tokens)
    assert "<user>" not in read(writer.search(make_search()).tokens)
    off = make_writer(cold_start=cold_start, cold_user_id=True, user_id=False)
    assert "<user>" not in read(off.search(make_search(cold_start=(2, 0))).tokens)


def test_similar_queries_stand_in_for_a_query_without_clicks(make_writer, make_memory, make_search, read):
    """Neighbours' items 1, then 0, as default sequence; the list of similar ones stays what it is."""
    writer = make_writer(memory=make_memory(similar=(1, 0)), cold_start="sequences")
    prompt = writer.search(make_search())
    assert "<similar> 1.1.0.2.0 0.1.2.0.1 <clicks> 0.1.2.0.1 1.1.0.2.0 <history>" in read(prompt.tokens)
    assert prompt.history[0] == (0, 1)


def test_slid_behaviour_is_what_every_view_shows(make_writer, make_search, read):
    """One click back of 2, 0, 1 at 10, 20, 30: item 1, its query and its order are in no part of the prompt."""
    times = {"recent_query_times": (10, 30), "recent_click_times": (20, 30), "long_click_times": (10, 20, 30)}
    context = make_search(**KNOWN, recent_queries=("rug", "boots"), long_order_times=(30,), **times)
    prompt = make_writer(relevant=lambda _query, items, _k: items).search(context, shift=1)
    shown = read(prompt.tokens)
    assert "<queries> rug 3.2.1.2.1 <clicks> 0.1.2.0.1 <relevant> 3.0.1.1.1 0.1.2.0.1 <user>" in shown
    assert "1.1.0.2.0" not in shown
    assert prompt.history == ((2, 0), (), (2, 0))
