"""The samples in docs/generator.md are what the code writes, for a shop of six items that fits on a page.

Where a prompt changes on purpose, `python tests/tasks/test_samples_in_docs.py` writes the page's samples anew.
"""

import random
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from onesearch.models.text_tokenizer import train_tokenizer
from onesearch.sid.spec import SidSpec
from onesearch.sid.vocabulary import Vocabulary
from onesearch.tasks.evidence import Evidence
from onesearch.tasks.prompt import MARKERS, Views
from onesearch.tasks.prompt_writer import PromptWriter
from onesearch.tasks.show import STAGES, show, show_samples
from onesearch.tasks.task import Corpus
from onesearch.tasks.template import Template
from onesearch.types import SearchContext

PAGE = Path(__file__).resolve().parents[2] / "docs" / "generator.md"
BLOCK = re.compile(r"(<!-- samples: (\w+) -->\n```text\n)(.*?)(\n```)", re.DOTALL)

ITEMS = [
    ("red leather ankle boots, Nordwind", "Shoes > Boots", [112, 40, 7, 3, 9]),
    ("blue rain boots, Kestrel", "Shoes > Boots", [112, 41, 30, 80, 21]),
    ("steel kettle 1.7 l, Acme", "Kitchen > Kettles", [907, 12, 255, 14, 200]),
    ("glass teapot with infuser, Acme", "Kitchen > Teapots", [907, 63, 11, 190, 4]),
    ("merino hiking socks, Kestrel", "Shoes > Socks", [118, 5, 99, 61, 130]),
    ("boot care cream, Nordwind", "Shoes > Care", [121, 300, 42, 7, 77]),
]
QUERIES = {"red boots": [112, 40, 19, 5, 30], "kettle": [907, 12, 80, 66, 1], "socks": [118, 9, 200, 31, 8]}

TITLES, CATEGORIES, CODES = map(list, zip(*ITEMS, strict=True))

SEARCH = SearchContext(
    search_id="s1",
    user_id="u1",
    query="red boots",
    day=20_000,
    recent_queries=("kettle", "socks"),
    recent_clicks=(2, 4),
    long_clicks=(3, 2, 4),
    long_click_days=(19_960, 19_990, 19_990),
    long_orders=(4,),
    cold_start=(0, 1),
    profile="F 31-40 Zhejiang",
    clicked=(0,),
    purchased=(0,),
    impressed=None,
)


class Memory:
    """What other shoppers clicked: for similar queries the two boots, these days the kettle."""

    def similar(self, query, day, k, hidden_from):
        return (1, 0)[:k]

    def trending(self, day, k):
        return (2,)[:k]


def corpus():
    """Each query led to its own item, "red boots" to the rain boots as well; one search is known as a whole."""
    return Corpus(
        queries=list(QUERIES),
        item_texts=TITLES,
        categories=CATEGORIES,
        item_codes=np.array(CODES),
        pairs=[("red boots", 0), ("red boots", 1), ("kettle", 2), ("socks", 4)],
        searches=[SEARCH],
        fragments=[tuple(title.split(",")[:1]) for title in TITLES],
    )


def writer(template="markers", **views):
    """Of the reference sizes; the words that templates hold are in the tokenizer, as they are in a pretrained one."""
    words = [text for name in ("en", "zh") for part in Template.load(name).plain().values() for text in part.values()]
    tokenizer = train_tokenizer([*TITLES, *CATEGORIES, *QUERIES, SEARCH.profile, *words], 1000)
    vocabulary = Vocabulary(len(tokenizer), SidSpec(), MARKERS)
    evidence = Evidence(Views(**views), np.array(CODES), lambda _query, items, k: items[-min(k, 1) :], Memory())
    sid_of = lambda query: QUERIES.get(query, [112, 40, 8, 3, 9])  # noqa: E731
    return PromptWriter(tokenizer, vocabulary, np.array(CODES), sid_of, evidence, Template.load(template))


def samples():
    """What the page holds, by the name of the block."""
    search = STAGES["3 · user personalisation"][0]
    folded = {"fold_sids": True, "popular_for_all": True, "num_trending": 1, "user_id": False}

    def one(**options):
        made = writer(**options)
        return show(made, search, search.sample(corpus(), made, 0, random.Random(0)))

    return {
        "all": "\n\n".join(show_samples(corpus(), writer())),
        "folded": one(**folded),
        "en": one(template="en"),
        "zh": one(template="zh"),
    }


@pytest.mark.parametrize("name", ["all", "folded", "en", "zh"])
def test_the_page_holds_what_the_code_writes(name):
    found = {block: text for _, block, text, _ in BLOCK.findall(PAGE.read_text("utf-8"))}
    assert found[name] == samples()[name]


def test_the_page_names_the_weights_of_the_demo():
    """Each task once, with the weight of the demo's recipe; one that the recipe leaves out is off."""
    rows = re.findall(r"^\| .*\| `(\w+)` \| .* → .* \| ([\w.]+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    given = {}
    for path in (PAGE.parents[1] / "configs" / "demo").glob("sft_*.yaml"):
        for task in yaml.safe_load(path.read_text("utf-8"))["data"]["init_args"]["tasks"]:
            given[task["class_path"].split(".")[-1]] = task.get("init_args", {}).get("weight", 1)
    names = [type(task).__name__ for tasks in STAGES.values() for task in tasks]
    assert [name for name, _ in rows] == names
    assert {name: float(weight) for name, weight in rows if weight != "off"} == given


if __name__ == "__main__":
    printed = samples()
    page = BLOCK.sub(lambda block: block[1] + printed[block[2]] + block[4], PAGE.read_text("utf-8"))
    PAGE.write_text(page, "utf-8")
