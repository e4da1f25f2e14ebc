"""The prompt of a search, part by part; SIDs as in the corpus of these tests."""

import random

import numpy as np
import pytest
import torch

from onesearch.behavior.user_id import blend
from onesearch.tasks.collation import collate_prompts
from onesearch.tasks.personalize import anonymous
from onesearch.tasks.prompt import LISTS, LONGEST_LIST, Prompt, Views
from onesearch.tasks.prompt_writer import draw_shift
from onesearch.types import UserError

CLICKS = 3 * LONGEST_LIST
"""The first place of `<clicks>`, the fourth list."""

KNOWN = {
    "recent_queries": ("rug", "boots"),
    "recent_clicks": (0, 1),
    "long_clicks": (2, 0, 1),
    "long_orders": (1,),
    "cold_start": (2, 0),
    "profile": "F Zhejiang",
}


def test_all_views(make_writer, make_search, read):
    """In the order of the docstring; the popular items are for new users unless all shall see them."""
    writer = make_writer(popular_for_all=True, num_popular=1, num_slots=2)
    short, long = (
        (".".join(map(str, blend(writer.item_codes[None, rows], np.array([len(rows)]))[0])))
        for rows in ([0, 1], [2, 0, 1])
    )
    assert read(writer.search(make_search(**KNOWN)).tokens) == (
        "<to_item> <query> red boots 2.2.0.0.0 <popular> 3.0.1.1.1 <queries> rug 3.2.1.2.1 boots 0.0.0.0.0 "
        f"<clicks> 0.1.2.0.1 1.1.0.2.0 <user> {short} {long} <history> <slot> <slot> <profile> F Zhejiang </s>"
    )


@pytest.mark.parametrize(
    ("view", "lost"),
    [
        ({"query_sid": False}, " 2.2.0.0.0"),
        ({"num_popular": 0}, " <popular> 3.0.1.1.1 0.1.2.0.1"),
        ({"num_recent_queries": 0}, " <queries> rug 3.2.1.2.1 boots 0.0.0.0.0"),
        ({"profile": False}, " <profile> F Zhejiang"),
        ({"max_history": 0, "user_id": False}, " <history> <slot> <slot> <slot>"),
        ({"num_slots": 0}, " <history> <slot> <slot> <slot>"),
    ],
    ids=str,
)
def test_a_view_switched_off_leaves_its_part_out(make_writer, make_search, read, view, lost):
    """Nothing else changes."""
    base = {"popular_for_all": True} | ({"user_id": False} if "user_id" in view else {})
    context = make_search(**KNOWN)
    whole = read(make_writer(**base).search(context).tokens)
    assert lost in whole
    assert read(make_writer(**(base | view)).search(context).tokens) == whole.replace(lost, "")


def test_clicks_and_user_can_be_left_out(make_writer, make_search, read):
    context = make_search(**KNOWN)
    assert "<user>" not in read(make_writer(user_id=False).search(context).tokens)
    # Without the short sequence the user ID is its long half alone.
    shown = read(make_writer(num_recent_clicks=0).search(context).tokens)
    assert "<clicks>" not in shown
    assert len(shown.split("<user> ")[1].split(" <")[0].split()) == 1


def test_views_are_personal_where_the_prompt_depends_on_who_asks(make_writer, make_search):
    """Each of them alone makes the prompt another than a new user's; all off, and what is popular for all, do not."""
    off = dict.fromkeys(("num_recent_queries", "num_recent_clicks", "max_history", "num_relevant_sids"), 0)
    off |= {"user_id": True, "profile": False, "popular_for_all": True}
    shown = {"num_recent_queries": 3, "num_recent_clicks": 3, "max_history": 3, "profile": True}
    search = make_search("boots", **KNOWN)
    for name, value in ({"": 0} | shown | {"popular_for_all": False}).items():
        writer = make_writer(**(off | ({name: value} if name else {})))
        differs = writer.search(search) != writer.search(anonymous(search))
        assert differs == writer.views.personal == bool(name), name


def test_queries_without_their_sids(make_writer, make_search, read):
    shown = read(make_writer(recent_query_sids=False).search(make_search(**KNOWN)).tokens)
    assert "<queries> rug boots <clicks>" in shown


def test_views_are_cut_to_their_latest(make_writer, make_search, read):
    """m = 1: the last query and click of all."""
    shown = read(make_writer(num_recent_queries=1, num_recent_clicks=1).search(make_search(**KNOWN)).tokens)
    assert "<queries> boots 0.0.0.0.0 <clicks> 1.1.0.2.0 <user>" in shown


def test_a_new_user_gets_the_querys_popular_items(writer, make_search, read):
    """As tokens, best first, and as the long sequence; a user with history gets neither."""
    new = writer.search(make_search(cold_start=(2, 0)))
    assert "<popular> 3.0.1.1.1 0.1.2.0.1 <history>" in read(new.tokens)
    assert set(new.history[0]) == {2, 0}
    assert new.history[1] == ()
    assert "<popular>" not in read(writer.search(make_search(**KNOWN)).tokens)


def test_similar_queries_tell_what_the_querys_own_clicks_do_not(make_writer, make_memory, make_search, read):
    """Own item 2, then the neighbours' 0 without it, cut at one; a user with history,
    who is shown no own item, gets it here; nobody gets any where the view is off.
    """
    context = make_search(cold_start=(2,))
    writer = make_writer(memory=make_memory(similar=(2, 0, 1)), num_similar=1)
    assert "<popular> 3.0.1.1.1 <similar> 0.1.2.0.1 <history>" in read(writer.search(context).tokens)
    known = writer.search(context._replace(**KNOWN)).tokens
    assert "<query> red boots 2.2.0.0.0 <similar> 3.0.1.1.1 <queries>" in read(known)
    off = make_writer(memory=make_memory(similar=(2, 0, 1)), num_similar=0)
    assert "<popular> 3.0.1.1.1 <history>" in read(off.search(context).tokens)


def test_what_is_trending_is_shown_for_any_query(make_writer, make_memory, make_search, read):
    memory = make_memory(trending=(1, 0))
    shown = read(make_writer(memory=memory, num_similar=0, num_trending=2).search(make_search(day=9)).tokens)
    assert shown == "<to_item> <query> red boots 2.2.0.0.0 <trending> 1.1.0.2.0 0.1.2.0.1 </s>"
    assert memory.asked == [("trending", 9, 2)]


def test_a_query_shown_as_unknown_has_no_record_of_its_own(make_writer, make_memory, make_search, read):
    """The neighbours of the query itself, not of its typo, less the near ones; the own item 2 is gone."""
    memory = make_memory(similar=(0,))
    writer = make_writer(memory=memory, num_similar=2)
    shown = read(writer.search(make_search(cold_start=(2,)), "erd boots", hidden_from=0.8).tokens)
    assert "<similar> 0.1.2.0.1 <history>" in shown
    assert "<popular>" not in shown
    assert memory.asked == [("similar", "red boots", 5, 2, 0.8)]


def test_an_earlier_day_is_remembered_as_it_was_then(make_writer, make_memory, make_search):
    """On day 3 item 0 was the query's own; without a log nothing is."""
    context, memory = make_search(cold_start=(2, 1)), make_memory(own=(0,))
    assert make_writer(memory=memory).evidence.as_remembered(context, 3) == context._replace(day=3, cold_start=(0,))
    assert memory.asked == [("own", "red boots", 3, 2)]
    assert make_writer().evidence.as_remembered(context, 3) == context._replace(day=3, cold_start=())


def test_folded_items_take_one_position_each(make_writer, make_search, read):
    """Popular item 2, then clicks 0 and 1: each knows where it stands, and how far from its list's best or latest."""
    writer = make_writer(popular_for_all=True, num_popular=1, fold_sids=True)
    prompt = writer.search(make_search(**KNOWN))
    shown = read(prompt.tokens)
    assert "<popular> <item> <queries>" in shown
    assert "<clicks> <item> <item> <user>" in shown
    item = writer.vocabulary.marker("<item>")
    assert [one.position for one in prompt.listed] == [n for n, token in enumerate(prompt.tokens) if token == item]
    assert [(one.row, one.place) for one in prompt.listed] == [(2, 0), (0, CLICKS + 1), (1, CLICKS)]


def test_places_after_the_longest_list_are_one(make_writer, make_memory, make_search):
    """Forty trending items: the last nine share the last place."""
    writer = make_writer(memory=make_memory(trending=(0, 1) * 20), num_trending=40, fold_sids=True)
    first = LISTS.index("<trending>") * LONGEST_LIST
    places = [one.place - first for one in writer.search(make_search()).listed]
    assert places == [*range(LONGEST_LIST), *[LONGEST_LIST - 1] * 8]


@pytest.mark.parametrize("name", ["num_popular", "num_recent_queries", "num_recent_clicks"])
def test_more_than_a_log_keeps_is_refused(name):
    """Twenty are kept of each; what was asked beyond would be left out without a word."""
    assert getattr(Views(**{name: 20}), name) == 20
    with pytest.raises(UserError, match=f"^views.{name} is 21, but a log keeps 20: set it to 20 or less.$"):
        Views(**{name: 21})


def test_a_batch_holds_sids_and_places_where_items_stand(make_writer, make_search):
    writer = make_writer(popular_for_all=True, num_popular=1, fold_sids=True)
    plain, prompt = make_writer().about("QueryToSid", [5]), writer.search(make_search(**KNOWN))
    batch = collate_prompts([plain, prompt], writer.item_codes, pad=1)
    assert batch.listed.shape == (*batch.input_ids.shape, 5)
    assert torch.equal(batch.places >= 0, batch.input_ids == writer.vocabulary.marker("<item>"))
    assert torch.equal(batch.places >= 0, batch.listed[..., 0] >= 0)
    assert batch.listed[batch.places >= 0].tolist() == writer.item_codes[[2, 0, 1]].tolist()
    assert batch.places[batch.places >= 0].tolist() == [0, CLICKS + 1, CLICKS]
    alone = collate_prompts([plain], writer.item_codes, pad=1)
    assert alone.listed is None
    assert alone.places is None


def test_a_long_query_is_cut(make_writer, make_search):
    """Twenty bytes-long words end after three tokens; the SID follows."""
    tokens = make_writer(max_text=3).search(make_search("xyz " * 20)).tokens
    assert len(tokens) == 2 + 3 + 5 + 1


def test_the_rsu_is_picked_from_the_shown_clicks(make_writer, make_search, read):
    """It sees the query as worded and the long clicks that the window leaves, once as SIDs and once as a sequence."""
    asked = []

    def relevant(query, items, k):
        asked.append((query, tuple(items), k))
        return items[:1]

    writer = make_writer(relevant=relevant, max_history=2, num_relevant_sids=3, num_relevant=7)
    prompt = writer.search(make_search(**KNOWN), "erd boots")
    assert asked == [("erd boots", (0, 1), 3), ("erd boots", (0, 1), 7)]
    assert prompt.history == ((0, 1), (1,), (0,))
    assert "<clicks> 0.1.2.0.1 1.1.0.2.0 <relevant> 0.1.2.0.1 <user>" in read(prompt.tokens)


def test_an_item_clicked_twice_is_relevant_once(make_writer, make_search):
    """At its latest place; a view of none, and a new user, ask for nothing."""
    asked = []

    def relevant(query, items, k):
        asked.append(tuple(items))
        return ()

    writer = make_writer(relevant=relevant, num_relevant_sids=3, num_relevant=0)
    writer.search(make_search(long_clicks=(2, 0, 1, 2)))
    assert asked == [(0, 1, 2)]
    make_writer(relevant=relevant, num_relevant_sids=0, num_relevant=0).search(make_search(**KNOWN))
    writer.search(make_search())
    assert len(asked) == 1


def test_a_sid_needs_all_its_codes(writer):
    with pytest.raises(ValueError, match=r"shorter|longer"):
        writer.sid([1, 2, 3])


def test_shifts_leave_a_click_to_see(make_search):
    """Never with one click or at rate 0; with three clicks 1 or 2, whatever the largest is."""
    rng = random.Random(0)
    three = make_search(recent_clicks=(0, 1, 2))
    assert {draw_shift(three, 1.0, 9, rng) for _ in range(50)} == {1, 2}
    assert {draw_shift(three, 1.0, 1, rng) for _ in range(50)} == {1}
    assert {draw_shift(three, 0.0, 9, rng) for _ in range(50)} == {0}
    assert {draw_shift(make_search(recent_clicks=(0,)), 1.0, 9, rng) for _ in range(9)} == {0}


def test_collate_by_hand(writer):
    """Two prompts: padded on the right; histories as the SID of each item, -1 where there is none."""
    prompts = [Prompt([5, 6, 2], ((0, 2), (), (1,))), Prompt([7, 2])]
    batch = collate_prompts(prompts, writer.item_codes, pad=1)
    assert batch.input_ids.tolist() == [[5, 6, 2], [7, 2, 1]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    first, second, third = writer.item_codes[:3].tolist()
    none = [-1] * 5
    assert batch.history.tolist() == [
        [[first, third], [none, none], [second, none]],
        [[none, none]] * 3,
    ]
    assert batch.input_ids.dtype == batch.history.dtype == torch.int64


def test_collate_without_histories(writer):
    """No sequence in the whole batch: nothing for the adapter to read."""
    assert collate_prompts([Prompt([5, 2]), Prompt([6, 2], ((), (), ()))], writer.item_codes, 1).history is None
