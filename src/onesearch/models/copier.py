"""A pointer to the items that the prompt lists: an answer may be repeated instead of written anew.

    p(c_l | c_<l, x) = (1 − g)·p_gen(c_l | c_<l, x) + g·Σ_j a_j·[c_l of item j = c_l],   j with the codes c_<l
    a = softmax_j W_q h · (W_k e_j + v_j)/√H,   g = σ(w·h + b), and 0 where no listed item has the codes c_<l

h is the decoder's state, e_j the encoder's output at item j, v_j an embedding of its place: which list, and how far
from the list's best or latest item. Beams thereby walk down the listed items as they walk down the trie.

The paper has no such part: its model learns to repeat from billions of searches. With thousands of them a small one
does not, though most shoppers click what they, or others, clicked before. A pointer-generator network (arXiv
1704.04368), its attention cut to the items of one prefix.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

NO_ITEM = -1
"""The codes of a position that holds no item."""

NEVER = 1e-30
"""In place of the probability 0 of repeating a code that no item has: a logarithm with a gradient."""


class Copier(nn.Module):
    """Mixes a layer's distribution with one over the listed items' codes.

    Args:
        hidden: H, width of the generator.
        num_places: how many places the prompt's lists have together.
    """

    def __init__(self, hidden: int, num_places: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.place = nn.Embedding(num_places, hidden)
        self.gate = nn.Linear(hidden, 1)
        # The head is tied to the embeddings: a state already lies near the items whose codes it is about to write.
        nn.init.eye_(self.query.weight)
        nn.init.eye_(self.key.weight)
        nn.init.zeros_(self.place.weight)

    def keys(self, hidden: Tensor, places: Tensor) -> Tensor:
        """What a beam compares its state with, [B, L, H], once a prompt.

        Args:
            hidden: the encoder's output, [B, L, H].
            places: of the items, [B, L]; `NO_ITEM` elsewhere.
        """
        keys: Tensor = self.key(hidden) + self.place(places.clamp(min=0))
        return keys

    def forward(self, log_probs: Tensor, decoded: Tensor, prefix: Tensor, keys: Tensor, items: Tensor) -> Tensor:
        """Log-probabilities [B, X, K_l] of the mixture.

        Args:
            log_probs: p_gen as logarithms, [B, X, K_l].
            decoded: the decoder's states of X beams or candidates, [B, X, H].
            prefix: their codes so far, [B, X, l].
            keys: of the prompt, [B, L, H].
            items: SIDs at the positions that hold an item, [B, L, C]; `NO_ITEM` elsewhere.
        """
        level = prefix.shape[-1]
        is_item = items[:, None, :, 0] != NO_ITEM
        fits = (items[:, None, :, :level] == prefix[:, :, None, :]).all(-1) & is_item  # [B, X, L]
        scores = self.query(decoded) @ keys.mT * keys.shape[-1] ** -0.5
        scores = scores.float().masked_fill(~fits, torch.finfo(torch.float32).min)
        attention = scores.softmax(-1) * fits
        codes = items[:, None, :, level].clamp(min=0).expand_as(attention)
        copied = torch.zeros_like(log_probs).scatter_add(-1, codes, attention)
        gate = self.gate(decoded).float()
        can_copy = fits.any(-1, keepdim=True)
        written = log_probs + torch.where(can_copy, logsigmoid(-gate), 0.0)
        return torch.logaddexp(written, logsigmoid(gate) + copied.clamp(min=NEVER).log())
