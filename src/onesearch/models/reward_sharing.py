"""What the three towers share of the layers beneath them, and how their probabilities hang together.

    bottom   one stack of layers for all towers
    mmoe     E stacks; tower t reads Σ_e softmax(G_t x)_e · f_e(x)     (Ma et al., MMoE, KDD 2018)
    none     a stack for each tower

    CTCVR = CTR · CVR in logits, without leaving them:
        log p = log σ(a) + log σ(b)      log(1 − p) = log(σ(−a) + σ(a)·σ(−b))

Shapes: ... any leading dimensions, W width of the input, H hidden width, E experts.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

Sharing = Literal["bottom", "mmoe", "none"]


class Shared(nn.Module):
    """Layers between the features and the towers: [..., W] → one [..., H] a tower.

    Args:
        sharing: see above.
        width: W.
        hidden: H.
        dropout: while training.
        num_towers: how many read it.
        num_experts: E, of `mmoe`.
    """

    def __init__(
        self, sharing: Sharing, width: int, hidden: int, dropout: float, num_towers: int, num_experts: int
    ) -> None:
        super().__init__()
        self.sharing, self.num_towers = sharing, num_towers
        num_stacks = {"bottom": 1, "mmoe": num_experts, "none": num_towers}[sharing]
        self.stacks = nn.ModuleList(_stack(width, hidden, dropout) for _ in range(num_stacks))
        num_gates = num_towers if sharing == "mmoe" else 0
        self.gates = nn.ModuleList(nn.Linear(width, num_experts) for _ in range(num_gates))

    def forward(self, x: Tensor) -> list[Tensor]:
        """What each tower reads."""
        outputs = [stack(x) for stack in self.stacks]
        if self.sharing == "bottom":
            return outputs * self.num_towers
        if self.sharing == "none":
            return outputs
        experts = torch.stack(outputs, dim=-2)  # [..., E, H]
        return [(gate(x).softmax(-1).unsqueeze(-1) * experts).sum(-2) for gate in self.gates]


def product_logit(first: Tensor, second: Tensor) -> Tensor:
    """The logit of σ(first)·σ(second)."""
    log_p = logsigmoid(first) + logsigmoid(second)
    return log_p - torch.logaddexp(logsigmoid(-first), logsigmoid(first) + logsigmoid(-second))


def logit_of(log_p: Tensor) -> Tensor:
    """The logit of a probability given by its logarithm."""
    log_p = log_p.clamp(max=-torch.finfo(log_p.dtype).eps)
    return log_p - torch.log(-torch.expm1(log_p))


def _stack(width: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, 2 * hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * hidden, hidden), nn.GELU()
    )
