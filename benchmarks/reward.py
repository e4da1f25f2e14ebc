"""The reward model: what SIM's search saves at long histories, and what it adds on a run.

    python -m benchmarks.reward [--rounds 5] [--json FILE]                     # a search unit beside none
    python -m benchmarks.reward --run runs/demo --recipe configs/demo [--seeds 2] [--beside oracle=FILE] [--json FILE]

Without a run: histories of 1,000 behaviours, 20 candidates, drawn so that a few behaviours long ago decide (see
`draw`). SIM's unit (search, gather, attention to 20 picks) stands beside the same attention over all behaviours, keys
and values projected once a search. `step` is forward and backward of the unit, search included, `infer` forward alone;
best of the rounds, 32 searches, one thread, the processor's time. AUC is of click predictions from either unit, trained
alike, on 960 new searches.

With one: SIM, DIN, DNN, DCN V2 and popularity are trained on the run's log by `onesearch fit` with each seed and judged
by `onesearch test`, in a folder of their own with links to log, encoder and quantizer; nothing of the run is changed.
`--beside NAME=FILE` adds a row from a file of the form of RUN/reward_test.json, such as what the rates that a simulated
marketplace drew its clicks from would reach.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize, scaled_dot_product_attention

from benchmarks.table import Row, show
from onesearch.main import main as onesearch
from onesearch.models.reward_features import NUM_TIME_GAPS, RewardInput
from onesearch.models.reward_search import NOTHING, ExactSearch, nearest

LENGTH, CANDIDATES, WIDTH, HIDDEN, HEADS, PICKS, BATCH = 1000, 20, 64, 64, 4, 20, 32
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ARCHITECTURES = ("sim", "din", "dnn", "dcnv2", "popularity")
TOWERS, FIGURES = ("ctr", "cvr", "ctcvr"), ("auc", "gauc", "ece")


class Drawn(NamedTuple):
    """Searches with what was clicked."""

    inputs: RewardInput
    clicked: Tensor  # [B, X]


def draw(num: int, generator: torch.Generator) -> Drawn:
    """Behaviours of 200 kinds, each an embedding with noise; a click depends on how many are of its kind, and when.

    log-odds of a click = −3 + 1.2·min(5, Σ over behaviours of its kind of 1 where the gap is short, .4 where long)
    """
    kinds = normalize(torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(1)), dim=-1)

    def vectors(kind: Tensor) -> Tensor:
        return normalize(kinds[kind] + 0.05 * torch.randn(*kind.shape, WIDTH, generator=generator), dim=-1)

    of_history = torch.randint(0, 200, (num, LENGTH), generator=generator)
    # A shopper knows some kinds well and most not at all.
    of_history = torch.where(torch.rand(num, LENGTH, generator=generator) < 0.5, of_history % 40, of_history)
    of_item = torch.randint(0, 200, (num, CANDIDATES), generator=generator)
    gap = torch.randint(0, NUM_TIME_GAPS - 1, (num, LENGTH), generator=generator)
    same = of_item[..., None] == of_history[:, None]
    worth = (same * torch.where(gap < 6, 1.0, 0.4)[:, None]).sum(-1).clamp(max=5)
    clicked = torch.rand(worth.shape, generator=generator) < (1.2 * worth - 3).sigmoid()
    history, items = vectors(of_history), vectors(of_item)
    fields: dict[str, Any] = dict.fromkeys(RewardInput._fields, torch.empty(0))
    fields |= {"item": items, "long": history, "long_gap": gap, "long_mask": torch.ones(num, LENGTH, dtype=torch.bool)}
    return Drawn(RewardInput(**fields), clicked.float())


class Searched(nn.Module):
    """SIM's unit."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = ExactSearch(WIDTH, HIDDEN, HEADS)

    def forward(self, inputs: RewardInput) -> Tensor:
        """What the history says of each candidate, [B, X, H]."""
        with torch.no_grad():
            scores, positions = nearest(inputs, PICKS)
        attended: Tensor = self.attention(inputs, positions, scores > NOTHING)
        return attended


class Whole(nn.Module):
    """The same attention over all behaviours."""

    def __init__(self) -> None:
        super().__init__()
        self.candidate = nn.Linear(WIDTH, HIDDEN)
        self.behavior = nn.Linear(WIDTH, 2 * HIDDEN)
        self.gap = nn.Embedding(NUM_TIME_GAPS, 2 * HIDDEN)

    def forward(self, inputs: RewardInput) -> Tensor:
        """What the history says of each candidate, [B, X, H]."""
        behaviors = self.behavior(inputs.long) + self.gap(inputs.long_gap)
        key, value = (self._split(part) for part in behaviors.chunk(2, dim=-1))
        mask = inputs.long_mask[:, None, None].expand(-1, 1, inputs.item.shape[1], -1)
        attended = scaled_dot_product_attention(self._split(self.candidate(inputs.item)), key, value, attn_mask=mask)
        return attended.transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], HEADS, -1).transpose(1, 2)


UNITS: dict[str, Callable[[], nn.Module]] = {"SIM": Searched, "attention over all": Whole}


class Clicks(nn.Module):
    """A click from what a unit says of the history, and from the largest cosine, which either knows."""

    def __init__(self, unit: nn.Module) -> None:
        super().__init__()
        self.unit = unit
        self.tower = nn.Sequential(nn.Linear(HIDDEN + WIDTH, 64), nn.GELU(), nn.Linear(64, 1))

    def forward(self, inputs: RewardInput) -> Tensor:
        """Logits [B, X]."""
        logits: Tensor = self.tower(torch.cat([self.unit(inputs), inputs.item], dim=-1)).squeeze(-1)
        return logits


def measure_units(rounds: int) -> list[Row]:
    """Time and AUC."""
    batch = draw(BATCH, torch.Generator().manual_seed(0)).inputs
    times: dict[str, dict[str, float]] = {name: {} for name in UNITS}
    built = {name: make() for name, make in UNITS.items()}
    for _ in range(rounds):
        for name, unit in built.items():
            for kind, work in {"step": _step(unit, batch), "infer": _infer(unit, batch)}.items():
                times[name][kind] = min(times[name].get(kind, 1e9), _milliseconds(work))
    auc = {name: _auc(make) for name, make in UNITS.items()}
    ours, peer = UNITS
    case = f"T = {LENGTH}, X = {CANDIDATES}, k = {PICKS}"
    rows = [Row(case, f"{kind}, CPU ms", times[ours][kind], times[peer][kind], peer) for kind in ("step", "infer")]
    return [*rows, Row(case, "AUC", auc[ours], auc[peer], peer)]


def _step(unit: nn.Module, batch: RewardInput) -> Callable[[], Any]:
    def work() -> None:
        unit(batch).sum().backward()

    return work


def _infer(unit: nn.Module, batch: RewardInput) -> Callable[[], Any]:
    def work() -> None:
        with torch.inference_mode():
            unit(batch)

    return work


def _milliseconds(work: Callable[[], Any], times: int = 5) -> float:
    work()
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times * 1e3


def _auc(make: Callable[[], nn.Module], num_steps: int = 400) -> float:
    """On 960 searches that were not learnt from."""
    torch.manual_seed(0)
    model, generator = Clicks(make()), torch.Generator().manual_seed(2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    for _ in range(num_steps):
        batch = draw(BATCH, generator)
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(model(batch.inputs), batch.clicked).backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.inference_mode():
        tested = [draw(BATCH, generator) for _ in range(30)]
        scores = torch.cat([model(batch.inputs).flatten() for batch in tested])
    return float(roc_auc_score(torch.cat([batch.clicked.flatten() for batch in tested]), scores))


# On a run.


def measure_run(run: Path, recipe: Path | None, seeds: int, beside: dict[str, Path]) -> dict[str, list[dict[str, Any]]]:
    """The figures of `onesearch test` by architecture, one a seed; then those of the files beside."""
    found: dict[str, list[dict[str, Any]]] = {}
    for architecture in ARCHITECTURES:
        for seed in range(seeds if architecture != "popularity" else 1):
            found.setdefault(architecture, []).append(_fit_and_test(run, recipe, architecture, seed))
    return found | {name: [json.loads(path.read_text("utf-8"))["towers"]] for name, path in beside.items()}


def _fit_and_test(run: Path, recipe: Path | None, architecture: str, seed: int) -> dict[str, Any]:
    files = [CONFIGS / "reward.yaml", *([recipe / "reward.yaml"] if recipe else [])]
    files += [CONFIGS / "reward_baselines" / f"{architecture}.yaml"] if architecture != "sim" else []
    configs = [argument for file in files for argument in ("-c", str(file))]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("log", "encoder", "quantizer"):
            (Path(folder) / name).symlink_to((run / name).resolve())
        given = ["--run", folder, "--seed_everything", str(seed), "--data.init_args.seed", str(seed)]
        for verb in ("fit", "test"):
            onesearch([verb, *configs, *given, "--trainer.enable_progress_bar", "false"])
        name = "reward" if architecture == "sim" else f"reward_{architecture}"
        towers: dict[str, Any] = json.loads((Path(folder) / f"{name}_test.json").read_text("utf-8"))["towers"]
    return towers


def show_run(found: dict[str, list[dict[str, Any]]], json_path: Path | None) -> None:
    """A row an architecture: means over the seeds."""
    table = Table("", *(f"{tower} {figure}" for tower in TOWERS for figure in FIGURES), title="Test split")
    for name, runs in found.items():
        cells = [[towers.get(tower, {}).get(figure) for towers in runs] for tower in TOWERS for figure in FIGURES]
        table.add_row(name, *(f"{statistics.mean(cell):.4f}" if None not in cell else "" for cell in cells))
    Console(width=140).print(table)
    if json_path is not None:
        json_path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--recipe", type=Path, help="whose reward.yaml is laid over configs/reward.yaml")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--beside", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.run is not None:
        beside = {name: Path(path) for name, _, path in (pair.partition("=") for pair in arguments.beside)}
        show_run(measure_run(arguments.run, arguments.recipe, arguments.seeds, beside), arguments.json)
        return
    torch.set_num_threads(1)
    show("SIM beside attention over all, one thread", measure_units(arguments.rounds), arguments.json)


if __name__ == "__main__":
    main()
