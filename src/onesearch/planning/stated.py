"""What configuration files state to no effect."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from onesearch.pipeline import merged

LINKED = {
    "model.init_args.run": "--run",
    "data.init_args.run": "--run",
    **{
        f"model.init_args.{name}": f"data.init_args.{name}" for name in ("views", "template", "tokenizer", "max_length")
    },
    **{f"data.init_args.{name}": f"model.init_args.{name}" for name in ("name", "init_from")},
}
"""Options that the command line fills from others, whatever is stated for them."""

Init = Mapping[str, Any]


def _starts(model: Init, data: Init) -> bool:
    return bool(model.get("init_from"))


def _names_tokenizer(model: Init, data: Init) -> bool:
    return bool(data.get("tokenizer"))


def _always(model: Init, data: Init) -> bool:
    return True


UNREAD = (
    ("SftStage", "model", "backbone", _starts, "the model is that of 'init_from'"),
    ("SftStage", "model", "sid_init", _starts, "the model is that of 'init_from'"),
    ("SftStage", "data", "vocab_size", _starts, "the tokenizer is that of 'init_from'"),
    ("", "data", "vocab_size", _names_tokenizer, "the tokenizer is the one that is named"),
    ("LoggedDpo", "model", "preference.labels", _always, "no beam is re-sorted"),
    ("LoggedDpo", "model", "preference.sharpness", _always, "no beam is re-sorted"),
    ("LoggedDpo", "model", "preference.list_size", _always, "no beam is re-sorted"),
    ("LoggedDpo", "data", "num_judged", _always, "no beam is re-sorted"),
)
"""Stage, part, option, when nothing reads it, and why; "" is any stage."""


def dead_keys(files: Sequence[Path], parsed: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each option that a file states and nothing reads, and for each file that changes nothing.

    Args:
        files: the configuration, the last one wins.
        parsed: what the parser made of it.
    """
    for place in range(1, len(files)):
        if merged(files[: place + 1]) == merged(files[:place]):
            yield f"{files[place]} changes nothing of what {files[place - 1]} says: leave it out, or correct it."
    stated: Any = OmegaConf.to_container(merged(files))
    names = dict(_leaves(stated))
    said: set[str] = set()
    foreign: dict[str, list[str]] = {}
    for name in names:
        link = next((link for link in LINKED if name == link or name.startswith(f"{link}.")), None)
        if link is not None and link not in said:
            said.add(link)
            yield f"'{link}' is stated, but taken from '{LINKED[link]}': state it there."
        elif link is None and not _has(parsed, name):
            parent, _, option = name.rpartition(".")
            foreign.setdefault(parent, []).append(option)
    for parent, options in foreign.items():
        them = ", ".join(options)
        yield f"'{parent}' states {them}, which the class that is named there does not have: take them out."
    model, data = (parsed.get(part, {}) for part in ("model", "data"))
    inits = {"model": model.get("init_args", {}), "data": data.get("init_args", {})}
    kind = str(model.get("class_path", "")).rpartition(".")[2]
    for stage, part, option, when, why in UNREAD:
        full = f"{part}.init_args.{option}"
        is_stated = any(name == full or name.startswith(f"{full}.") for name in names)
        if stage in ("", kind) and is_stated and when(inits["model"], inits["data"]) and full not in said:
            said.add(full)
            yield f"'{full}' is stated, but nothing reads it: {why}; take it out."


def _leaves(stated: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(stated, Mapping) and stated:
        for key, value in stated.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, stated


def _has(parsed: Any, name: str) -> bool:
    for key in name.split("."):
        if not isinstance(parsed, Mapping):
            return parsed is None or not isinstance(parsed, (str, int, float, bool, list, tuple))
        if key not in parsed:
            return False
        parsed = parsed[key]
    return True
