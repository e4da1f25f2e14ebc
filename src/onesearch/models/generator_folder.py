"""A generator as a folder: the backbone as transformers writes it, tokenizer, adapter and settings beside it.

`sid_tokenizer/` is for plain transformers, nothing of ours reads it.
"""

import json
import warnings
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedTokenizerBase

from onesearch.models.copier import Copier
from onesearch.models.generator import Generator
from onesearch.models.history_adapter import HistoryAdapter
from onesearch.models.pretrained import open_backbone
from onesearch.models.sid_tokenizer import with_sids
from onesearch.models.text_tokenizer import load_tokenizer
from onesearch.sid.spec import SidSpec
from onesearch.sid.vocabulary import Vocabulary
from onesearch.types import UserError


def save_generator(
    folder: Path, generator: Generator, tokenizer: PreTrainedTokenizerBase, settings: dict[str, Any]
) -> None:
    """Write a generator; `settings` holds what else its prompts need to be written as in training."""
    generator.backbone.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _save_sid_tokenizer(folder / "sid_tokenizer", tokenizer, generator.vocabulary)
    _save(generator.adapter, folder / "adapter.safetensors")
    if generator.copier is not None:
        _save(generator.copier, folder / "copier.safetensors")
    spec, adapter = generator.vocabulary.spec, generator.adapter
    description = {
        "num_text_tokens": generator.vocabulary.num_text_tokens,
        "rq_sizes": spec.rq_sizes,
        "opq_sizes": spec.opq_sizes,
        "markers": generator.vocabulary.markers,
        "adapter": {"num_queries": adapter.num_queries, "num_heads": adapter.num_heads},
        "settings": settings,
    }
    (folder / "generator.json").write_text(json.dumps(description, indent=1), "utf-8")


def _save_sid_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> None:
    knowing = with_sids(tokenizer, vocabulary)
    if knowing is None:  # no reason to lose what was trained
        warnings.warn(
            f"{folder} is not written: the tokenizer has tokens of its own where SIDs and markers belong, or of their "
            "names. Search and training do not need it.",
            stacklevel=3,
        )
        return
    knowing.save_pretrained(folder)


def _save(module: nn.Module, path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, path)


def load_settings(folder: Path) -> dict[str, Any]:
    """The settings alone."""
    settings: dict[str, Any] = json.loads((folder / "generator.json").read_text("utf-8"))["settings"]
    return settings


def load_generator(folder: Path, markers: tuple[str, ...]) -> tuple[Generator, PreTrainedTokenizerBase, dict[str, Any]]:
    """Read what `save_generator` wrote: generator in evaluation mode, tokenizer, settings.

    Raises:
        UserError: it was trained on prompts with other markers than those that are written now.
    """
    description = json.loads((folder / "generator.json").read_text("utf-8"))
    if tuple(description["markers"]) != markers:
        raise UserError(
            f"{folder} was trained by another version of onesearch, with other markers in its prompts: train "
            f"'{folder.name}' again."
        )
    spec = SidSpec(tuple(description["rq_sizes"]), tuple(description["opq_sizes"]))
    vocabulary = Vocabulary(description["num_text_tokens"], spec, tuple(description["markers"]))
    backbone = open_backbone(folder)
    state = load_file(folder / "adapter.safetensors")
    num_levels = sum(name.startswith("centroids_") for name in state)
    centroids = [state[f"centroids_{level}"][:-1] for level in range(num_levels)]
    adapter = HistoryAdapter(centroids, backbone.config.hidden_size, **description["adapter"])
    adapter.load_state_dict(state)
    copier = None
    if (folder / "copier.safetensors").exists():
        weights = load_file(folder / "copier.safetensors")
        copier = Copier(backbone.config.hidden_size, len(weights["place.weight"]))
        copier.load_state_dict(weights)
    return Generator(backbone, vocabulary, adapter, copier).eval(), load_tokenizer(folder), description["settings"]
