"""A corpus of three items and two queries whose prompts can be read back by eye."""

import re

import numpy as np
import pytest

from onesearch.behavior.memory import NOTHING_HIDDEN
from onesearch.models.text_tokenizer import train_tokenizer
from onesearch.sid.spec import SidSpec
from onesearch.sid.vocabulary import Vocabulary
from onesearch.tasks.evidence import Evidence
from onesearch.tasks.prompt import MARKERS, Views
from onesearch.tasks.prompt_writer import PromptWriter
from onesearch.tasks.show import readable
from onesearch.tasks.task import Corpus
from onesearch.tasks.template import Template
from onesearch.types import SearchContext

CODES = np.array([[0, 1, 2, 0, 1], [1, 1, 0, 2, 0], [3, 0, 1, 1, 1]])
QUERY_CODES = {"red boots": [2, 2, 0, 0, 0], "rug": [3, 2, 1, 2, 1], "erd boots": [2, 1, 0, 0, 1]}
SPEC = SidSpec((4, 3, 3), (3, 2))


@pytest.fixture(scope="session")
def task_tokenizer():
    return train_tokenizer(["red boots", "blue boots", "wool rug", "shoes", "home"] * 3, 300)


class Memory:
    """Answers each question with fixed items, and notes what it was asked."""

    def __init__(self, own=(), similar=(), trending=()):
        self.answers = {"own": own, "similar": similar, "trending": trending}
        self.asked = []

    def own(self, query, day, k):
        return self._answer("own", query, day, k)

    def similar(self, query, day, k, hidden_from=NOTHING_HIDDEN):
        return self._answer("similar", query, day, k, hidden_from)[:k]

    def trending(self, day, k):
        return self._answer("trending", day, k)[:k]

    def _answer(self, name, *question):
        self.asked.append((name, *question))
        return self.answers[name]


@pytest.fixture
def make_memory():
    return Memory


@pytest.fixture
def make_writer(task_tokenizer):
    """A writer with these views; other queries than the three have the SID 0 0 0 0 0."""

    def make(template=Template(), tokenizer=task_tokenizer, **options):  # noqa: B008
        parts = {name: options.pop(name, None) for name in ("relevant", "memory", "categories", "blend")}
        vocabulary = Vocabulary(len(tokenizer), SPEC, MARKERS)
        sid_of = lambda query: QUERY_CODES.get(query, [0] * 5)  # noqa: E731
        evidence = Evidence(Views(**options), CODES, **parts)
        return PromptWriter(tokenizer, vocabulary, CODES, sid_of, evidence, template)

    return make


@pytest.fixture
def writer(make_writer):
    return make_writer()


@pytest.fixture
def read(writer):
    """Token ids → words: text as text, a SID as '0.1.2.0.1', markers by name."""

    def read(tokens):
        return re.sub(r"<a_(\d+)><b_(\d+)><c_(\d+)><d_(\d+)><e_(\d+)>", r"\1.\2.\3.\4.\5", readable(writer, tokens))

    return read


@pytest.fixture
def make_search():
    """A search with nothing known but what a test names."""

    def make(query="red boots", **known):
        nothing = dict.fromkeys(SearchContext._fields, ())
        named = {"search_id": "s", "user_id": "u", "day": 5, "profile": "", "impressed": None}
        return SearchContext(**(nothing | named | {"query": query} | known))

    return make


@pytest.fixture
def corpus(make_search):
    """'red boots' led to items 0 and 1, 'rug' to item 2."""
    return Corpus(
        queries=["red boots", "rug"],
        item_texts=["red boots, shoes", "blue boots, shoes", "wool rug, home"],
        categories=["shoes", "shoes", "home"],
        item_codes=CODES,
        pairs=[("red boots", 0), ("red boots", 1), ("rug", 2)],
        searches=[
            make_search(clicked=(0, 1), purchased=(1,), recent_clicks=(2,), long_clicks=(2,), profile="F Zhejiang"),
            make_search("rug", clicked=(2,)),
        ],
        typos={"red boots": ("erd boots",)},
        fragments=[("red",), ("blue boots",), ()],
    )
