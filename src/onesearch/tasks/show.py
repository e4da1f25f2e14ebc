"""Samples as people read them: markers by name, SIDs as `<a_7><b_0>…`, everything else as text.

`onesearch samples` prints them from a run; the guide to the generator holds those of a shop of six items.
"""

import random
import textwrap
from collections.abc import Iterator, Sequence

from onesearch.tasks.align import (
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
from onesearch.tasks.personalize import SearchToItem, TitleToItem
from onesearch.tasks.prompt import Listed
from onesearch.tasks.prompt_writer import PromptWriter
from onesearch.tasks.task import Corpus, Sample, Task

STAGES: dict[str, tuple[Task, ...]] = {
    "1 · semantic content alignment": (
        QueryToSid(typo_rate=0),
        ItemToSid(fragment_rate=0),
        SidToQuery(),
        SidToItem(),
        QueryToCategory(),
        ItemToCategory(),
        SidToCategory(),
        QuerySidToCategory(),
    ),
    "2 · co-occurrence synchronisation": (
        QueryTextToItemText(),
        ItemTextToQueryText(),
        QuerySidToItemSid(typo_rate=0),
        ItemSidToQuerySid(),
    ),
    "3 · user personalisation": (
        SearchToItem(typo_rate=0, slide_rate=0, anonymous_rate=0, unknown_rate=0),
        TitleToItem(),
    ),
}
"""All tasks, without what they change of a search by chance."""

WIDTH = 110
"""Characters of a line, as far as SIDs allow."""


def show_samples(corpus: Corpus, writer: PromptWriter, seed: int = 0) -> Iterator[str]:
    """One sample of each task, stage by stage, as blocks of text.

    Args:
        corpus: what the tasks draw from.
        writer: of the prompts.
        seed: of the choice of examples.
    """
    for stage, tasks in STAGES.items():
        yield f"── {stage} ──"
        for task in tasks:
            rng = random.Random(f"{seed}/{type(task).__name__}")
            yield show(writer, task, task.sample(corpus, writer, _choose(task, corpus, rng), rng))


def show(writer: PromptWriter, task: Task, sample: Sample) -> str:
    """A sample as a block of text: the task, its prompt, the sequences behind the slots, its answer."""
    answer = writer.vocabulary.spec.render(sample.answer) if task.writes == "sid" else readable(writer, sample.answer)
    lines = {"prompt": readable(writer, sample.prompt.tokens, sample.prompt.listed)}
    if any(sample.prompt.history):
        clicks, orders, relevant = map(len, sample.prompt.history)
        lines["slots"] = f"{clicks} clicked items, {orders} ordered, {relevant} relevant to the query"
    lines["answer"] = answer
    return "\n".join([type(task).__name__, *(_line(name, content) for name, content in lines.items())])


def readable(writer: PromptWriter, tokens: Sequence[int], listed: Sequence[Listed] = ()) -> str:
    """Token ids as words; an item that takes one position is its SID in brackets."""
    vocabulary, spec = writer.vocabulary, writer.vocabulary.spec
    folded = {one.position: f"[{spec.render(writer.item_codes[one.row].tolist())}]" for one in listed}
    words: list[str] = []
    text: list[int] = []
    codes: list[int] = []
    for position, token in enumerate(tokens):
        added = token - vocabulary.num_text_tokens
        if added < 0 and token != writer.end:
            text.append(token)
            continue
        words += _decoded(writer, text)
        text = []
        if token == writer.end:
            words.append(str(writer.tokenizer.eos_token))
        elif added >= spec.num_tokens:
            words.append(folded.get(position) or vocabulary.markers[added - spec.num_tokens])
        else:
            codes.append(added - spec.offsets[len(codes)])
            if len(codes) == spec.num_layers:
                words.append(spec.render(codes))
                codes = []
    return " ".join([*words, *_decoded(writer, text)])


def _decoded(writer: PromptWriter, text: list[int]) -> list[str]:
    return [str(writer.tokenizer.decode(text)).strip()] if text else []


def _choose(task: Task, corpus: Corpus, rng: random.Random) -> int:
    """An example of a task; of searches one whose shopper has left most behind, so that every view is seen."""
    if isinstance(task, SearchToItem):
        known = [len(c.recent_queries) + len(c.long_clicks) + 2 * len(c.long_orders) for c in corpus.searches]
        return known.index(max(known))
    return rng.randrange(task.num_examples(corpus))


def _line(name: str, content: str) -> str:
    head = f"  {name:<8}"
    return textwrap.fill(
        content, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
