"""Where text, semantic IDs and prompt markers stand in the generator's one vocabulary.

[ text tokens | <a_0> … <b_0> … <c_0> … <d_0> … <e_0> … | markers ]
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from onesearch.sid.spec import SidSpec


@dataclass(frozen=True)
class Vocabulary:
    """Token ids by arithmetic, so that no tokenizer has to learn thousands of added tokens.

    Args:
        num_text_tokens: size of the text tokenizer.
        spec: sizes of the SID layers.
        markers: names of the tokens that structure a prompt.
    """

    num_text_tokens: int
    spec: SidSpec
    markers: tuple[str, ...]

    @property
    def size(self) -> int:
        """V, number of all tokens."""
        return self.num_text_tokens + self.spec.num_tokens + len(self.markers)

    def level_slice(self, level: int) -> slice:
        """The token ids of one SID layer: the only ones the output head scores at that layer."""
        start = self.num_text_tokens + self.spec.offsets[level]
        return slice(start, start + self.spec.sizes[level])

    def sid_tokens(self, codes: Tensor) -> Tensor:
        """Token ids of codes [..., C], or of a prefix of the layers."""
        offsets = torch.tensor(self.spec.offsets[: codes.shape[-1]], device=codes.device)
        return codes + self.num_text_tokens + offsets

    def marker(self, name: str) -> int:
        """Token id of a marker."""
        return self.num_text_tokens + self.spec.num_tokens + self.markers.index(name)
