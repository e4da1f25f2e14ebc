"""Training of the generator: what Lightning costs, what the restricted head saves, what the hardware gives.

    python -m benchmarks.train [--only overhead head mfu] [--rounds 3] [--json FILE] [--profile FILE]
    # pip install -e '.[cpu,bench]'

overhead  `SftStage` under Lightning as `onesearch fit` runs it (CSV logger, learning-rate schedule, clipping), beside a
          bare PyTorch loop and the Seq2SeqTrainer of transformers: the same model, batches, loss and optimizer.
head      the loss of SIDs with the head cut to each layer's slice, beside the whole vocabulary.
mfu       model FLOPs utilisation of a BART-base in bf16: FLOPs of the model on real tokens, counted by torch on one
          step, over what the device's matrix products reach in the same run and, where it is known, its published peak.
          Only on a GPU: on a CPU it is a rehearsal with a small model. `--profile` says where the time goes.

Weights and token ids are random, which changes no time. Runs take turns, each with a model of its own from the same
seed; the fastest of the rounds counts, since whatever else the machine does can only slow a round down.
"""

import argparse
import itertools
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profile_of
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.table import Row, show
from onesearch.models.generator import FreshGenerator, Generator
from onesearch.models.history_adapter import HistoryAdapter
from onesearch.sid.spec import SidSpec
from onesearch.sid.vocabulary import Vocabulary
from onesearch.stages.sft import SftStage
from onesearch.tasks.prompt import MARKERS
from onesearch.types import GeneratorBatch, PromptBatch

SPEC = SidSpec()
CLIP = 1.0
WARM_UP = 5  # steps before the clock starts
PEAK_BF16 = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12}  # dense FLOP/s, from the data sheets


class Load(NamedTuple):
    """A model and the batches that it learns from."""

    backbone: FreshGenerator
    num_text_tokens: int
    batch_size: int
    length: int  # tokens of a prompt
    num_steps: int


SMALL = FreshGenerator(hidden=128, encoder_layers=2, decoder_layers=2, dropout=0.0, max_length=256)
BART_BASE = FreshGenerator(hidden=768, encoder_layers=6, decoder_layers=6, heads=12, dropout=0.1, max_length=1024)
LOADS = {
    "batch 64 x 128 tokens": Load(SMALL, 3000, 64, 128, 20),
    "batch 4 x 16 tokens": Load(SMALL, 3000, 4, 16, 200),
}


def build(load: Load) -> Generator:
    """A generator with fresh weights, the same at each call."""
    torch.manual_seed(0)
    vocabulary = Vocabulary(load.num_text_tokens, SPEC, MARKERS)
    centroids = [torch.randn(size, 64) for size in SPEC.rq_sizes]
    adapter = HistoryAdapter(centroids, load.backbone.hidden)
    return Generator(load.backbone.build(vocabulary.size, vocabulary.num_text_tokens), vocabulary, adapter).train()


def draw_batches(load: Load, number: int) -> list[GeneratorBatch]:
    """Batches of random prompts without padding."""
    generator = torch.Generator().manual_seed(1)
    shape = load.batch_size, load.length
    batches = []
    for _ in range(number):
        tokens = torch.randint(4, load.num_text_tokens, shape, generator=generator)
        codes = [torch.randint(size, (load.batch_size,), generator=generator) for size in SPEC.sizes]
        prompt = PromptBatch(tokens, torch.ones_like(tokens), None, None, None)
        batches.append(GeneratorBatch(prompt, torch.stack(codes, 1), None))
    return batches


def loss_of(generator: Generator, batch: GeneratorBatch) -> Tensor:
    """What `SftStage.training_step` computes of a batch of SIDs."""
    assert batch.codes is not None
    return -generator.sid_log_probs(generator.encode(batch.prompt), batch.codes.unsqueeze(1)).mean()


# Three ways to run the same steps; each returns the seconds of a step.


def run_bare(load: Load) -> float:
    """A loop that does what must be done and nothing else."""
    generator, batches = build(load), draw_batches(load, load.num_steps)
    optimizer = torch.optim.AdamW(generator.parameters(), lr=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    times = []
    for batch in batches:
        optimizer.zero_grad()
        loss_of(generator, batch).backward()
        nn.utils.clip_grad_norm_(generator.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        times.append(time.perf_counter())
    return _seconds_a_step(times)


class _Clock(lightning.Callback):
    """When each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """A step, its logging included."""
        self.times.append(time.perf_counter())


class _Measured(SftStage):
    """The stage with a generator that is given to it, and nothing to hand on."""

    def on_fit_end(self) -> None:
        """No artefact."""


def run_lightning(load: Load) -> float:
    """Our stage, as `onesearch fit` runs it; checkpoints and progress bars are the peers' affair as little as ours."""
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        stage = _Measured(Path(folder), "sft", "search")
        stage.generator, stage.is_built = build(load), True
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=1,
            gradient_clip_val=CLIP,
            logger=CSVLogger(folder),
            callbacks=[clock],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        batches: Any = draw_batches(load, load.num_steps)
        trainer.fit(stage, DataLoader(batches, batch_size=None))
    return _seconds_a_step(clock.times)


class _Plain(nn.Module):
    """The generator with the signature that the Trainer of transformers wants."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, input_ids: Tensor, attention_mask: Tensor, codes: Tensor) -> dict[str, Tensor]:
        """The loss."""
        prompt = PromptBatch(input_ids, attention_mask, None, None, None)
        return {"loss": loss_of(self.generator, GeneratorBatch(prompt, codes, None))}


def run_transformers(load: Load) -> float:
    """Seq2SeqTrainer on batches that are made already."""
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    def prepared(batches: list[GeneratorBatch]) -> dict[str, Tensor]:
        (batch,) = batches
        assert batch.codes is not None
        tokens, mask = batch.prompt.input_ids, batch.prompt.attention_mask
        return {"input_ids": tokens, "attention_mask": mask, "codes": batch.codes}

    with tempfile.TemporaryDirectory() as folder:
        arguments = Seq2SeqTrainingArguments(
            folder,
            per_device_train_batch_size=1,  # each of its examples is a batch of ours
            num_train_epochs=1,
            max_grad_norm=CLIP,
            optim="adamw_torch",  # its default is the fused one, also on a CPU
            logging_steps=50,  # as often as Lightning logs
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            remove_unused_columns=False,
        )
        trainer = Seq2SeqTrainer(
            _Plain(build(load)),
            arguments,
            data_collator=prepared,
            train_dataset=draw_batches(load, load.num_steps),
            callbacks=[Clock()],
        )
        trainer.train()
    return _seconds_a_step(times)


def _seconds_a_step(times: Sequence[float]) -> float:
    """The median: a step that the machine interrupted says nothing of the loop."""
    measured = times[WARM_UP:]
    return statistics.median(after - before for before, after in itertools.pairwise(measured))


def overhead(rounds: int) -> list[Row]:
    """Lightning beside the bare loop and beside transformers."""
    ways: dict[str, Callable[[Load], float]] = {
        "ours": run_lightning,
        "a bare PyTorch loop": run_bare,
        "transformers' Seq2SeqTrainer": run_transformers,
    }
    rows = []
    for name, load in LOADS.items():
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(rounds):
            for way, run in ways.items():
                best[way] = min(best[way], 1000 * run(load))
        rows += [Row(f"step, {name}", "ms", best["ours"], best[peer], peer) for peer in list(ways)[1:]]
    return rows


# The restricted head.


def whole_head_loss(generator: Generator, batch: GeneratorBatch) -> Tensor:
    """The loss with the softmax over the whole vocabulary, as transformers' models compute it."""
    assert batch.codes is not None
    encoded = generator.encode(batch.prompt)
    tokens = generator.vocabulary.sid_tokens(batch.codes)
    start = torch.full_like(tokens[:, :1], generator.backbone.config.decoder_start_token_id)
    decoded = generator.backbone.get_decoder()(
        input_ids=torch.cat([start, tokens[:, :-1]], 1),
        encoder_hidden_states=encoded.hidden,
        encoder_attention_mask=encoded.attention_mask,
        use_cache=False,
    ).last_hidden_state
    logits = linear(decoded, generator.backbone.get_output_embeddings().weight).float()
    return nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())


def head(rounds: int) -> list[Row]:
    """Forward and backward of a batch with BART-base's vocabulary, the head restricted and not."""
    load = Load(SMALL, 50_265, 64, 64, 10)
    generator, batches = build(load), draw_batches(load, load.num_steps)
    best = {loss_of: float("inf"), whole_head_loss: float("inf")}
    for _ in range(rounds):
        for loss in best:
            times = []
            for batch in batches:
                generator.zero_grad()
                start = time.perf_counter()
                loss(generator, batch).backward()
                times.append(time.perf_counter() - start)
            best[loss] = min(best[loss], statistics.median(times))
    speed = {loss: load.batch_size / seconds for loss, seconds in best.items()}
    return [Row("head of each layer's slice", "examples/s", speed[loss_of], speed[whole_head_loss], "the whole head")]


# Model FLOPs utilisation.


def matmul_flops(device: torch.device, size: int) -> float:
    """FLOP/s that square products in bf16 reach on the device."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(20):
        start = _now(device)
        left @ right
        times.append(_now(device) - start)
    return 2.0 * size**3 / min(times)


def mfu(rounds: int, profile: Path | None = None) -> list[Row]:
    """One optimiser step in bf16, as it is and with compiled layers; `profile` gets the dearest kernels of both."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    is_gpu = device.type == "cuda"
    load = Load(BART_BASE, 50_265, 512, 128, 10) if is_gpu else Load(SMALL, 3000, 32, 64, 5)
    reached = matmul_flops(device, 8192 if is_gpu else 1024)
    name_of_gpu = torch.cuda.get_device_name() if is_gpu else ""
    published = next((peak for name, peak in PEAK_BF16.items() if name in name_of_gpu), None)
    rows, profiles = [], []
    for name in ("eager", "compiled") if is_gpu else ("eager",):
        flops, seconds, kernels = _step_in_bf16(load, device, name == "compiled", rounds, profile is not None)
        profiles.append(f"{name}\n{kernels}\n")
        speed = flops / seconds
        case = f"BART-base bf16, batch {load.batch_size} x {load.length}, {name}" if is_gpu else f"rehearsal, {name}"
        rows.append(Row(case, "TFLOP/s", speed / 1e12, reached / 1e12, "square products in bf16"))
        if published is not None:
            rows.append(Row(case, "TFLOP/s", speed / 1e12, published / 1e12, "the published peak"))
    if profile is not None:
        profile.write_text("".join(profiles), "utf-8")
    return rows


def _step_in_bf16(
    load: Load, device: torch.device, compiled: bool, rounds: int, profiled: bool
) -> tuple[float, float, str]:
    """FLOPs of one forward and backward pass, the seconds of a whole step, and the dearest kernels of three steps."""
    generator = build(load).to(device)
    optimizer = torch.optim.AdamW(generator.parameters(), lr=1e-4, fused=device.type == "cuda")
    batches = [_to(batch, device) for batch in draw_batches(load, 4)]

    def step(batch: GeneratorBatch) -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            total = loss_of(generator, batch)
        total.backward()
        nn.utils.clip_grad_norm_(generator.parameters(), CLIP)
        optimizer.step()

    with FlopCounterMode(display=False) as counter, torch.autocast(device.type, torch.bfloat16):
        loss_of(generator, batches[0]).backward()
    if compiled:
        generator.architecture.compile_layers("inductor")  # as `compile_backend` of the stage does
    for batch in batches:
        step(batch)  # compiles, and finds its kernels
    times = []
    for _ in range(rounds):
        start = _now(device)
        for number in range(load.num_steps):
            step(batches[number % len(batches)])
        times.append((_now(device) - start) / load.num_steps)
    kernels = _kernels(step, batches[:3], device) if profiled else ""
    return float(counter.get_total_flops()), min(times), kernels


def _kernels(step: Callable[[GeneratorBatch], None], batches: Sequence[GeneratorBatch], device: torch.device) -> str:
    """A table of what took longest on the device."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile_of(activities=activities) as found:
        for batch in batches:
            step(batch)
        _now(device)
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return str(found.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=80))


def _to(batch: GeneratorBatch, device: torch.device) -> GeneratorBatch:
    prompt = batch.prompt._replace(
        input_ids=batch.prompt.input_ids.to(device), attention_mask=batch.prompt.attention_mask.to(device)
    )
    assert batch.codes is not None
    return GeneratorBatch(prompt, batch.codes.to(device), None)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


CASES = {"overhead": overhead, "head": head, "mfu": mfu}


def main() -> None:
    """Run the cases that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", type=Path, help="of mfu: a text file that gets the dearest kernels")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    cases = CASES | {"mfu": partial(mfu, profile=arguments.profile)}
    rows = [row for name in arguments.only for row in cases[name](arguments.rounds)]
    show("Training of the generator", rows, arguments.json)


if __name__ == "__main__":
    main()
