"""All kinds of codebooks, and how one is read from its file."""

import json
from pathlib import Path

from safetensors import safe_open

from onesearch.quantize.codebook import Codebook
from onesearch.quantize.rq_opq import RqOpq
from onesearch.quantize.rq_vae import RqVae
from onesearch.types import UserError

KINDS: dict[str, type[Codebook]] = {kind.__name__: kind for kind in (RqOpq, RqVae)}


def load_codebook(path: Path) -> Codebook:
    """Read what `Codebook.save` wrote; it gives the same codes as the one that was saved.

    Raises:
        UserError: the file holds no codebook, or one of a kind that is not known.
    """
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        metadata = file.metadata() or {}
    if metadata.get("class") not in KINDS:
        raise UserError(f"{path} holds no codebook that this version knows: run the quantizer stage again.")
    codebook = KINDS[metadata["class"]](**json.loads(metadata["options"]))
    codebook.load_state_dict(state)
    return codebook.requires_grad_(False).eval()
