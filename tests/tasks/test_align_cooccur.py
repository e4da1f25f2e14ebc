"""Each task of stages 1 and 2: prompt and answer read back, against what the corpus says.

SIDs: items 0.1.2.0.1, 1.1.0.2.0, 3.0.1.1.1; red boots 2.2.0.0.0, its typo 'erd boots' 2.1.0.0.1; rug 3.2.1.2.1.
"""

import random

import pytest

from onesearch.tasks.align import (
    MAX_TARGET,
    ItemToCategory,
    ItemToSid,
    QuerySidToCategory,
    QueryToCategory,
    QueryToSid,
    SidToCategory,
    SidToItem,
    SidToQuery,
)
from onesearch.tasks.cooccur import ItemSidToQuerySid, ItemTextToQueryText, QuerySidToItemSid, QueryTextToItemText

CASES = [
    (QueryToSid(typo_rate=0), 2, 1, "<to_sid> <query> rug </s>", [3, 2, 1, 2, 1]),
    (QueryToSid(typo_rate=1), 2, 0, "<to_sid> <query> erd boots </s>", [2, 1, 0, 0, 1]),
    (QueryToSid(typo_rate=1), 2, 1, "<to_sid> <query> rug </s>", [3, 2, 1, 2, 1]),  # none known
    (ItemToSid(fragment_rate=0), 3, 0, "<to_sid> <title> red boots, shoes </s>", [0, 1, 2, 0, 1]),
    (ItemToSid(fragment_rate=1), 3, 0, "<to_sid> <title> red </s>", [0, 1, 2, 0, 1]),
    (ItemToSid(fragment_rate=1), 3, 2, "<to_sid> <title> wool rug, home </s>", [3, 0, 1, 1, 1]),  # none known
    (SidToQuery(), 2, 1, "<to_query> <sid> 3.2.1.2.1 </s>", "rug </s>"),
    (SidToItem(), 3, 1, "<to_title> <sid> 1.1.0.2.0 </s>", "blue boots, shoes </s>"),
    (ItemToCategory(), 3, 2, "<to_category> <title> wool rug, home </s>", "home </s>"),
    (QueryToCategory(), 2, 0, "<to_category> <query> red boots </s>", "shoes </s>"),
    (QuerySidToCategory(), 2, 1, "<to_category> <sid> 3.2.1.2.1 </s>", "home </s>"),
    (SidToCategory(), 3, 0, "<to_category> <sid> 0.1.2.0.1 </s>", "shoes </s>"),
    (QueryTextToItemText(), 3, 1, "<to_title> <query> red boots </s>", "blue boots, shoes </s>"),
    (ItemTextToQueryText(), 3, 2, "<to_query> <title> wool rug, home </s>", "rug </s>"),
    (QuerySidToItemSid(typo_rate=0), 3, 1, "<to_item> <sid> 2.2.0.0.0 </s>", [1, 1, 0, 2, 0]),
    (QuerySidToItemSid(typo_rate=1), 3, 1, "<to_item> <sid> 2.1.0.0.1 </s>", [1, 1, 0, 2, 0]),
    (ItemSidToQuerySid(), 3, 0, "<to_query> <sid> 0.1.2.0.1 </s>", [2, 2, 0, 0, 0]),
]


@pytest.mark.parametrize(("task", "count", "index", "prompt", "answer"), CASES, ids=lambda value: type(value).__name__)
def test_prompt_and_answer(corpus, writer, read, task, count, index, prompt, answer):
    assert task.num_examples(corpus) == count
    sample = task.sample(corpus, writer, index, random.Random(0))
    assert read(sample.prompt.tokens) == prompt
    assert (sample.answer if task.writes == "sid" else read(sample.answer)) == answer
    assert task.writes == ("sid" if isinstance(answer, list) else "text")
    assert sample.prompt.history == ()  # no user in these stages


def test_a_typo_is_drawn_at_its_rate(corpus, writer, read):
    """At rate .3 some of 400 draws are misspelt: within five standard deviations, .3 ± .115."""
    rng, task = random.Random(0), QueryToSid(typo_rate=0.3)
    share = sum("erd" in read(task.sample(corpus, writer, 0, rng).prompt.tokens) for _ in range(400)) / 400
    assert share == pytest.approx(0.3, abs=0.115)


def test_the_category_is_of_any_clicked_item(corpus, writer, read, make_writer):
    """Clicked in two categories, both are answers."""
    two = type(corpus)(**{**corpus.__dict__, "pairs": [("rug", 2), ("rug", 0)]})
    rng = random.Random(0)
    for task in (QueryToCategory(), QuerySidToCategory()):
        answers = {read(task.sample(two, writer, 1, rng).answer) for _ in range(40)}
        assert answers == {"home </s>", "shoes </s>"}


def test_a_long_text_target_is_cut_and_still_closed(corpus, writer):
    long = type(corpus)(**{**corpus.__dict__, "item_texts": ["boots " * 100] * 3})
    answer = SidToItem().sample(long, writer, 0, random.Random(0)).answer
    assert len(answer) == MAX_TARGET + 1
    assert answer[-1] == writer.end


def test_the_same_chance_writes_the_same_example(corpus, writer):
    for task, _, index, *_ in CASES:
        one, two = (task.sample(corpus, writer, index, random.Random(7)) for _ in range(2))
        assert one == two
