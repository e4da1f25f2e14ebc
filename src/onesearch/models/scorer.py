"""The generator as a beam search sees it: log-probabilities of the next code of each beam.

The prompt is read once; keys and values are cached (see `writing`).
"""

import torch
from torch import Tensor

from onesearch.models.generator import Generator
from onesearch.models.writing import Encoded


class GeneratorScorer:
    """Implements `decoding.beam.Scorer` for one batch of encoded prompts.

    Args:
        generator: the trained model.
        encoded: what `generator.encode` made of the prompts.
    """

    def __init__(self, generator: Generator, encoded: Encoded) -> None:
        self.generator = generator
        self.encoded = encoded
        self.heads = generator.level_heads()
        self.writing = generator.architecture.begin(encoded)
        self.num_beams = 1
        batch = len(encoded.hidden)
        self.prefix = torch.empty(batch, 1, 0, dtype=torch.int64, device=encoded.hidden.device)  # [B, K, l]

    def start(self) -> Tensor:
        """Log-probabilities [B, K_1] of the first code."""
        batch, device = len(self.encoded.hidden), self.encoded.hidden.device
        start = torch.full((batch, 1), self.generator.architecture.start_token, device=device)
        return self._step(start).squeeze(1)

    def advance(self, parents: Tensor, codes: Tensor, level: int) -> Tensor:
        """Log-probabilities [B, K, K_(level+1)] once beams [B, K] hold `level` codes, `codes` the latest."""
        batch, num_beams = codes.shape
        first = torch.arange(batch, device=codes.device).unsqueeze(1) * self.num_beams
        rows = (first + parents).flatten()
        if num_beams == self.num_beams:
            self.writing.reorder(rows)
        else:
            self.writing.fork(rows)
            self.num_beams = num_beams
        tokens = codes + self.generator.vocabulary.level_slice(level - 1).start
        kept = self.prefix.gather(1, parents.unsqueeze(-1).expand(-1, -1, level - 1))
        self.prefix = torch.cat([kept, codes.unsqueeze(-1)], -1)
        return self._step(tokens.reshape(-1, 1))

    def _step(self, tokens: Tensor) -> Tensor:
        """[B, K, K_(l+1)] from the latest token of each beam, [B·K, 1]."""
        decoded = self.writing.step(tokens)[:, -1].unflatten(0, (-1, self.num_beams))
        return self.generator.level_log_probs(self.encoded, decoded, self.prefix, self.heads)
