"""One training step of list-wise DPO beside the naive one, with 1 chosen and 7 rejected items a list.

    python -m benchmarks.dpo [--batches 8 32] [--decoder-only] [--rounds 3] [--json FILE]
    # pip install -e '.[cpu,bench]'

ours   the prompt is read once a list, the candidates are packed behind it, the heads are cut to a layer's slice, the
       reference's log-probabilities were computed beforehand (as `onesearch predict` leaves them)
naive  as preference trainers do it: prompt and candidate written out for each of the 8, one batch of all, the whole
       vocabulary's logits, and the same once more for a reference model, without gradients

Both take the same optimizer step on the same lists from the same weights, and must come to the same loss. Weights and
tokens are random, which changes no time. A measurement has a process of its own; they take turns, and the fastest of
the rounds counts. Memory is what a process holds at most beyond what it held before its first step, with model (naive:
both), gradients and the optimizer's state already there.
"""

import argparse
import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.table import Row, show
from onesearch.losses import listwise_preference
from onesearch.models.generator import FreshDecoder, FreshGenerator, Generator, GeneratorBackbone
from onesearch.models.history_adapter import HistoryAdapter
from onesearch.sid.spec import SidSpec
from onesearch.sid.vocabulary import Vocabulary
from onesearch.tasks.prompt import MARKERS
from onesearch.types import PromptBatch

SPEC = SidSpec()
NUM_CANDIDATES = 8  # the chosen one first
LENGTH = 128  # tokens of a prompt
NUM_TEXT_TOKENS = 8000
NUM_STEPS = 2  # beside the first
HIDDEN = 256
BACKBONES: dict[str, GeneratorBackbone] = {
    "encoder-decoder": FreshGenerator(HIDDEN, dropout=0.0),
    "decoder-only": FreshDecoder(HIDDEN, dropout=0.0),
}


class Lists(NamedTuple):
    """Random preference lists."""

    prompts: Tensor  # [B, L]
    codes: Tensor  # [B, 1 + X, C]
    weights: Tensor  # [B, X]


class Run(NamedTuple):
    """What one process measured."""

    loss: float  # of the first step
    seconds: float  # the fastest step
    cpu_seconds: float  # of the step that took the fewest; on a busy machine it says more than the clock
    megabytes: float


def build(backbone: GeneratorBackbone) -> tuple[Generator, Generator]:
    """Policy and reference, a little apart, the same at each call."""
    torch.manual_seed(0)
    vocabulary = Vocabulary(NUM_TEXT_TOKENS, SPEC, MARKERS)
    centroids = [torch.randn(size, 64) for size in SPEC.rq_sizes]
    model = backbone.build(vocabulary.size, vocabulary.num_text_tokens)
    reference = Generator(model, vocabulary, HistoryAdapter(centroids, HIDDEN)).eval()
    policy = copy.deepcopy(reference)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(0.01 * weight.std(correction=0) * torch.randn_like(weight))
    return policy, reference.requires_grad_(False)


def draw(batch_size: int) -> Lists:
    """Lists without padding."""
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randint(4, NUM_TEXT_TOKENS, (batch_size, LENGTH), generator=generator)
    shape = batch_size, NUM_CANDIDATES
    codes = torch.stack([torch.randint(size, shape, generator=generator) for size in SPEC.sizes], -1)
    return Lists(prompts, codes, 3 * torch.rand(batch_size, NUM_CANDIDATES - 1, generator=generator))


def loss_of(policy: Tensor, reference: Tensor, lists: Lists) -> Tensor:
    """From log-probabilities [B, 1 + X], the anchor with α = 0.1."""
    everything = torch.ones_like(lists.weights, dtype=torch.bool)
    parts = (policy[:, 0], policy[:, 1:], reference[:, 0], reference[:, 1:], lists.weights, everything)
    return (listwise_preference(*parts) - 0.1 * policy[:, 0]).mean()


# Ours.


def log_probs(generator: Generator, lists: Lists) -> Tensor:
    """As `DpoStage` computes them, [B, 1 + X]."""
    prompt = PromptBatch(lists.prompts, torch.ones_like(lists.prompts), None, None, None)
    return generator.sid_log_probs(generator.encode(prompt), lists.codes).sum(-1)


# The naive way.


def written_out(generator: Generator, lists: Lists) -> Tensor:
    """Prompt and candidate, B·(1 + X) rows of one batch, with the whole model's logits; [B, 1 + X].

    Only the normaliser is ours, the layer's slice of these logits: else the losses would be two different ones.
    """
    tokens = generator.vocabulary.sid_tokens(lists.codes).flatten(0, 1)
    prompts = lists.prompts.repeat_interleave(NUM_CANDIDATES, 0)
    answers = torch.cat([torch.full_like(tokens[:, :1], generator.architecture.start_token), tokens[:, :-1]], 1)
    if generator.backbone.config.is_encoder_decoder:
        logits = generator.backbone(input_ids=prompts, decoder_input_ids=answers, use_cache=False).logits
    else:
        logits = generator.backbone(input_ids=torch.cat([prompts, answers], 1), use_cache=False).logits[:, LENGTH:]
    logs = []
    for level, codes in enumerate(lists.codes.flatten(0, 1).unbind(-1)):
        of_level = logits[:, level, generator.vocabulary.level_slice(level)].log_softmax(-1)
        logs.append(of_level.gather(-1, codes[:, None]))
    return torch.cat(logs, 1).sum(1).view(lists.codes.shape[:2])


def step(
    policy: Generator, optimizer: torch.optim.Optimizer, lists: Lists, way: str, reference: Callable[[], Tensor]
) -> float:
    """A training step; the reference's log-probabilities are looked up, or computed by its model."""
    optimizer.zero_grad(set_to_none=False)
    of_reference = reference()
    loss = loss_of((log_probs if way == "ours" else written_out)(policy, lists), of_reference, lists)
    loss.backward()
    nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def measure(way: str, kind: str, batch_size: int) -> Run:
    """Memory of the first steps, and the time of the fastest that follows."""
    policy, model = build(BACKBONES[kind])
    lists = draw(batch_size)
    with torch.no_grad():
        one_by_one = [Lists(*(part[row : row + 1] for part in lists)) for row in range(batch_size)]
        known = torch.cat([log_probs(model, one) for one in one_by_one])

    def look_up() -> Tensor:
        return known

    @torch.no_grad()
    def compute() -> Tensor:
        return written_out(model, lists)

    reference = look_up if way == "ours" else compute
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.0)
    for weight in policy.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()  # its state is the model's affair
    before = _reset_peak()
    run = partial(step, policy, optimizer, lists, way, reference)
    loss, times, of_cpu = run(), [], []
    for _ in range(NUM_STEPS):
        start, cpu = time.perf_counter(), time.process_time()
        run()
        times.append(time.perf_counter() - start)
        of_cpu.append(time.process_time() - cpu)
    return Run(loss, min(times), min(of_cpu), _megabytes("VmHWM") - before)


def _reset_peak() -> float:
    """Let the peak begin at what is held now, which is returned."""
    Path("/proc/self/clear_refs").write_text("5", "utf-8")
    return _megabytes("VmRSS")


def _megabytes(name: str) -> float:
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


def compare(kind: str, batch_size: int, rounds: int) -> list[Row]:
    """Both ways in turn, each in a process of its own."""
    runs: dict[str, list[Run]] = {"ours": [], "naive": []}
    for _ in range(rounds):
        for way, taken in runs.items():
            command = [sys.executable, "-m", "benchmarks.dpo", "--run", way, kind, str(batch_size)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            taken.append(Run(*json.loads(output.splitlines()[-1])))
            print(kind, batch_size, way, taken[-1], file=sys.stderr, flush=True)
    best = {
        way: Run(taken[0].loss, *(min(getattr(run, name) for run in taken) for name in Run._fields[1:]))
        for way, taken in runs.items()
    }
    ours, naive = best["ours"], best["naive"]
    case, peer = f"{kind}, batch {batch_size}", "prompt and candidate written out"
    if abs(ours.loss - naive.loss) > 1e-5:
        raise SystemExit(f"{case}: the losses {ours.loss} and {naive.loss} differ by more than 1e-5.")
    return [
        Row(case, "ms a step", 1000 * ours.seconds, 1000 * naive.seconds, peer),
        Row(case, "CPU ms a step", 1000 * ours.cpu_seconds, 1000 * naive.cpu_seconds, peer),
        Row(case, "MB above the model", ours.megabytes, naive.megabytes, peer),
        Row(case, "loss", ours.loss, naive.loss, peer),
    ]


def main() -> None:
    """Run the comparisons that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--decoder-only", action="store_true", help="a decoder alone, too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        way, kind, batch_size = arguments.run
        print(json.dumps(measure(way, kind, int(batch_size))))
        return
    kinds = list(BACKBONES) if arguments.decoder_only else ["encoder-decoder"]
    rows = [row for kind in kinds for size in arguments.batches for row in compare(kind, size, arguments.rounds)]
    show("A training step of list-wise DPO", rows, arguments.json)


if __name__ == "__main__":
    main()
