"""What a stage's model is made of, in parameters and bytes; a parameter counts once, in the first part that has it.

AdamW keeps two moments of each trained parameter, in its type, and a step of 4 bytes beside them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from onesearch.models.generator import Generator
from onesearch.models.reward import RewardModel
from onesearch.models.reward_towers import Towers
from onesearch.models.tagger import Tagger
from onesearch.models.text_encoder import TextEncoder

ADAMW_STEP = 4  # bytes


@dataclass
class Part:
    """One part of a model; sizes in bytes.

    Args:
        parameters: all of them.
        trained: those that the optimizer changes.
        weights: what all of them take.
        gradients: of the trained ones.
        optimizer: AdamW's state.
    """

    parameters: int = 0
    trained: int = 0
    weights: int = 0
    gradients: int = 0
    optimizer: int = 0

    def add(self, weight: Tensor, learns: bool) -> None:
        """Count a parameter."""
        self.parameters += weight.numel()
        self.weights += weight.nbytes
        if learns and weight.requires_grad:
            self.trained += weight.numel()
            self.gradients += weight.nbytes
            self.optimizer += 2 * weight.nbytes + ADAMW_STEP


def parts_of(stage: nn.Module, learns: bool = True) -> dict[str, Part]:
    """The parts of a stage that is built.

    Args:
        stage: or any module of ours.
        learns: whether an optimizer changes its parameters.
    """
    found: dict[str, Part] = {}
    counted: set[int] = set()
    for name, weights in [*_named(stage), ("others", stage.parameters())]:
        for weight in weights:
            if id(weight) not in counted:
                counted.add(id(weight))
                found.setdefault(name, Part()).add(weight, learns)
    return found


def resident_buffers(stage: nn.Module) -> int:
    """Bytes of what lies beside the weights on the device and is not learnt."""
    return sum(buffer.nbytes for buffer in stage.buffers())


def _named(module: nn.Module) -> Iterator[tuple[str, Iterator[nn.Parameter]]]:
    """The parts with names, those that would be counted within others first."""
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            yield "embeddings", part.parameters()
    for part in module.modules():
        match part:
            case Generator():
                yield from _of_generator(part)
            case Tagger():
                yield "encoder", part.transformer.parameters()
                yield "head", part.head.parameters()
            case TextEncoder():
                yield "encoder", part.transformer.parameters()
                yield "projection", part.parameters()
            case Towers():
                for name, child in part.named_children():
                    yield _TOWER_PARTS.get(name, name), child.parameters()
            case RewardModel():
                yield "relevance", part.relevance.parameters()


def _of_generator(generator: Generator) -> Iterator[tuple[str, Iterator[nn.Parameter]]]:
    backbone = generator.backbone
    yield "head", backbone.get_output_embeddings().parameters()  # where it is not the embeddings once more
    if backbone.config.is_encoder_decoder:
        yield "encoder", backbone.get_encoder().parameters()
        yield "decoder", backbone.get_decoder().parameters()
    else:
        yield "decoder", backbone.base_model.parameters()
    yield "adapter", generator.adapter.parameters()
    if generator.copier is not None:
        yield "copier", generator.copier.parameters()


_TOWER_PARTS = {"search_side": "search side", "item_side": "item side", "shared": "shared layers"}


def total(parts: dict[str, Part]) -> Part:
    """All of them together."""
    sums: Counter[str] = Counter()
    for part in parts.values():
        sums.update(vars(part))
    return Part(**sums)
