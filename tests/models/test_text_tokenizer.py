"""The tokenizer trained on the log: every text, its files."""

import json
from importlib.util import find_spec

import pytest

from onesearch.models.text_tokenizer import load_tokenizer, train_tokenizer
from onesearch.types import UserError

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


@pytest.mark.parametrize("named", [{"tokenizer_class": "BertTokenizer"}, {}])
def test_a_chinese_bart_reads_berts_vocabulary(named, tmp_path):
    """vocab.txt beside a BART's config: one token a sign, [SEP] is the end; kept as such when it is saved again."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "红", "色", "boots"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), "utf-8")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bart", **named}), "utf-8")
    load_tokenizer(tmp_path).save_pretrained(tmp_path / "again")
    for tokenizer in (load_tokenizer(tmp_path), load_tokenizer(tmp_path / "again")):
        assert tokenizer("红色boots", add_special_tokens=False)["input_ids"] == [5, 6, 7]
        ids = tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, len(tokenizer)
        assert ids == (2, 0, 3, 8)


def test_an_end_token_of_its_own_is_kept(tokenizer, tmp_path):
    tokenizer.add_special_tokens({"sep_token": "leather"})
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).eos_token == "</s>"


@pytest.mark.parametrize("kind", ["bart", "mbart", "t5", "mt5"])
def test_a_folder_without_a_vocabulary_is_refused(kind, tmp_path):
    """transformers would read every text there as nothing, or as <unk>."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}), "utf-8")
    with pytest.raises(UserError, match=f"{tmp_path} holds no vocabulary: a tokenizer needs tokenizer.json"):
        load_tokenizer(tmp_path)


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
def test_what_only_sentencepiece_can_read_says_so(tmp_path):
    """transformers alone would ask for another package, tiktoken."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mt5"}), "utf-8")
    (tmp_path / "spiece.model").write_bytes(b"\n\x0e\n\x05<pad>")
    with pytest.raises(UserError, match=f"The tokenizer of {tmp_path} cannot be read .* install sentencepiece"):
        load_tokenizer(tmp_path)


def test_training_repeats():
    assert train_tokenizer(TEXTS, 320).get_vocab() == train_tokenizer(TEXTS, 320).get_vocab()
