"""What the tasks of the SFT stages draw from: texts, clicks and searches, with every text's SID prepared."""

import dataclasses
import random
from collections.abc import Sequence
from itertools import chain

from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.log.searches import pairs_of, queries_of
from onesearch.log.text import item_texts, normalize_query
from onesearch.tasks.noise import Babbler, fragment, typo
from onesearch.tasks.task import Corpus
from onesearch.types import SearchContext

NUM_BABBLE = 1000
"""Unreadable queries written once, as each needs a SID; those that hold a known word after all are dropped."""


def build_corpus(
    log: Log, khqe: Khqe, searches: Sequence[SearchContext], num_typos: int, num_fragments: int, seed: int
) -> Corpus:
    """What the tasks draw from, with misspelt wordings and title fragments drawn and encoded once."""
    rng = random.Random(seed)
    queries = queries_of(searches)
    titles = [normalize_query(title).split() for title in log.items["title"].to_pylist()]
    typos = {query: tuple(typo(query, rng) for _ in range(num_typos)) for query in queries}
    babbler = Babbler(queries)
    known = {word for text in (*queries, *map(" ".join, titles)) for word in text.split()}
    written = {babbler.write(rng) for _ in range(NUM_BABBLE if queries else 0)}
    babble = sorted(text for text in written if text and known.isdisjoint(text.split()))
    fragments = [tuple(fragment(title, rng) for _ in range(num_fragments)) for title in titles]
    khqe.learn(chain(queries, babble, *typos.values(), *fragments))
    return Corpus(
        queries=queries,
        item_texts=item_texts(log.items),
        categories=[" > ".join(names or ()) for names in log.items["category"].to_pylist()],
        item_codes=khqe.item_codes,
        pairs=pairs_of(searches),
        searches=searches,
        typos=typos,
        babble=babble,
        fragments=fragments,
    )


def with_searches(corpus: Corpus, searches: Sequence[SearchContext]) -> Corpus:
    """The same catalogue, asked for in other searches and in no wording but their own."""
    queries, pairs = queries_of(searches), pairs_of(searches)
    return dataclasses.replace(corpus, queries=queries, pairs=pairs, searches=searches, typos={})
