"""The shape of a semantic ID: how many layers, how many codes each, and how a SID is written as tokens.

A SID is (c_1, c_2, c_3 | o_1, o_2): three residual layers, then two product layers. It reads
`<a_i><b_j><c_k><d_x><e_y>` with codes local to their layer, so the reference sizes (arXiv 2509.03236) make
4096 + 1024 + 512 + 256 + 256 = 6144 tokens.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from onesearch.types import UserError

_TOKEN = re.compile(r"<([a-z])_(\d+)>")


@dataclass(frozen=True)
class SidSpec:
    """Sizes of the residual and product layers of a SID.

    Args:
        rq_sizes: codes of each residual layer, coarse to fine.
        opq_sizes: codes of each product sub-quantizer; empty for residual quantisation alone.

    Raises:
        UserError: a size below 1, no layer, or more layers than letters.
    """

    rq_sizes: tuple[int, ...] = (4096, 1024, 512)
    opq_sizes: tuple[int, ...] = (256, 256)

    def __post_init__(self) -> None:
        for name in ("rq_sizes", "opq_sizes"):
            sizes = tuple(getattr(self, name))  # YAML and JSON hand over lists
            if any(size < 1 for size in sizes):
                raise UserError(f"{name} is {sizes}: every layer needs at least 1 code.")
            object.__setattr__(self, name, sizes)
        if not 1 <= self.num_layers <= len(ascii_lowercase):
            raise UserError(f"rq_sizes {self.rq_sizes} and opq_sizes {self.opq_sizes}: a SID has 1 to 26 layers.")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes of each layer, residual layers first."""
        return self.rq_sizes + self.opq_sizes

    @property
    def num_layers(self) -> int:
        """C, the number of codes (and tokens) of one SID."""
        return len(self.sizes)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each layer's tokens begin among the `num_tokens` SID tokens."""
        return tuple(itertools.accumulate(self.sizes[:-1], initial=0))

    @property
    def num_tokens(self) -> int:
        """The number of SID tokens of all layers."""
        return sum(self.sizes)

    def tokens(self) -> list[str]:
        """All SID tokens, layer by layer: code k of layer l stands at `offsets[l] + k`."""
        return [_token(layer, code) for layer, size in enumerate(self.sizes) for code in range(size)]

    def render(self, codes: Sequence[int]) -> str:
        """Write a SID as text, e.g. `<a_7><b_0><c_3><d_1><e_9>`; a prefix of a SID gives the prefix of the text."""
        if len(codes) > self.num_layers:
            raise UserError(f"SID {tuple(codes)} has {len(codes)} codes, but this spec has {self.num_layers} layers.")
        for layer, code in enumerate(codes):
            self._check(layer, code, f"SID {tuple(codes)}")
        return "".join(_token(layer, int(code)) for layer, code in enumerate(codes))

    def parse(self, text: str) -> tuple[int, ...]:
        """Read a whole SID from text written by `render`.

        Raises:
            UserError: text beside tokens, a layer missing or out of order, or a code outside its layer.
        """
        found = _TOKEN.findall(text)
        letters = "".join(letter for letter, _ in found)
        if _TOKEN.sub("", text) or letters != ascii_lowercase[: self.num_layers]:
            example = "".join(_token(layer, 0) for layer in range(self.num_layers))
            raise UserError(f"'{text}' is no SID of this spec: it must read like '{example}'.")
        codes = tuple(int(code) for _, code in found)
        for layer, code in enumerate(codes):
            self._check(layer, code, f"'{text}'")
        return codes

    def _check(self, layer: int, code: int, where: str) -> None:
        if not 0 <= code < self.sizes[layer]:
            raise UserError(
                f"{where}: code {code} of layer '{ascii_lowercase[layer]}' is not in 0–{self.sizes[layer] - 1}."
            )


def _token(layer: int, code: int) -> str:
    return f"<{ascii_lowercase[layer]}_{code}>"
