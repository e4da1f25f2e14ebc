"""A plan as tables."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

COLUMNS = ("parameters", "trained", "weights", "gradients", "optimizer")


def show(found: Mapping[str, Any], console: Console | None = None) -> None:
    """Print a plan on one screen, its warnings last."""
    out = console or Console(markup=False, highlight=False)
    device = found["device"]
    memory = f", {_size(device['memory'])}" if device["memory"] else ""
    peak = f", {device['peak'] / 1e12:.0f} TFLOP/s" if device["peak"] else ""
    where = f"{device['processes']} × {device['name']}{memory}{peak}, {device['precision']}"
    out.print(f"{found['stage']} ({found['class']}) in {found['run']} on {where}", style="bold")
    if "parts" in found:
        out.print(_parts(found))
        out.print(_facts(found))
    for note in found["notes"]:
        out.print(note, style="dim")
    for warning in found["warnings"]:
        out.print(f"• {warning}", style="yellow")
    if not found["warnings"]:
        out.print("Nothing to warn of.", style="green")


def _parts(found: Mapping[str, Any]) -> Table:
    """A line a part, then what does not belong to one."""
    table = _table("part", *COLUMNS)
    for name, part in found["parts"].items():
        counts = [f"{part[column]:,}" for column in COLUMNS[:2]]
        table.add_row(name, *counts, *(_size(part[column]) for column in COLUMNS[2:]))
    whole = {column: sum(part[column] for part in found["parts"].values()) for column in COLUMNS}
    table.add_section()
    counts = [f"{whole[column]:,}" for column in COLUMNS[:2]]
    table.add_row("all parts", *counts, *(_size(whole[column]) for column in COLUMNS[2:]))
    return table


def _facts(found: Mapping[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name in ("what", "how much"):
        table.add_column(name, no_wrap=name == "what")
    memory, work, kept = found["memory"], found["work"], found["checkpoints"]
    for name in ("buffers", "averaged weights", "gradients sent (DDP)"):
        if memory[name]:
            table.add_row(name, _size(memory[name]))
    if memory["step"]:
        table.add_row(
            "activations", f"{_size(memory['step'])} at most ({_size(memory['kept'])} kept for the backward pass)"
        )
    table.add_row("memory a device", f"{_size(memory['total'])} of {_size(found['device']['memory'])}")
    kinds = {kind: number for kind, number in work["batches"].items() if kind != "all"}
    of_kinds = f" ({', '.join(f'{number:,} {kind}' for kind, number in kinds.items())})" if kinds else ""
    table.add_row(
        "samples an epoch", f"{work['samples']:,} in {sum(work['batches'].values()):,} batches a device{of_kinds}"
    )
    steps = "no end" if work["steps"] is None else f"{work['steps']:,}"
    table.add_row(
        "optimizer steps" if memory["optimizer"] else "steps", f"{steps} of {work['global_batch']:,} examples"
    )
    if "flops" in found:
        _add_flops(table, found["flops"], found["device"])
    sizes = f"{kept['number']} of {_size(kept['bytes'])}" if kept["number"] else "none"
    table.add_row("checkpoints", f"{sizes}; {_size(kept['needed'])} needed with the result, {_size(kept['free'])} free")
    return table


def _add_flops(table: Table, flops: Mapping[str, Any], device: Mapping[str, Any]) -> None:
    padding = 1 - flops["tokens"] / flops["positions"] if flops["positions"] else 0
    read = f", {flops['tokens']:,.0f} tokens read, padding {padding:.0%}" if flops["positions"] else ""
    table.add_row("FLOPs a batch", f"{_count(flops['batch'])}{read}")
    table.add_row("", flops["formula"])
    if flops["all"] is not None:
        table.add_row("FLOPs in all", _count(flops["all"]))
    if flops["seconds"] is not None:
        told = f"at {flops['mfu']:.0%} of {device['peak'] / 1e12:.0f} TFLOP/s"
        if flops["waits_for_launches"]:
            told = f"or more: a step this small waits for its {flops['operations']:,.0f} operations to be started"
        table.add_row("time", f"{_time(flops['seconds'])} {told}; validation and waiting for data are not in it")
    elif flops["all"] is not None:
        table.add_row("time", "unknown: say '--gpu' or '--peak_tflops'")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    return table


def _size(number: float) -> str:
    return _scaled(number, 1000, ("B", "kB", "MB", "GB", "TB"))


def _count(number: float) -> str:
    return _scaled(number, 1000, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP", "ZFLOP"))


def _scaled(number: float, base: int, units: tuple[str, ...]) -> str:
    place = 0
    while number >= base and place < len(units) - 1:
        number, place = number / base, place + 1
    return f"{number:.3g} {units[place]}" if number < 100 else f"{number:.0f} {units[place]}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
