"""Stage 3: the answer is what was bought, else clicked; the prompt holds the search as of its own time."""

import dataclasses
import math
import random
from collections import Counter

import pytest

from onesearch.behavior.memory import NOTHING_HIDDEN
from onesearch.tasks.align import QueryToSid
from onesearch.tasks.personalize import HIDING, SearchToItem, TitleToItem, anonymous, unknown_search
from onesearch.types import SearchContext, UserError

PLAIN = {"typo_rate": 0, "slide_rate": 0, "anonymous_rate": 0, "unknown_rate": 0}


def test_the_bought_item_is_the_answer(corpus, writer):
    """Items 0 and 1 were clicked and 1 was bought: 1 every time."""
    task, rng = SearchToItem(**PLAIN), random.Random(0)
    assert task.num_examples(corpus) == 2
    assert [task.sample(corpus, writer, 0, rng).answer for _ in range(10)] == [[1, 1, 0, 2, 0]] * 10
    assert task.sample(corpus, writer, 1, rng).answer == [3, 0, 1, 1, 1]


def test_any_clicked_item_is_the_answer_where_none_was_bought(corpus, writer, make_search):
    clicked = type(corpus)(**{**corpus.__dict__, "searches": [make_search(clicked=(0, 1))]})
    rng = random.Random(0)
    answers = {tuple(SearchToItem(**PLAIN).sample(clicked, writer, 0, rng).answer) for _ in range(40)}
    assert answers == {(0, 1, 2, 0, 1), (1, 1, 0, 2, 0)}


def test_the_whole_prompt(corpus, writer, read):
    """Query and SID_q, one clicked item (item 2), the user ID blended from it twice, history slots, profile."""
    sample = SearchToItem(**PLAIN).sample(corpus, writer, 0, random.Random(0))
    assert read(sample.prompt.tokens) == (
        "<to_item> <query> red boots 2.2.0.0.0 <clicks> 3.0.1.1.1 <user> 3.0.1.1.1 3.0.1.1.1 "
        "<history> <slot> <slot> <slot> <profile> F Zhejiang </s>"
    )
    assert sample.prompt.history == ((2,), (), ())


def test_the_answer_changes_nothing_in_the_prompt(corpus, writer, make_search):
    """Two searches that differ in what was shown, clicked and bought read alike."""
    known = {"recent_queries": ("rug",), "recent_clicks": (2,), "long_clicks": (2,), "cold_start": (1,)}
    searches = [
        make_search(clicked=(0,), **known),
        make_search(clicked=(1, 2), purchased=(2,), impressed=(2, 0, 1), search_id="other", **known),
    ]
    two = type(corpus)(**{**corpus.__dict__, "searches": searches})
    one, other = (SearchToItem(**PLAIN).sample(two, writer, index, random.Random(0)) for index in range(2))
    assert one.prompt == other.prompt
    assert one.answer != other.answer


def test_a_typo_has_its_own_sid(corpus, writer, read):
    sample = SearchToItem(**PLAIN | {"typo_rate": 1}).sample(corpus, writer, 0, random.Random(0))
    assert read(sample.prompt.tokens).startswith("<to_item> <query> erd boots 2.1.0.0.1 <clicks>")


def test_an_anonymous_search_shows_nothing_of_its_user(corpus, writer, read):
    sample = SearchToItem(**PLAIN | {"anonymous_rate": 1}).sample(corpus, writer, 0, random.Random(0))
    assert read(sample.prompt.tokens) == "<to_item> <query> red boots 2.2.0.0.0 </s>"
    assert sample.answer == [1, 1, 0, 2, 0]


def test_anonymous_keeps_the_search_and_drops_the_user(make_search):
    """What the query's popularity says stays."""
    behavior = [name for name in SearchContext._fields if name.startswith(("recent_", "long_"))]
    context = make_search(clicked=(1,), cold_start=(2,), profile="F", **dict.fromkeys(behavior, (1,)))
    assert anonymous(context) == make_search(clicked=(1,), cold_start=(2,))


def test_the_window_slides_back(corpus, writer, read, make_search):
    """Clicks 0 1 2, one to two behaviours back: the prompt ends at 1 or 0, and both occur."""
    clicks = dict.fromkeys(("recent_clicks", "long_clicks"), (0, 1, 2))
    times = dict.fromkeys(("recent_click_times", "long_click_times"), (10, 20, 30))
    context = make_search(clicked=(0,), **clicks, **times)
    slid = type(corpus)(**{**corpus.__dict__, "searches": [context]})
    task, rng = SearchToItem(**PLAIN | {"slide_rate": 1}, largest_slide=5), random.Random(0)
    samples = [task.sample(slid, writer, 0, rng) for _ in range(40)]
    shown = {read(sample.prompt.tokens).split(" <user>")[0].split("<clicks> ")[1] for sample in samples}
    assert shown == {"0.1.2.0.1 1.1.0.2.0", "0.1.2.0.1"}
    assert {sample.prompt.history[0] for sample in samples} == {(0, 1), (0,)}


def test_no_window_slides_where_the_views_say_so(corpus, make_writer, make_search):
    """Whatever the task's rate: every example ends at the latest click."""
    context = make_search(clicked=(0,), recent_clicks=(0, 1, 2), long_clicks=(0, 1, 2))
    one = type(corpus)(**{**corpus.__dict__, "searches": [context]})
    task, rng, still = SearchToItem(**PLAIN | {"slide_rate": 1}), random.Random(0), make_writer(sliding=False)
    assert {task.sample(one, still, 0, rng).prompt.history[0] for _ in range(20)} == {(0, 1, 2)}


def test_a_title_fragment_stands_for_its_item(corpus, writer, read):
    sample = TitleToItem().sample(corpus, writer, 1, random.Random(0))
    assert read(sample.prompt.tokens) == "<to_item> <query> blue boots 0.0.0.0.0 </s>"
    assert sample.answer == [1, 1, 0, 2, 0]
    assert TitleToItem().num_examples(corpus) == 3


def test_a_search_of_which_nothing_is_known(writer, read):
    assert read(writer.search(unknown_search("rug", 5)).tokens) == "<to_item> <query> rug 3.2.1.2.1 </s>"


def test_a_query_shown_as_unknown_loses_its_own_clicks(corpus, make_writer, make_memory, read, make_search):
    """Its neighbours, asked for the search's own day and without what is near the query, stand in for them."""
    memory = make_memory(similar=(0,))
    writer = make_writer(memory=memory, num_similar=2)
    context = make_search(clicked=(1,), cold_start=(2, 1))
    one = type(corpus)(**{**corpus.__dict__, "searches": [context]})
    sample = SearchToItem(**PLAIN | {"unknown_rate": 1}).sample(one, writer, 0, random.Random(0))
    assert "2.2.0.0.0 <similar> 0.1.2.0.1 <history>" in read(sample.prompt.tokens)
    [(question, query, day, count, hidden_from)] = memory.asked
    assert (question, query, day, count) == ("similar", "red boots", 5, 2)
    assert hidden_from in HIDING
    known = SearchToItem(**PLAIN).sample(one, writer, 0, random.Random(0))
    assert "<popular> 3.0.1.1.1 1.1.0.2.0 <similar> 0.1.2.0.1 <history>" in read(known.prompt.tokens)


def test_an_unreadable_query_keeps_the_answer(corpus, make_writer, make_memory, read, make_search):
    """Babble in place of the words: its own SID and neighbours, no record of the real query's, and the same answer."""
    memory = make_memory(similar=(0,), trending=(2,))
    writer = make_writer(memory=memory, num_similar=1, num_trending=1)
    searches = [make_search(clicked=(1,), cold_start=(2,))]
    one = type(corpus)(**{**corpus.__dict__, "searches": searches, "babble": ["rug"]})
    sample = SearchToItem(**PLAIN | {"unreadable_rate": 1, "unknown_rate": 1}).sample(one, writer, 0, random.Random(0))
    shown = read(sample.prompt.tokens)
    assert shown.startswith("<to_item> <query> rug 3.2.1.2.1 <similar> 0.1.2.0.1 <trending> 3.0.1.1.1 <history>")
    assert sample.answer == [1, 1, 0, 2, 0]
    assert memory.asked[0] == ("similar", "rug", 5, 1, NOTHING_HIDDEN)


def test_pseudo_clicks_answer_with_what_is_clicked_that_day(corpus, writer, make_search):
    """Clicked 3 times, 1 pseudo-click: ¼ of 4,000 examples are answered by any of the day's three searches.

    Item 0 is expected in ¾ + ¼·⅓ of them, item 1 in ¼·⅔, item 2, of another day, never.
    """
    searches = [make_search(query="boots", clicked=(0,), day=8), *[make_search(clicked=(1,), day=8)] * 2]
    searches += [make_search(clicked=(2,), day=10)]
    many = dataclasses.replace(corpus, searches=searches, pairs=[("boots", 0)] * 3)
    task, rng = SearchToItem(**PLAIN | {"pseudo_clicks": 1}), random.Random(0)
    answers = Counter(tuple(task.sample(many, writer, 0, rng).answer) for _ in range(4000))
    shares = [answers[tuple(many.item_codes[item].tolist())] / 4000 for item in range(3)]
    assert shares == pytest.approx([10 / 12, 2 / 12, 0], abs=0.02)


@pytest.mark.parametrize("wrong", [{"half_life": 0.0}, {"half_life": -7.0}, {"pseudo_clicks": -0.5}])
def test_a_half_life_is_positive_and_pseudo_clicks_are_not_negative(wrong):
    with pytest.raises(UserError, match="has to be above zero, the other not below it"):
        SearchToItem(**wrong)


def test_a_title_is_met_where_nobody_clicked_yet(corpus, writer, read):
    """A catalogue without searches is learnt all the same; nothing popular stands beside the words."""
    unasked = dataclasses.replace(corpus, searches=[], pairs=[])
    sample = TitleToItem().sample(unasked, writer, 1, random.Random(0))
    assert read(sample.prompt.tokens) == "<to_item> <query> blue boots 0.0.0.0.0 </s>"
    assert sample.answer == [1, 1, 0, 2, 0]


@pytest.mark.parametrize("task", [SearchToItem, TitleToItem, QueryToSid])
@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_a_weight_counts_how_often(task, weight):
    """Whatever else a task checks; 0 leaves it out."""
    with pytest.raises(UserError, match=f"{task.__name__} has weight {weight}: give it 0 for never, or"):
        task(weight=weight)
    assert task(weight=0.0).weight == 0


@pytest.mark.parametrize("task", [SearchToItem(), TitleToItem()])
def test_the_same_chance_writes_the_same_example(corpus, writer, task):
    one, two = (task.sample(corpus, writer, 0, random.Random(3)) for _ in range(2))
    assert one == two


def test_clicks_may_be_remembered_until_an_earlier_day(corpus, make_writer, make_memory, make_search):
    """Of day 5 with an age of up to 3: asked for days 2 to 5; the record of day 5 itself comes with the search."""
    memory = make_memory(own=(0,))
    writer = make_writer(memory=memory, num_similar=1)
    one = type(corpus)(**{**corpus.__dict__, "searches": [make_search(clicked=(1,), cold_start=(2,))]})
    task, rng = SearchToItem(**PLAIN | {"largest_age": 3}), random.Random(0)
    shown = {tuple(task.sample(one, writer, 0, rng).prompt.history[0]) for _ in range(40)}
    assert {day for question, _, day, *_ in memory.asked if question == "own"} == {2, 3, 4}
    assert {day for question, _, day, *_ in memory.asked if question == "similar"} == {2, 3, 4, 5}
    assert shown == {(0,), (2,)}
