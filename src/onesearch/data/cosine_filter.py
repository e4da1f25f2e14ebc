"""The filter over mined pairs: a pair stays when the starting encoder, before any training, finds its texts alike.

Clicks by accident and co-clicks by chance go; OneSearch keeps cosines above .6. The starting encoder must be a
pretrained one: fresh weights know nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, compress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from onesearch.artifacts import MANIFEST, verify, writing
from onesearch.data.relations import Relations
from onesearch.models.text_encoder import Pooling, PretrainedEncoder, TextEncoder
from onesearch.models.text_tokenizer import load_tokenizer


@dataclass(frozen=True)
class CosineFilter:
    """Which pairs are kept.

    Args:
        encoder: hub name or folder of the starting encoder, read with its own tokenizer and without a projection.
        min_cosine: a pair is kept whose cosine is greater.
        pooling: `cls` for BGE.
        max_length: longest text, in tokens.
    """

    encoder: str = "BAAI/bge-base-zh-v1.5"
    min_cosine: float = 0.6
    pooling: Pooling = "cls"
    max_length: int = 64

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [len(texts), width of the transformer] under the starting encoder."""
        tokenizer = load_tokenizer(self.encoder)
        transformer = PretrainedEncoder(self.encoder).build(tokenizer)
        encoder = TextEncoder(transformer, tokenizer, None, self.max_length, self.pooling)
        return encoder.to("cuda" if torch.cuda.is_available() else "cpu").embed(texts)


def alike(
    relations: Relations, item_texts: Sequence[str], embed: Callable[[Sequence[str]], Tensor], min_cosine: float
) -> dict[str, Tensor]:
    """Whether the cosine of each pair of q2i, q2q and i2i is above `min_cosine`: one [P] bool a kind.

    Args:
        relations: what was mined.
        item_texts: text of each item row, [N].
        embed: texts → unit vectors; it reads each distinct text once.
        min_cosine: exclusive.
    """
    pairs = {
        "q2i": [(query, item_texts[item]) for query, item in relations.q2i],
        "q2q": relations.q2q,
        "i2i": [(item_texts[left], item_texts[right]) for left, right in relations.i2i],
    }
    place = {text: row for row, text in enumerate(dict.fromkeys(chain(*chain(*pairs.values()))))}
    vectors = embed(list(place))
    return {
        kind: _cosines(vectors, [(place[a], place[b]) for a, b in found]) > min_cosine for kind, found in pairs.items()
    }


def _cosines(vectors: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    rows = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    # In parts: both sides of a million pairs at once are gigabytes.
    return torch.cat([(vectors[part[:, 0]] * vectors[part[:, 1]]).sum(1) for part in rows.split(65536)])


def kept(relations: Relations, masks: dict[str, Tensor]) -> Relations:
    """The relations without the pairs that `masks` (see `alike`) say no to."""
    q2i, q2q, i2i = (masks[kind].tolist() for kind in ("q2i", "q2q", "i2i"))
    return replace(
        relations,
        q2i=list(compress(relations.q2i, q2i)),
        q2q=list(compress(relations.q2q, q2q)),
        i2i=list(compress(relations.i2i, i2i)),
    )


def ensure_masks(
    run: Path, chosen: CosineFilter, relations: Relations, item_texts: Sequence[str], mining: dict[str, Any]
) -> None:
    """Write `run/encoder_pairs`, unless it stands there for this very log, filter and mining.

    One process does it for all: on another device a cosine may fall on the other side of the threshold.
    """
    folder, config = run / "encoder_pairs", {"filter": asdict(chosen), "mining": mining}
    if (folder / MANIFEST).is_file():
        manifest = verify(folder, "pairs")
        if manifest.config == config and manifest.parents == {"log": verify(run / "log", "log").fingerprint}:
            return
    masks = alike(relations, item_texts, chosen.embed, chosen.min_cosine)
    facts = {kind: {"mined": len(mask), "kept": int(mask.sum())} for kind, mask in masks.items()}
    with writing(folder, "pairs", [run / "log"], config, facts) as temporary:
        save_file(masks, temporary / "kept.safetensors")


def read_masks(run: Path) -> dict[str, Tensor]:
    """What `ensure_masks` wrote."""
    verify(run / "encoder_pairs", "pairs", [run / "log"])
    return load_file(run / "encoder_pairs" / "kept.safetensors")
