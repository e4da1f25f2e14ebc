"""With BPE dropout a fit's batches hang on seed and epoch alone."""

import pytest
from lightning.fabric.utilities.data import _set_sampler_epoch

from onesearch.data.alignment import AlignmentData
from onesearch.data.sft import SftData
from onesearch.data.tagging import TaggingData
from onesearch.tasks.align import QueryToSid


@pytest.fixture
def sft_tokens(tiny_run):
    """`sft_tokens(epoch, …)`: the tokens of each batch of an epoch, as a fit that goes on there would read them."""

    def read(epoch, dropout=0.3, **options):
        options = {"batch_size": 16, "vocab_size": 400, "num_typos": 1} | options
        data = SftData(tiny_run, [QueryToSid(typo_rate=0.0)], bpe_dropout=dropout, **options)
        data.prepare_data()
        data.setup("fit")
        loader = data.train_dataloader()
        _set_sampler_epoch(loader, epoch)
        return [batch.prompt.input_ids.tolist() for batch in loader]

    return read


def test_sft_batches_repeat_in_any_number_of_workers(sft_tokens):
    assert sft_tokens(1) == sft_tokens(1, num_workers=2)


def test_an_epoch_does_not_hang_on_those_before(sft_tokens):
    """Nor does it resemble them: the same queries are cut otherwise, and otherwise than without dropout."""
    texts = [sorted(map(tuple, *sft_tokens(epoch, batch_size=1000))) for epoch in (0, 1)]
    assert texts[0] != texts[1]
    assert sft_tokens(1, dropout=0.0) != sft_tokens(1)


@pytest.mark.parametrize("kind", [AlignmentData, TaggingData])
def test_batches_of_encoder_and_tagger_hang_on_seed_and_epoch(tiny_run, kind):
    """A fit that goes on in epoch 2 reads that epoch's tokens; three epochs hold several segmentations of one text."""

    def read(*epochs):
        data = kind(tiny_run, batch_size=16, vocab_size=400, bpe_dropout=0.3)
        data.trainer = None
        data.prepare_data()
        data.setup("fit")
        loader, found = data.train_dataloader(), []
        for epoch in epochs:
            iterator = iter(loader)  # before it is told of the epoch, as Lightning does
            _set_sampler_epoch(loader, epoch)
            tokens = [batch.queries if kind is AlignmentData else batch.tokens for batch in iterator]
            found.append([tuple(row) for batch in tokens for row in batch.input_ids.tolist()])
        return found, loader.collate_fn.tokenizer

    epochs, tokenizer = read(0, 1, 2)
    assert read(2)[0] == epochs[2:]
    assert sorted(epochs[0]) != sorted(epochs[1])
    cut = {tuple(token for token in row if token != tokenizer.pad_token_id) for rows in epochs for row in rows}
    texts = {tokenizer.decode(row, skip_special_tokens=True) for row in cut}
    assert len(cut) > 1.5 * len(texts)
