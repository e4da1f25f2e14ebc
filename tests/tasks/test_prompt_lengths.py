"""How long a search prompt may become, against prompts in which every view is full."""

import pytest

from onesearch.tasks.prompt import Views
from onesearch.tasks.template import Template

LONG = "red boots blue boots wool rug " * 20
FULL = {
    "query": LONG,
    "recent_queries": (LONG,) * 40,
    "recent_clicks": (0, 1, 2) * 40,
    "long_clicks": (0, 1, 2) * 40,
    "long_orders": (1,) * 40,
    "cold_start": (0, 1) * 20,
    "profile": LONG,
}


@pytest.mark.parametrize(
    "views",
    [
        {},
        {"fold_sids": True, "num_trending": 7, "num_popular": 9},
        {"num_recent_queries": 20, "num_recent_clicks": 20, "num_similar": 30, "num_relevant_sids": 0},
        {"recent_query_sids": False, "query_sid": False, "max_text": 3, "num_slots": 9},
        {"num_popular": 0, "num_similar": 0, "num_recent_queries": 0, "num_recent_clicks": 0, "user_id": False},
        {"num_slots": 0, "num_recent_clicks": 1, "profile": False},
        {"max_history": 0, "user_id": False, "num_relevant_sids": 0},
    ],
    ids=str,
)
def test_the_longest_prompt_is_as_long_as_foreseen(make_writer, make_search, make_memory, views):
    """Texts, lists and histories of more than every view shows; not a token more or less than the sum of the parts."""
    memory = make_memory(similar=(2,) * 40, trending=(0,) * 40)
    writer = make_writer(relevant=lambda query, history, k: (1,) * k, memory=memory, popular_for_all=True, **views)
    lengths = Views(popular_for_all=True, **views).lengths(5)
    assert len(writer.search(make_search(**FULL)).tokens) == sum(lengths.values())
    assert min(lengths.values()) >= 0


@pytest.mark.parametrize("language", ["markers", "en", "zh"])
def test_the_words_of_a_template_are_counted(make_writer, make_search, make_memory, language):
    """With every view shown, the words come on top of the views' own tokens; markers alone are no words."""
    views, memory = {"num_trending": 3, "popular_for_all": True}, make_memory(similar=(2,) * 40, trending=(0,) * 40)
    parts = {"relevant": lambda query, history, k: (1,) * k, "memory": memory}
    writer = make_writer(template=Template.load(language), **parts, **views)
    longest = sum(Views(**views).lengths(5).values()) + writer.num_words()
    assert len(writer.search(make_search(**FULL)).tokens) == longest
    assert (writer.num_words() > 0) == (language != "markers")


def test_the_part_of_each_view():
    """By hand, of 5 codes: a marker and its items; text and SID of each query; the query with <to_item> and </s>."""
    views = Views(num_popular=4, num_similar=0, num_recent_queries=2, max_text=10)
    lengths = views.lengths(5)
    assert lengths == {
        "num_popular": 21,
        "num_recent_clicks": 26,
        "num_relevant_sids": 26,
        "query_sid": 5,
        "num_recent_queries": 31,
        "user_id": 11,
        "num_slots": 4,
        "profile": 11,
        "max_text": 13,
    }
