"""All kinds of codebooks: how one is read from its file, and the recipe that it was fitted by from its description."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import safe_open

from onesearch.quantize.codebook import Codebook, CodebookRecipe
from onesearch.quantize.rq_opq import RqOpq, RqOpqRecipe
from onesearch.quantize.rq_vae import RqVae, RqVaeRecipe
from onesearch.types import UserError

KINDS: dict[str, type[Codebook]] = {kind.__name__: kind for kind in (RqOpq, RqVae)}
RECIPES: dict[str, type[CodebookRecipe]] = {recipe.__name__: recipe for recipe in (RqOpqRecipe, RqVaeRecipe)}


def describe(recipe: CodebookRecipe) -> dict[str, Any]:
    """A recipe as JSON can hold it."""
    return {"class": type(recipe).__name__, **asdict(recipe)}  # type: ignore[call-overload]


def read_recipe(description: Mapping[str, Any]) -> CodebookRecipe:
    """The recipe that `describe` described."""
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in description.items()}
    kind = str(fields.pop("class"))
    return RECIPES[kind](**fields)


def load_codebook(path: Path) -> Codebook:
    """Read what `Codebook.save` wrote; it gives the same codes as the one that was saved.

    Args:
        path: a safetensors file.

    Raises:
        UserError: the file holds no codebook, or one of a kind that is not known.
    """
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        description = json.loads((file.metadata() or {}).get("codebook", "{}"))
    if description.get("class") not in KINDS:
        raise UserError(f"{path} holds no codebook that this version knows: run the quantizer stage again.")
    codebook = KINDS[description["class"]](**description["options"])
    codebook.load_state_dict(state)
    return codebook.requires_grad_(False).eval()
