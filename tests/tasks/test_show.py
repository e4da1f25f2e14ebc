"""Samples as people read them, by hand; and every task there is comes in one of the three stages."""

import random

from onesearch.tasks import align, cooccur, personalize
from onesearch.tasks.align import SidToItem
from onesearch.tasks.show import STAGES, readable, show, show_samples
from onesearch.tasks.task import Task


def test_tokens_by_hand(writer):
    """300 text tokens at most, then 4 + 3 + 3 + 3 + 2 codes, then the markers: a SID's tokens are counted out here."""
    first = writer.vocabulary.num_text_tokens
    sid = [first + 3, first + 4 + 1, first + 7 + 0, first + 10 + 2, first + 13 + 1]
    tokens = [first + 15, *writer.text("red boots"), *sid, *sid, *writer.text("rug"), 2]
    name = "<a_3><b_1><c_0><d_2><e_1>"
    assert readable(writer, tokens) == f"<to_sid> red boots {name} {name} rug </s>"
    assert readable(writer, writer.text("wool rug")) == "wool rug"
    assert readable(writer, []) == ""


def test_a_folded_item_is_its_sid_in_brackets(make_writer, make_search):
    writer = make_writer(fold_sids=True, popular_for_all=True, num_popular=1)
    prompt = writer.search(make_search(cold_start=(2,)))
    assert "<popular> [<a_3><b_0><c_1><d_1><e_1>] <history>" in readable(writer, prompt.tokens, prompt.listed)
    assert "<popular> <item> <history>" in readable(writer, prompt.tokens)


def test_a_sample_is_a_block(corpus, writer):
    """Name, prompt, answer; a text answer as text."""
    block = show(writer, SidToItem(), SidToItem().sample(corpus, writer, 1, random.Random(0)))
    assert block.split("\n") == [
        "SidToItem",
        "  prompt  <to_title> <sid> <a_1><b_1><c_0><d_2><e_0> </s>",
        "  answer  blue boots, shoes </s>",
    ]


def test_what_the_slots_hold_is_counted(corpus, writer):
    """The search with one click of the user's: one clicked item, none ordered; without a selector none is relevant."""
    blocks = list(show_samples(corpus, writer))
    (search,) = [block for block in blocks if block.startswith("SearchToItem")]
    assert (
        "  slots   1 clicked items, 0 ordered, 0 relevant to the query\n  answer  <a_1><b_1><c_0><d_2><e_0>" in search
    )
    assert "<clicks> <a_3><b_0><c_1><d_1><e_1>" in search


def test_every_task_is_shown_once(corpus, writer):
    """Those of the three modules, in the stage of their module."""
    modules = dict(zip(STAGES, (align, cooccur, personalize), strict=True))
    blocks = iter(show_samples(corpus, writer))
    for stage, module in modules.items():
        assert next(blocks) == f"── {stage} ──"
        found = {
            name
            for name, task in vars(module).items()
            if isinstance(task, type) and issubclass(task, Task) and not task.__abstractmethods__
        }
        assert {next(blocks).split("\n")[0] for _ in found} == found
    assert next(blocks, None) is None


def test_a_seed_chooses_the_examples(corpus, writer):
    assert list(show_samples(corpus, writer, 1)) == list(show_samples(corpus, writer, 1))
    assert len({tuple(show_samples(corpus, writer, seed)) for seed in range(5)}) > 1
