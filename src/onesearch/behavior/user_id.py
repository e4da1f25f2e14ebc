"""The user ID: a shopper's short and long behaviour, each blended into one SID-like row of codes.

    SID_short = ⌈Σ_i λ_i·SID_i⌉,   λ_i = exp(√i) / Σ_t exp(√t),   i = 1 … m growing toward the present

element-wise on codes; SID_long is the same over the long history; the user ID is both, 2·C codes (OneSearch, arXiv
2509.03236). For m = 3 the weights are .218, .330, .453.

The mean of two code numbers names a cluster that need not lie between theirs. Ours, as an option: e = Σ_i λ_i·e_i over
the items' embeddings, and the codebook's centroids nearest to e are the ID.

Shapes: B batch, M behaviours, C codes of a SID, D embedding width.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

NONE = -1
"""The code of a shopper without history, in every place of the blend."""

# The weights sum to 1 only up to rounding, and ⌈7.000000000000001⌉ would be 8 for a shopper who saw nothing but code 7.
_ROUNDING = 1e-8


def recency_weights(length: int) -> NDArray[np.float64]:
    """λ of `length` behaviours from oldest to newest, [length]."""
    weights: NDArray[np.float64] = _weights(length, np.array([length]))[0]
    return weights


def blend(codes: NDArray[np.integer], lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """⌈Σ λ_i·SID_i⌉ of each row's behaviours, [B, C].

    Args:
        codes: SIDs from oldest to newest, padded on the right, [B, M, C].
        lengths: how many of the M are real, [B]; 0 gives `NONE` in all C places.
    """
    weights = _weights(codes.shape[1], lengths)
    padding = weights[:, :, None] == 0
    blended = np.einsum("bm,bmc->bc", weights, np.where(padding, 0, codes).astype(np.float64))
    blended = np.ceil(blended - _ROUNDING).astype(np.int64)
    return np.where(lengths[:, None] > 0, blended, NONE)


def blend_embeddings(embeddings: Tensor) -> Tensor:
    """Σ λ_i·e_i, of length 1 as everything that a codebook reads, [D].

    Args:
        embeddings: of one shopper's behaviours from oldest to newest, at least one, [M, D].
    """
    return normalize(torch.from_numpy(recency_weights(len(embeddings))).to(embeddings) @ embeddings, dim=0)


def user_id(
    short: NDArray[np.integer],
    short_lengths: NDArray[np.integer],
    long: NDArray[np.integer],
    long_lengths: NDArray[np.integer],
) -> NDArray[np.int64]:
    """SID_short beside SID_long, [B, 2·C]; the arguments are those of `blend`."""
    return np.concatenate([blend(short, short_lengths), blend(long, long_lengths)], axis=1)


def _weights(size: int, lengths: NDArray[np.integer]) -> NDArray[np.float64]:
    """λ of rows with these lengths, [B, size]; 0 on padding."""
    step = np.arange(1, size + 1)
    # Divided by the largest term: √i of a long history would otherwise blow up before it is normalised.
    raw = np.exp(np.sqrt(step)[None, :] - np.sqrt(lengths)[:, None]) * (step[None, :] <= lengths[:, None])
    total = raw.sum(axis=1, keepdims=True)
    return np.asarray(raw / np.where(total > 0, total, 1.0), dtype=np.float64)
