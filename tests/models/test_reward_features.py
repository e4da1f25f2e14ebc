"""Features of searches and candidates, worked by hand on a catalogue of four items."""

import math

import numpy as np
import pytest
import torch

from onesearch.models.reward_features import (
    NUM_PROFILE_BUCKETS,
    NUM_TIME_GAPS,
    Catalogue,
    RewardFeatures,
    number_categories,
    profile_words,
)
from onesearch.models.reward_items import ItemFacts
from onesearch.types import SearchContext

NO_DAY = NUM_TIME_GAPS - 1


class FixedCounts:
    """Item i before day d: i + d exposures, i clicks, 0 orders; of a query: its length in exposures."""

    end = 150

    def lookup(self, *arguments):
        *queries, items, days = arguments
        first = np.array([len(query) for query in queries[0]]) if queries else items + days
        return np.stack([first, items.clip(min=0), 0 * items], axis=1)


def search(**fields):
    empty = dict.fromkeys(SearchContext._fields, ())
    return SearchContext(
        **{**empty, "search_id": "s", "user_id": "u", "query": "tv", "day": 100, "profile": "", **fields}
    )


def features(**sizes):
    embeddings = torch.nn.functional.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    codes = torch.tensor([[0, 0], [1, 2], [2, 4], [3, 6]])
    catalogue = Catalogue(embeddings, codes, torch.tensor([0, 0, 1, -1]), ItemFacts.unknown(4))
    return RewardFeatures(catalogue, FixedCounts(), FixedCounts(), **sizes)


def test_history_user_id_and_gaps():
    """The last two of three clicks; user ID of items 1, 2: ⌈λ·(1,2)⌉ = 2 and 4 (λ = .398, .602: 1.6, 3.2).

    Clicked on days 85, 93, 100 of a search on day 100: ⌊log2(1 + 15, 8, 1)⌋ = 4, 3, 0.
    """
    context = search(recent_clicks=(0, 1, 2), long_clicks=(3, 1, 2), long_click_days=(85, 93, 100))
    rows = features(short_size=2, long_size=4).rows([context], [[3]])
    assert rows.short.tolist() == [[1, 2]]
    assert rows.long.tolist() == [[3, 1, 2, -1]]
    assert rows.long_gap.tolist() == [[4, 3, 0, 0]]
    assert rows.user_codes[0, :2].tolist() == [2, 4]


def test_a_cold_user_reads_the_most_clicked_items_of_the_query():
    """Best first 2, 1: the sequence ends with the best, and its behaviours carry the gap bucket 'no day'."""
    rows = features(short_size=2, long_size=3).rows([search(cold_start=(2, 1))], [[0]])
    assert rows.short.tolist() == [[1, 2]]
    assert rows.long.tolist() == [[1, 2, -1]]
    assert rows.long_gap.tolist() == [[NO_DAY, NO_DAY, 0]]


def test_nothing_known_at_all():
    rows = features(short_size=2, long_size=3).rows([search()], [[0]])
    assert rows.user_codes.tolist() == [[-1] * 4]
    assert (rows.long == -1).all() and (rows.profile == 0).all()


def test_statistics_by_hand():
    """Item 2 on day 100: 102 exposures, 2 clicks, no order, 14 and none of the last 14 days; (tv, 2): 2 and 2.

    No facts are recorded, and there is no history: of the rest only the shopper's rates, (0 + 1)/(0 + 2) and 1/10, and
    the query's one word are not zero.
    """
    statistics = features().rows([search()], [[2]]).statistics[0, 0]
    item = [math.log(103), math.log(3), 0, 3 / 112, 1 / 12]
    pair = [math.log(3), math.log(3), 0, 3 / 12, 1 / 12]
    lately = [math.log(15), 0, 0, 1 / 24, 1 / 10]
    assert statistics[:15].tolist() == pytest.approx(item + pair + lately)
    rest = statistics[15:]
    assert rest[rest != 0].tolist() == pytest.approx([0.5, 0.1, 1])


def test_what_is_counted_may_have_ended_long_ago():
    """A search on day 400 has the figures of day 150, where counts end: those of the last 14 days are the last ones."""
    early, late = (features().rows([search(day=day)], [[2]]).statistics[0, 0] for day in (150, 400))
    assert late.tolist() == early.tolist()
    assert late[10] == pytest.approx(math.log(15))


def test_candidates_are_chosen_with_their_figures():
    """Places 1 and 0 of the first list, place 0 and none of the second."""
    rows = features().rows([search(), search()], [[1, 2], [3, 0]])
    chosen = rows.choose(torch.tensor([[1, 0], [0, -1]]))
    assert chosen.candidates.tolist() == [[2, 1], [3, -1]]
    assert torch.equal(chosen.statistics[0, 0], rows.statistics[0, 1])
    assert torch.equal(chosen.matches[0, 1], rows.matches[0, 0])


def test_gather_masks_padding():
    """Two searches with one and two candidates; the first has no history at all."""
    builder = features(short_size=2, long_size=3)
    contexts = [search(), search(long_clicks=(2,), long_click_days=(99,))]
    inputs = builder(contexts, [[1], [3, 0]], torch.eye(3)[:2])
    assert inputs.mask.tolist() == [[True, False], [True, True]]
    assert inputs.long_mask.tolist() == [[False], [True]]
    assert inputs.long_category.tolist() == [[-1], [1]]
    assert torch.equal(inputs.item[1, 0], builder.catalogue.embeddings[3])
    assert inputs.item_codes[0, 0].tolist() == [1, 2]
    assert torch.equal(inputs.query, torch.eye(3)[:2])


def test_take_cuts_the_history_to_the_longest():
    contexts = [
        search(long_clicks=(2,), long_click_days=(1,)),
        search(long_clicks=(1, 2, 3), long_click_days=(1, 2, 3)),
    ]
    rows = features(long_size=200).rows(contexts, [[0], [1]])
    assert rows.take(torch.tensor([0])).long.tolist() == [[2]]
    assert rows.take(torch.tensor([1, 0])).long.tolist() == [[1, 2, 3], [2, -1, -1]]


def test_categories_are_whole_paths():
    """'Cases' of phones and of cameras differ; null and an empty path are unknown."""
    paths = [["Phones", "Cases"], ["Cameras", "Cases"], None, [], ["Phones", "Cases"]]
    assert number_categories(paths).tolist() == [0, 1, -1, -1, 0]


def test_profile_words_are_stable():
    """Equal words fall into equal buckets wherever they stand: 1 + crc32("F") mod 1023 = 840. Padding is bucket 0."""
    words = profile_words(["F 31-40", "31-40", ""])
    assert words[0, 0] == 840 < NUM_PROFILE_BUCKETS
    assert words[0, 1] == words[1, 0]
    assert words[2].tolist() == [0, 0, 0, 0]
