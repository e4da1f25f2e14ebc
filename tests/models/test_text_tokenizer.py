"""The tokenizer trained on the log: every text, its files."""

import pytest

from onesearch.models.text_tokenizer import load_tokenizer, train_tokenizer

TEXTS = ["red leather boots", "blue kettle 1.5 l", "red kettle", "leather sandals"] * 5


@pytest.fixture
def tokenizer():
    return train_tokenizer(TEXTS, 320)


def decode(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()


@pytest.mark.parametrize(
    "text", ["red leather boots", "没见过的 红色连衣裙", "naïve café №5 👢", "UPPER  case", "<s>x"]
)
def test_every_text_survives(tokenizer, text):
    """Bytes are the alphabet, so that unseen letters come back and are never <unk>; only the spaces are ours.

    Numbers are pieces of their own, and a run of spaces is one: "№5" comes back as "№ 5".
    """
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    if "<s>" not in text:
        assert decode(tokenizer, ids).replace(" ", "") == text.replace(" ", "")


def test_special_tokens_stand_where_bart_has_them(tokenizer):
    assert (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (
        0,
        1,
        2,
        3,
    )


def test_a_text_is_closed_by_the_end_token(tokenizer):
    ids = tokenizer("red boots")["input_ids"]
    assert ids[-1] == 2
    assert ids.count(2) == 1
    assert tokenizer("red boots", add_special_tokens=False)["input_ids"] == ids[:-1]


def test_merges_of_the_log_shorten_its_texts(tokenizer):
    """'leather' occurs ten times and becomes one token; a word of other letters stays bytes."""
    assert len(tokenizer("leather", add_special_tokens=False)["input_ids"]) == 1
    assert len(tokenizer("zyxwvu", add_special_tokens=False)["input_ids"]) >= 6
    assert len(tokenizer) <= 320


def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again("red unseen 靴")["input_ids"] == tokenizer("red unseen 靴")["input_ids"]
    assert (again.pad_token_id, again.eos_token_id, len(again)) == (1, 2, len(tokenizer))


def test_training_repeats():
    assert train_tokenizer(TEXTS, 320).get_vocab() == train_tokenizer(TEXTS, 320).get_vocab()
