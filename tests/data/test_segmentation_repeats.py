"""With BPE dropout a fit's batches hang on seed and epoch alone."""

import pytest
import torch
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
def test_batches_of_encoder_and_tagger_repeat(tiny_run, kind):
    """Twice three passes read the same tokens, and among them are several segmentations of one text."""
    runs = []
    for _ in range(2):
        data = kind(tiny_run, batch_size=16, vocab_size=400, bpe_dropout=0.3)
        data.trainer = None
        data.prepare_data()
        data.setup("fit")
        loader = data.train_dataloader()
        torch.manual_seed(0)
        batches = [batch for _ in range(3) for batch in loader]
        tokens = [batch.queries if kind is AlignmentData else batch.tokens for batch in batches]
        runs.append([tuple(row) for batch in tokens for row in batch.input_ids.tolist()])
    assert runs[0] == runs[1]
    tokenizer = loader.collate_fn.tokenizer
    cut = {tuple(token for token in row if token != tokenizer.pad_token_id) for row in runs[0]}
    texts = {tokenizer.decode(row, skip_special_tokens=True) for row in cut}
    assert len(cut) > 1.5 * len(texts)
