"""BPE dropout: cuts that repeat, in the proportions of the `tokenizers` library, which offsets and texts survive."""

import copy
import random
from collections import Counter

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from onesearch.bpe_dropout import draw_segmentation, segment, set_bpe_dropout
from onesearch.models.text_tokenizer import train_tokenizer
from onesearch.types import UserError

TEXTS = [
    "red leather boots",
    "blue kettle 1.5 l",
    "red kettle",
    "leather sandals",
    "没见过的 红色连衣裙",
    "naïve café №5 👢",
]


@pytest.fixture(scope="module")
def plain():
    return train_tokenizer(TEXTS * 5, 340)


@pytest.fixture
def dropping(plain):
    """`dropping(rate)`: the same tokenizer with dropout."""

    def make(rate):
        tokenizer = copied(plain)
        set_bpe_dropout(tokenizer, rate)
        return tokenizer

    return make


def copied(tokenizer):
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), pad_token="<pad>", eos_token="</s>"
    )


def ids(tokenizer, text, chance=None):
    if chance is not None:
        draw_segmentation(tokenizer, str(chance))
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def decoded(tokenizer, tokens):
    return tokenizer.decode(tokens, clean_up_tokenization_spaces=False).strip()


def test_a_chance_names_one_segmentation(dropping):
    """In another tokenizer, another order and among other texts of a batch, a text is cut the same way."""
    one, two = dropping(0.3), dropping(0.3)
    for chance in range(5):
        draw_segmentation(one, str(chance))
        draw_segmentation(two, str(chance))
        together = one(TEXTS * 20, add_special_tokens=False)["input_ids"]  # on all cores
        assert together == [ids(two, text) for text in reversed(TEXTS)][::-1] * 20


def test_chances_differ_and_all_read_as_the_text(plain, dropping):
    """Over 30 chances there are several segmentations, all of the same text and of tokens that the vocabulary has."""
    tokenizer = dropping(0.3)
    for text in TEXTS:
        drawn = {tuple(ids(tokenizer, text, chance)) for chance in range(30)}
        assert len(drawn) > 5
        assert {decoded(plain, tokens) for tokens in drawn} == {decoded(plain, ids(plain, text))}


def test_it_reaches_a_worker(plain, dropping):
    """Before a chance is drawn it cuts as without dropout; sent away then, it cuts there as it does here."""
    here = dropping(0.3)
    assert ids(here, TEXTS[0]) == ids(plain, TEXTS[0])
    there = copy.deepcopy(here)  # by the protocol of pickle
    assert all(ids(here, text, chance) == ids(there, text, chance) for text in TEXTS for chance in range(5))


def test_without_dropout_nothing_is_touched(plain, dropping):
    tokenizer = dropping(0.0)
    assert tokenizer.backend_tokenizer.to_str() == plain.backend_tokenizer.to_str()
    draw_segmentation(tokenizer, "anything")
    assert all(ids(tokenizer, text) == ids(plain, text) for text in TEXTS)


def test_a_rate_too_small_to_drop_cuts_as_the_library_does(dropping, plain):
    """The merges are done in the library's order: on words of all kinds, random ones too, the tokens are the same."""
    tokenizer, rng = dropping(1e-12), random.Random(0)
    letters = "".join(TEXTS).replace(" ", "")
    words = ["".join(rng.choices(letters, k=rng.randint(1, 12))) for _ in range(300)]
    for text in (*TEXTS, *words, " ".join(words)):
        assert ids(tokenizer, text, 0) == ids(plain, text)


def test_where_all_is_dropped_the_bytes_remain(dropping, plain):
    """'é' is two bytes, '没' three, and each word begins with a space."""
    for text, num_bytes in (("café", 6), ("没 l", 6), ("", 0)):
        assert len(ids(dropping(1.0), text, 0)) == num_bytes


def test_a_token_covers_the_characters_that_it_covers_without(dropping, plain):
    """Offsets of single bytes are those of their characters; a longer token covers what its bytes cover together."""
    tokenizer = dropping(0.4)
    for text in (*TEXTS, "UPPER  case 12ab"):
        covered = {}
        for one in (dropping(1.0), tokenizer, plain):
            draw_segmentation(one, "3")
            encoded = one(text, add_special_tokens=False, return_offsets_mapping=True)
            ends = [len(one.convert_ids_to_tokens(token)) for token in encoded["input_ids"]]
            covered[one] = list(zip(ends, encoded["offset_mapping"], strict=True))
        singles = [span for _, span in next(iter(covered.values()))]
        for spans in covered.values():
            place = 0
            for size, (start, end) in spans:
                inside = singles[place : place + size]
                assert (start, end) in [(first, inside[-1][1]) for first in {span[0] for span in inside}]
                place += size
            assert place == len(singles)


def test_merges_are_dropped_as_often_as_in_the_library(plain, dropping):
    """3,000 draws of each: mean lengths, and the number of times that each segmentation comes, agree to 6 sigma.

    The library's own draws take no seed. The difference of two counts of equal expectation varies by their sum.
    """
    for rate in (0.1, 0.5):
        ours, library = dropping(rate), copied(plain)
        library.backend_tokenizer.model.dropout = rate
        for text in ("leather", "red kettle"):
            drawn = [tuple(ids(ours, text, chance)) for chance in range(3000)]
            peers = [tuple(ids(library, text)) for _ in range(3000)]
            means = [sum(map(len, found)) / 3000 for found in (drawn, peers)]
            spread = sum((len(tokens) - means[1]) ** 2 for tokens in peers) / 3000
            assert abs(means[0] - means[1]) < 6 * (2 * spread / 3000) ** 0.5
            counts, others = Counter(drawn), Counter(peers)
            assert all((counts[key] - others[key]) ** 2 < 36 * (counts[key] + others[key]) for key in counts | others)


def test_the_merges_of_a_word_by_hand():
    """Merges ab, bc, abc = ab + c. 'abc': ab, then abc. If the first draw drops ab, bc is done, and nothing is left."""
    ranks = {("a", "b"): 0, ("b", "c"): 1, ("ab", "c"): 2}
    assert segment("abc", ranks, 0.5, iter([0.9] * 9).__next__) == ["abc"]
    assert segment("abc", ranks, 0.5, iter([0.1, 0.9, *[0.9] * 9]).__next__) == ["a", "bc"]
    # ab and bc are both dropped: nothing is left to do.
    assert segment("abc", ranks, 0.5, iter([0.1, 0.1]).__next__) == ["a", "b", "c"]
    # ab is done; bc, which has lost its b, is passed over; abc is dropped.
    assert segment("abc", ranks, 0.5, iter([0.9, 0.9, 0.1]).__next__) == ["ab", "c"]


def test_dropout_is_nothing_to_another_kind_of_tokenizer():
    """A WordPiece tokenizer has no merges to drop: it stays as it is."""
    words = models.WordPiece({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), unk_token="[UNK]")
    set_bpe_dropout(tokenizer, 0.9)
    assert ids(tokenizer, "b", 0) == [2]


def test_words_with_marked_ends_are_refused():
    """CLIP's 'b</w>' is no 'b': cut in two, a word would read otherwise."""
    marked = models.BPE(vocab={"a": 0, "b</w>": 1, "ab</w>": 2}, merges=[("a", "b</w>")], end_of_word_suffix="</w>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(marked))
    with pytest.raises(UserError, match="set bpe_dropout to 0"):
        set_bpe_dropout(tokenizer, 0.1)
