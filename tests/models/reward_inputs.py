"""Inputs of the reward model drawn by chance, and a small model."""

import torch
from torch.nn.functional import normalize

from onesearch.models.reward import RewardModel
from onesearch.models.reward_features import NUM_STATISTICS, RewardInput
from onesearch.models.reward_history import NUM_MATCHES
from onesearch.models.reward_items import NUM_ATTRIBUTES
from onesearch.models.reward_towers import RewardSize

DIM, SIZES = 6, (4, 3)


def random_input(num_searches=3, num_candidates=4, length=5, seed=0):
    draw = torch.Generator().manual_seed(seed)

    def unit(*shape):
        return normalize(torch.randn(*shape, DIM, generator=draw), dim=-1)

    def whole(high, *shape):
        return torch.randint(0, high, shape, generator=draw)

    return RewardInput(
        query=unit(num_searches),
        user_codes=whole(3, num_searches, 4) - 1,
        profile=whole(5, num_searches, 4),
        short=unit(num_searches, 2),
        short_mask=torch.ones(num_searches, 2, dtype=torch.bool),
        long=unit(num_searches, length),
        long_mask=torch.ones(num_searches, length, dtype=torch.bool),
        long_category=whole(2, num_searches, length),
        long_gap=whole(13, num_searches, length),
        item=unit(num_searches, num_candidates),
        item_codes=whole(3, num_searches, num_candidates, 2),
        item_category=whole(2, num_searches, num_candidates),
        item_values=whole(9, num_searches, num_candidates, NUM_ATTRIBUTES),
        position=torch.zeros(num_searches, num_candidates, dtype=torch.int64),
        statistics=torch.randn(num_searches, num_candidates, NUM_STATISTICS, generator=draw),
        matches=torch.randn(num_searches, num_candidates, 2, NUM_MATCHES, generator=draw),
        mask=torch.ones(num_searches, num_candidates, dtype=torch.bool),
    )


def model(**size):
    torch.manual_seed(0)
    return RewardModel(DIM, SIZES, RewardSize(hidden=8, heads=2, **size)).eval()
