"""What a plan warns of: one sentence each, with the way out."""

from collections.abc import Iterator, Sequence
from typing import Any

from lightning import LightningModule
from torch import nn
from transformers import PreTrainedTokenizerBase

from onesearch.log.prepared import Log
from onesearch.log.text import item_texts
from onesearch.models.generator import PretrainedGenerator
from onesearch.models.text_encoder import PretrainedEncoder
from onesearch.planning.hardware import Device
from onesearch.planning.work import Cost, Work
from onesearch.stages.dpo import DpoStage
from onesearch.stages.generation import GeneratorStage
from onesearch.stages.sft import SftStage

PAPER_BATCH = 512
"""Examples of a step with which OneSearch was trained (§5.1), at a rate of 5e-5."""

HEADROOM = 0.9
"""Share of a device's memory that is planned for: its own context and gaps between tensors take the rest."""

FRESH_RATE, TUNED_RATE = 1.0, 0.3
"""Highest usual AdamW rate times width. GPT-3's fresh models lie between .3 and .6 (arXiv 2005.14165, table 2.1),
BART-base at 5e-5 is tuned at .04 and mT5-base at 3e-4 at .23."""

LARGE = 60e6
"""Parameters of a model that nobody starts afresh on a click log: a later stage does not say how its model began."""

LOWEST_RATE = 0.01
"""Of fresh weights: below, they hardly move within an epoch."""

MOST_CUT = 0.02
"""Share of the texts that may be cut without a word."""

NUM_TEXTS = 2000
"""Texts whose length is looked at."""


def memory_advice(total: float, peak: float, device: Device, batch_size: int, options: Sequence[str]) -> Iterator[str]:
    """The batch does not fit.

    Args:
        total: bytes of the fit on a device.
        peak: bytes of it that grow with the batch.
        device: where it would run.
        batch_size: examples a batch.
        options: what else would help.
    """
    room = HEADROOM * device.memory
    if total > room:
        fits = int(0.9 * batch_size * (room - (total - peak)) / peak) if peak else 0  # some batches are longer
        way = f"set 'data.init_args.batch_size' to {fits} or less and raise 'trainer.accumulate_grad_batches'"
        way = way if fits > 0 else "the weights alone leave no room: take a smaller model or a larger device"
        more = "".join(f", or {option}" for option in options)
        sizes = f"takes {total / 1e9:.3g} GB, {device.name} has {device.memory / 1e9:.3g}"
        yield f"A batch of {batch_size} {sizes}: {way}{more}."


def ways_to_save(stage: LightningModule, precision: str) -> Iterator[str]:
    """Options that this fit does not use yet."""
    if (
        isinstance(stage, SftStage)
        and not stage.gradient_checkpointing
        and stage.generator.backbone.config.is_encoder_decoder
    ):
        yield "set 'model.init_args.gradient_checkpointing' to true"
    if precision.startswith("32"):
        yield "set 'trainer.precision' to bf16-mixed"


def batch_advice(stage: LightningModule, work: Work) -> Iterator[str]:
    """A step of another size than the paper's, or data that does not fill one."""
    if isinstance(stage, SftStage | DpoStage) and not 0.5 <= work.global_batch / PAPER_BATCH <= 2:
        yield (
            f"A step has {work.global_batch:,} examples, the paper's {PAPER_BATCH}: set "
            "'trainer.accumulate_grad_batches' or the batch size so that batch × devices × accumulation comes near it, "
            "or scale the learning rate."
        )
    if 0 < work.samples < work.global_batch:
        yield f"An epoch has {work.samples:,} samples, less than a step's {work.global_batch:,}: lower the batch size."
    if work.steps is None:
        yield "The trainer names no end: set 'trainer.max_epochs' or 'trainer.max_steps'."


def rate_advice(stage: LightningModule, num_parameters: int) -> Iterator[str]:
    """A learning rate of another scale than models of this width are trained with."""
    width = _width(stage)
    rate = getattr(getattr(stage, "optimization", None), "lr", None)
    if width is None or rate is None:
        return
    tuned = (
        isinstance(getattr(stage, "backbone", None), PretrainedGenerator | PretrainedEncoder) or num_parameters > LARGE
    )
    highest = (TUNED_RATE if tuned else FRESH_RATE) / width
    kind = "pretrained weights" if tuned else "weights"
    if rate > highest:
        yield (
            f"The learning rate {rate:g} is high for {kind} of width {width}, where {highest:.1g} is the most that is "
            "usual: lower 'model.init_args.optimization.lr'."
        )
    starts = getattr(stage, "init_from", None) is None
    if starts and not tuned and rate < LOWEST_RATE / width:
        yield (
            f"The learning rate {rate:g} hardly moves fresh weights of width {width}: raise "
            f"'model.init_args.optimization.lr' towards {0.3 / width:.1g}."
        )


def _width(stage: nn.Module) -> int | None:
    """H of the transformer that is trained; None: there is none."""
    for part in stage.modules():
        config = getattr(part, "config", None)
        if width := getattr(config, "hidden_size", None):
            return int(width)
    return None


def length_advice(stage: LightningModule, data: Any, log: Log, cost: Cost) -> Iterator[str]:
    """Texts that are cut, and prompts that the model has no positions for."""
    generator = getattr(stage, "generator", None)
    positions = getattr(generator, "max_length", None)
    if positions is not None and cost.longest > positions:
        yield (
            f"A prompt has {cost.longest} tokens, the backbone reads {positions}: show less in 'data.init_args.views', "
            "or take a backbone with more positions."
        )
    tokenizer = _tokenizer(stage)
    if tokenizer is None:
        return
    queries: list[str] = log.queries["query"].to_pylist()
    texts, option = {"queries": queries}, "'data.init_args.views.max_text'"
    if isinstance(stage, GeneratorStage):
        most = stage.views.max_text
        if not hasattr(data, "views"):
            option = f"'views.max_text' of {data.init_from}, which wrote these prompts first"
    else:
        most, option = int(data.max_length), "'data.init_args.max_length'"
        texts |= {"items' texts": item_texts(log.items)}
    for name, found in texts.items():
        some = found[:: max(1, len(found) // NUM_TEXTS)][:NUM_TEXTS]
        longer = sum(len(ids) > most for ids in tokenizer(some, add_special_tokens=False)["input_ids"]) if some else 0
        if longer > MOST_CUT * len(some):
            yield f"{longer / len(some):.0%} of the {name} have more than {most} tokens and are cut: raise {option}."


def _tokenizer(stage: nn.Module) -> PreTrainedTokenizerBase | None:
    for holder in (stage, getattr(stage, "encoder", None), getattr(stage, "tagger", None)):
        found = getattr(holder, "tokenizer", None)
        if isinstance(found, PreTrainedTokenizerBase):
            return found
    return None


def disk_advice(needed: int, free: int, folder: Any, each: int) -> Iterator[str]:
    """No room for the checkpoints."""
    if needed > free:
        yield (
            f"{folder} has {free / 1e9:.1f} GB free, the checkpoints take {needed / 1e9:.1f} ({each / 1e9:.1f} each): "
            "free some, keep fewer ('save_top_k' of ModelCheckpoint), or name another disk with '--run'."
        )
