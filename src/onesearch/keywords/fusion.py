"""Fusion of a text's embedding with those of the core keywords found in it.

    e° = ½·e + ½·mean_j(e_kj), then L2-normalised;   no keyword: e° = e, L2-normalised too      (arXiv 2509.03236)

Shapes: B texts, W keywords, P matches, D width.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def fuse(texts: Tensor, keywords: Tensor, text_rows: Tensor, keyword_rows: Tensor) -> Tensor:
    """Fuse embeddings.

    Args:
        texts: [B, D] embeddings of the texts.
        keywords: [W, D] embeddings of the keywords, from the same encoder.
        text_rows: [P] int64, the text of each match.
        keyword_rows: [P] int64, the keyword of each match; list a pair once, whatever the number of its places.

    Returns:
        [B, D] of length 1.
    """
    sums = torch.zeros_like(texts).index_add_(0, text_rows, keywords[keyword_rows].to(texts.dtype))
    counts = torch.bincount(text_rows, minlength=len(texts)).unsqueeze(1)
    fused = 0.5 * texts + 0.5 * sums / counts.clamp(min=1)
    return normalize(torch.where(counts > 0, fused, texts), dim=1)
