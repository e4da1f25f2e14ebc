"""Filters against a plain predicate over all items, and filtered searches against a brute force over what passes."""

import difflib
import math
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import auto_cli

from onesearch.khqe import Khqe
from onesearch.log.schema import table_of
from onesearch.serve.engine import SearchEngine
from onesearch.serve.filtering import Filter, TypedFilter
from onesearch.serve.filters import Filters, Named
from onesearch.serve.reranker import Reranker
from onesearch.sid.table import SidTable
from onesearch.sid.trie import Trie
from onesearch.tasks.prompt import Views
from onesearch.types import UserError

PATHS = [
    ["Shoes", "Women", "Boots"],
    ["Shoes", "Men"],
    ["Bags", "Women"],
    ["Bags > Shoes"],
    [],
    None,
    ["Women", "Gifts"],
    ["shoes", "MEN"],
    ["Gifts", "gifts"],
]
BRANDS, SELLERS = ("Acme", "ACME", "ACME", "Nordwind", None), ("Corner", "Market", None, "")
SIZES = (3, 2, 2)
NUM_ITEMS = 60

ITEMS = [
    {
        "item_id": f"i{row}",
        "title": "thing",
        "category": PATHS[row % len(PATHS)],
        "brand": BRANDS[row // 6 % len(BRANDS)],
        "seller": SELLERS[row // 15 % len(SELLERS)],
        "price": None if row % 7 == 0 else float(row % 10),
        "available": (True, False, None, True)[row % 4],
    }
    for row in range(NUM_ITEMS)
]


@pytest.fixture(scope="module")
def catalogue():
    """Sixty items on at most twelve SIDs, with everything that may be unknown, as filters, codes and trie."""
    log = SimpleNamespace(
        items=table_of("items", ITEMS), row_of={item["item_id"]: row for row, item in enumerate(ITEMS)}
    )
    codes = np.random.default_rng(0).integers(0, SIZES, (NUM_ITEMS, 3))
    return Filters(log, SidTable(codes, np.zeros(NUM_ITEMS)), Trie(codes, SIZES)), codes


def is_of(item: dict, category: str) -> bool:
    """On the path, or the path begins so; in any case of letters. After `> ` only the beginning counts."""
    path = [name.lower() for name in item["category"] or []]
    beginnings = [" > ".join(path[:n]) for n in range(1, len(path) + 1)]
    if category.startswith("> "):
        return category[2:].lower() in beginnings
    return category.lower() in [*path, *beginnings]


def passes(item: dict, wanted: Filter) -> bool:
    """What a filter says, item by item."""
    return (
        (not wanted.category or any(is_of(item, name) for name in wanted.category))
        and (not wanted.brand or (item["brand"] or "").lower() in [name.lower() for name in wanted.brand])
        and (not wanted.seller or (item["seller"] or "").lower() in [name.lower() for name in wanted.seller])
        and (wanted.price_min is None or (item["price"] is not None and item["price"] >= wanted.price_min))
        and (wanted.price_max is None or (item["price"] is not None and item["price"] <= wanted.price_max))
        and not (wanted.in_stock and item["available"] is False)
        and (wanted.allow is None or item["item_id"] in wanted.allow)
        and item["item_id"] not in wanted.block
    )


def some(*values: str) -> st.SearchStrategy:
    return st.just(()) | st.lists(st.sampled_from(values), max_size=2).map(tuple)


ids = st.lists(st.integers(0, 80).map("i{}".format), max_size=40).map(tuple)
low, high = (st.none() | st.integers(*span) for span in ((0, 5), (5, 9)))
filters = st.builds(
    Filter,
    category=some("Women", "> women", "> Shoes > men", "shoes", "Shoes > Women", "bags > women", "Bags > Shoes", "Men"),
    brand=some("Acme", "nordwind"),
    seller=some("Corner", "MARKET"),
    price_min=low,
    price_max=high,
    in_stock=st.booleans(),
    allow=st.none() | ids,
    block=ids,
)


@settings(max_examples=300, deadline=None)
@given(wanted=filters)
def test_a_filter_is_a_plain_predicate(catalogue, wanted):
    """The items that pass are those of the predicate, and the trie holds their SIDs, beside those of blocked items.

    Of these there are no more than spare beams.
    """
    compiled, codes = catalogue
    want = [passes(item, wanted) for item in ITEMS]
    found = compiled.of(wanted)
    assert found.items.tolist() == want
    assert found.num_items == sum(want)
    sids = {tuple(sid) for sid in codes[want].tolist()}
    walked = set() if found.trie is None else set(map(tuple, found.trie.sids.tolist()))
    assert sids <= walked
    assert len(walked - sids) <= min(found.spare, len(set(wanted.block)))
    for sid in walked - sids:
        assert any(ITEMS[row]["item_id"] in wanted.block for row in np.flatnonzero((codes == sid).all(1)))


def test_compiled_filters_are_kept_and_few(catalogue):
    """What means the same is the same, whatever its order; those that were asked for long ago are forgotten."""
    compiled, _ = catalogue
    one, same = Filter(brand=("Acme", "Nordwind")), Filter(brand=["Nordwind", "Acme", "Acme"])
    first = compiled.of(one)
    assert compiled.of(same) is first
    for number in range(31):
        compiled.of(Filter(price_min=number / 100))
    assert compiled.of(one) is first
    for number in range(32):
        compiled.of(Filter(price_min=number / 100))
    assert compiled.of(one) is not first


def test_a_short_list_of_blocked_items_is_a_shoppers_own(catalogue):
    """It cuts no trie and takes no place among those that are kept; a long one does."""
    compiled, _ = catalogue
    whole = compiled.of(Filter(brand="Acme"))
    for number in range(40):
        found = compiled.of(Filter(brand="Acme", block=[f"i{number}", "never was"]))
        assert found.trie is whole.trie
    assert compiled.of(Filter(brand="Acme")) is whole
    long = Filter(block=[f"i{number}" for number in range(65)])
    assert compiled.of(long) is compiled.of(long)
    assert (compiled.of(long).num_items, compiled.of(long).spare) == (0, 0)
    assert [Filter(block=[f"i{n}" for n in range(size)]).spare for size in (0, 1, 16, 17, 64)] == [0, 16, 16, 32, 64]


def test_a_choice_lets_pass_what_it_says(catalogue):
    """Each name and path once, spelled as the most items have it; a root whose name stands elsewhere too has its own.

    Of 60 items on nine paths in turn the first six paths have seven, the others six.
    """
    compiled, _ = catalogue
    for field, named in compiled.names.items():
        assert len({choice.value.casefold() for choice in named.choices}) == len(named.choices)
        for value, path, num_items in named.choices:
            found = compiled.of(Filter(**{field: value}, in_stock=False)).num_items
            assert (value, found) == (value, num_items)
            assert all(path)
    of_category = {choice.value: choice.num_items for choice in compiled.names["category"].choices}
    assert of_category == {
        "Shoes": 20,
        "Shoes > Men": 13,
        "Shoes > Women": 7,
        "Shoes > Women > Boots": 7,
        "Bags": 7,
        "Bags > Women": 7,
        "Bags > Shoes": 7,
        "> Women": 6,
        "Women > Gifts": 6,
        "> Gifts": 6,
        "Gifts > gifts": 6,
    }
    assert [(one.value, one.num_items) for one in compiled.names["brand"].choices] == [("ACME", 36), ("Nordwind", 12)]
    assert {one.value for one in compiled.names["seller"].choices} == {"Corner", "Market"}


def test_a_hint_takes_no_time(catalogue):
    """What nobody would type is not compared with every name there is, however long."""
    names = pa.chunked_array([[f"{number:05d}" + "ab" * 120 for number in range(4000)] + ["Nordwind"] * 2])
    named = Named("brand", names)
    calls = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(difflib, "get_close_matches", lambda name, near: calls.append((name, near)) or [])
        for name in ("ba" * 128, "nordwnid"):
            with pytest.raises(UserError, match=r"the most items have: 'Nordwind'"):
                named.check([name])
    assert calls == [("nordwnid", ["nordwind"])]


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"category": "Boot"}, "filter.category: no item has the category 'Boot' (like it: 'Boots', "),
        ({"category": "Women > Boots"}, "no item has the category 'Women > Boots' (like it: "),
        ({"brand": "nordwnid"}, "no item has the brand 'nordwnid' (like it: 'Nordwind')."),
        ({"seller": "xyz"}, "no item has the seller 'xyz' (the most items have: 'Corner', 'Market')."),
        ({"brand": ""}, "no item has the brand ''"),
    ],
)
def test_a_name_that_no_item_has_is_refused(catalogue, wanted, sentence):
    compiled, _ = catalogue
    with pytest.raises(UserError) as refused:
        compiled.of(Filter(**wanted))
    assert sentence in str(refused.value)


def test_what_is_not_recorded_cannot_be_asked_for(tiny_engine, tiny_log):
    with pytest.raises(UserError, match=r"the seller 'Corner' \(none is recorded at all: leave it out\)"):
        tiny_engine.search(tiny_log, "boots", filter=Filter(seller="Corner"))


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"price_min": 5.0, "price_max": 4.5}, "price_min is 5 and price_max 4.5: no price lies between"),
        ({"price_min": -1.0}, "filter.price_min is -1.0: give a number that is 0 or more"),
        ({"price_max": math.nan}, "filter.price_max is nan"),
        ({"price_max": math.inf}, "filter.price_max is inf"),
    ],
)
def test_a_price_that_is_none_is_refused(wanted, sentence):
    with pytest.raises(UserError, match=sentence):
        Filter(**wanted)


def test_a_text_is_one_value():
    """Whatever is in it: brackets are part of a name, and an empty list is no name."""
    assert Filter(category="Shoes > Women").category == ("Shoes > Women",)
    assert Filter(brand="[solid]").brand == ("[solid]",)
    assert Filter(allow=()).allow == ()


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("> Women", ["> Women"]),
        ("Clothing, Shoes & Jewelry", ["Clothing, Shoes & Jewelry"]),
        ("['Home, Garden', Shoes]", ["Home, Garden", "Shoes"]),
        ("['Home, Garden', 12]", ["12", "Home, Garden"]),
        ("""["Levi's", 007,'a b', On]""", ["007", "Levi's", "On", "a b"]),
        ("['[solid]']", ["[solid]"]),
        ("[solid", ["[solid"]),
        ("[]", []),
    ],
)
def test_a_command_line_gives_one_value_or_several(typed, values):
    """Items of a list stay the texts that they are, quoted or not: 007 is an ID, and On a brand."""
    of_line = auto_cli(typed_filter, args=["--filter.category", typed, "--filter.allow", typed])
    for found in (TypedFilter(typed, allow=typed), of_line):
        assert (list(found.category), list(found.allow)) == (values, values)


def typed_filter(filter: TypedFilter = TypedFilter()) -> TypedFilter:  # noqa: B008
    return filter


@pytest.mark.parametrize("typed", ["['a, b]", "[[a]]", "[a: b]"])
def test_a_list_that_is_none_is_refused(typed):
    with pytest.raises(UserError, match=r"filter.brand: .* is no list of names: write it as \['Home, Garden', Shoes\]"):
        TypedFilter(brand=typed)


FILTERS = [
    Filter(),
    Filter(category="Shoes", price_max=15),
    Filter(brand=("Acme", "Kestrel"), category=("Lamp", "Kitchen > Kettle"), in_stock=False),
    Filter(price_min=20.5, price_max=31, block=("i11", "i12")),
    Filter(allow=("i03", "i30", "i35", "long gone")),
]


@pytest.fixture(scope="module")
def searches(tiny_log):
    """Ten searches of the test period: known and unknown users, seen and unseen queries."""
    return tiny_log.contexts("test")[:10]


@torch.no_grad()
@pytest.mark.parametrize("wanted", FILTERS, ids=str)
def test_wide_beams_equal_brute_force_over_what_passes(tiny_engine, tiny_khqe, tiny_log, searches, wanted):
    """As many beams as SIDs: the filtered catalogue by falling log-probability, five items of a SID, in their order."""
    passing = tiny_engine.filters(tiny_log).of(wanted)
    rows = [row for row, item in enumerate(tiny_log.items.to_pylist()) if passes(item, wanted)]
    assert 0 < len(rows) < 36
    engine = SearchEngine(
        tiny_khqe, tiny_engine.generator, tiny_engine.writer.tokenizer, "search", Views(), num_beams=200
    )
    codes = torch.from_numpy(tiny_khqe.item_codes[rows])
    encoded = engine.generator.encode(engine.batch(searches))
    scores = engine.generator.sid_log_probs(encoded, codes.expand(len(searches), -1, -1)).sum(-1).double().numpy()
    for ranked, row in zip(engine.rank(searches, 36, passing), scores, strict=True):
        score_of = dict(zip(rows, row, strict=True))
        assert set(ranked.items.tolist()) == set(rows)  # no bucket of the tiny shop is larger than five
        assert np.allclose(ranked.scores, [score_of[item] for item in ranked.items.tolist()], atol=1e-4)
        assert (np.diff(ranked.scores) <= 1e-9).all()


def test_a_narrow_filter_starves_no_list(tiny_khqe, tiny_engine, tiny_log, searches):
    """Four beams: what is filtered after them is seldom three items, what is filtered before them always."""
    wanted = Filter(category="Kettle", in_stock=False)
    engine = SearchEngine(
        tiny_khqe, tiny_engine.generator, tiny_engine.writer.tokenizer, "search", Views(), num_beams=4
    )
    passing = engine.filters(tiny_log).of(wanted)
    before = [len(ranked.items) for ranked in engine.rank(searches, 3, passing)]
    after = [int(passing.items[ranked.items].sum()) for ranked in engine.rank(searches, 36)]
    assert before == [3] * len(searches)
    assert min(after) < 3


def test_what_does_not_pass_takes_no_place_in_a_bucket():
    """Of items 0 to 5 on one SID, the higher first, two are shown: the best two that pass.

    Only where the list is not full yet does another one that passes come too.
    """
    table = SidTable(np.zeros((6, 2), int), np.arange(6.0))
    shown = np.array([True, True, False, True, False, False])
    assert table.expand(np.array([[0, 0]]), 10, per_bucket=2).tolist() == [5, 4]
    assert table.expand(np.array([[0, 0]]), 2, per_bucket=2, shown=shown).tolist() == [3, 1]
    assert table.expand(np.array([[0, 0]]), 10, per_bucket=2, shown=shown).tolist() == [3, 1, 0]


@pytest.fixture(scope="module")
def crowded_engine(tiny_khqe, tiny_engine):
    """The tiny shop with eight items on one SID, 0 to 7, and four on another, 8 to 11; earlier rows come first."""
    codes = tiny_khqe.item_codes.copy()
    free = [sid for sid in tiny_khqe.table.sids.tolist() if sid not in codes[12:].tolist()]
    codes[:8], codes[8:12] = free[0], free[1]
    crowded = Khqe(tiny_khqe.encoder, tiny_khqe.codebook, [], codes, tiny_khqe.item_embeddings, -np.arange(36.0))
    return SearchEngine(crowded, tiny_engine.generator, tiny_engine.writer.tokenizer, "search", Views(), num_beams=8)


def test_what_passes_is_shown_however_crowded_its_sid(crowded_engine, tiny_log):
    """Eight items that share a SID are allowed, ten are asked for: all eight are shown, best first."""
    ids = [f"i{row:02d}" for row in range(12)]
    hits = crowded_engine.search(tiny_log, "boots", filter=Filter(allow=ids[:8], in_stock=False))
    assert [hit.item_id for hit in hits] == ids[:8]
    hits = crowded_engine.search(tiny_log, "boots", k=11, filter=Filter(allow=ids, in_stock=False))
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    eight = [hit.item_id for hit in hits if hit.item_id in ids[:8]]
    four = [hit.item_id for hit in hits if hit.item_id in ids[8:]]
    # Five and four at first; the two that are missing are the next of eight, whichever SID is the better one.
    assert (eight, four) == (ids[:7], ids[8:])
    assert len(crowded_engine.search(tiny_log, "boots", k=9, filter=Filter(allow=ids, in_stock=False))) == 9


def test_a_list_of_the_whole_catalogue_has_five_of_a_sid(crowded_engine, tiny_log):
    """As it is evaluated: without a filter no list is filled up."""
    ranked = crowded_engine.rank([tiny_log.context(None, "boots")], 36)[0]
    assert {*range(5), *range(8, 12)} >= {row for row in ranked.items.tolist() if row < 12}


@pytest.mark.parametrize("num_blocked", [3, 20])
def test_what_is_blocked_starves_no_list(tiny_engine, tiny_khqe, tiny_log, searches, num_blocked):
    """Four beams, and the best items of each search blocked: there is a list of others all the same.

    With as many beams as SIDs it is the unblocked list without them.
    """
    tokenizer = tiny_engine.writer.tokenizer
    narrow, wide = (
        SearchEngine(tiny_khqe, tiny_engine.generator, tokenizer, "search", Views(), num_beams=width)
        for width in (4, 200)
    )
    for search in searches:
        whole = wide.rank([search], 36, wide.filters(tiny_log).of(Filter()))[0].items.tolist()
        wanted = Filter(block=[tiny_log.item_ids[row] for row in whole[:num_blocked]])
        found = wide.rank([search], 36, wide.filters(tiny_log).of(wanted))[0]
        assert found.items.tolist() == whole[num_blocked:]
        few = narrow.rank([search], 4, narrow.filters(tiny_log).of(wanted))[0].items.tolist()
        assert len(few) == 4
        assert not {*few} & {*whole[:num_blocked]}


def test_what_is_sold_out_is_shown_to_who_asks(tiny_engine, tiny_log):
    """i05 is sold out: a shopper's search leaves it out, unless told otherwise; what is evaluated does not."""
    engine = SearchEngine.__new__(SearchEngine)
    engine.__dict__.update(tiny_engine.__dict__, num_beams=200)
    found = [
        {hit.item_id for hit in engine.search(tiny_log, "yellow boots", k=36, filter=wanted)}
        for wanted in (Filter(), Filter(in_stock=False))
    ]
    assert found == [{*tiny_log.item_ids} - {"i05"}, {*tiny_log.item_ids}]
    assert {hit.item_id for hit in engine.search(tiny_log, "yellow boots", k=36)} == found[0]
    assert len(engine.rank([tiny_log.context(None, "yellow boots")], 36)[0].items) == 36


def test_filtered_lists_are_re_sorted(judged_run, tiny_engine, tiny_khqe, tiny_log):
    """Only what passes is judged, by falling score; nothing that passes is an empty list, re-sorted or not."""
    reranker = Reranker.open(judged_run, tiny_khqe, tiny_log)
    wanted = Filter(category="Boots", price_max=13)
    hits = tiny_engine.search(tiny_log, "red boots", "u3", 3, reranker, wanted)
    assert [hit.item_id for hit in hits] != []
    assert {hit.item_id for hit in hits} < {"i00", "i01", "i02", "i03"}
    scores = [hit.judgement.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    for judge in (reranker, None):
        assert tiny_engine.search(tiny_log, "red boots", "u3", 3, judge, Filter(category="Boots", price_min=40)) == []
