"""Token ids: text, then SID layers, then markers, without gap or overlap."""

import torch

from onesearch.sid.spec import SidSpec
from onesearch.sid.vocabulary import Vocabulary

VOCABULARY = Vocabulary(100, SidSpec((4, 3, 2), (5, 6)), ("<query>", "<slot>"))


def test_every_id_is_used_once():
    """100 text tokens, 4 + 3 + 2 + 5 + 6 SID tokens, 2 markers: 122 ids, each in one place."""
    layers = [range(*VOCABULARY.level_slice(level).indices(10**6)) for level in range(5)]
    markers = [VOCABULARY.marker("<query>"), VOCABULARY.marker("<slot>")]
    assert [*range(100), *(i for layer in layers for i in layer), *markers] == list(range(122))
    assert VOCABULARY.size == 122
    assert [len(layer) for layer in layers] == [4, 3, 2, 5, 6]


def test_sid_tokens_by_hand():
    """Layers begin at 100, 104, 107, 109, 114."""
    codes = torch.tensor([[[3, 2, 1, 4, 5], [0, 0, 0, 0, 0]]])
    assert VOCABULARY.sid_tokens(codes).tolist() == [[[103, 106, 108, 113, 119], [100, 104, 107, 109, 114]]]


def test_a_prefix_of_the_layers():
    assert VOCABULARY.sid_tokens(torch.tensor([[1, 1]])).tolist() == [[101, 105]]
