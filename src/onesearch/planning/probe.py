"""A training step that computes nothing: its FLOPs and its memory, on a machine of any size.

The stage's own `training_step` and the backward pass run on torch's fake tensors, which have a shape, a type and a
lifetime, but no content.

    FLOPs        Σ 2·m·k·n over all matrix products, attention's too, forward and backward, padding included
                 (`torch.utils.flop_counter`); for a transformer close to 6 · parameters · tokens
    kept         bytes that autograd keeps for the backward pass, weights and buffers not counted
    peak         most bytes that the step has allocated at once: what is kept, and whatever comes and goes
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count


class Step(NamedTuple):
    """What one batch takes, forward and backward."""

    flops: int
    kept: int  # bytes
    peak: int  # bytes
    operations: int  # torch's, those that only look at a tensor in another way not counted


class _Live(TorchDispatchMode):
    """Counts the bytes of all storages that are alive."""

    def __init__(self, resident: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = set(resident)
        self.bytes = self.peak = self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations += not func.is_view
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        name = storage._cdata
        if name not in self.known:
            self.known.add(name)
            size = _size(storage)
            self.bytes += size
            self.peak = max(self.peak, self.bytes)
            weakref.finalize(storage, self._forget, name, size)

    def _forget(self, name: int, size: int) -> None:
        self.known.discard(name)
        self.bytes -= size


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Attention as a GPU computes it, without the matrix of weights that a CPU lays out where some are dropped.

    Not by a mode of torch's: layers that are computed again in the backward pass would not see it.
    """
    plain = functional.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        args = (*args[:1], 0.0, *args[2:]) if len(args) > 1 else args
        return plain(query, key, value, *args, **{**kwargs, **({} if len(args) > 1 else {"dropout_p": 0.0})})

    functional.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = plain


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))


ON_A_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""What torch counts on a GPU alone."""


@contextmanager
def silent(stage: LightningModule) -> Iterator[None]:
    """Figures are logged nowhere: there is no loop."""
    for name in ("log", "log_dict"):
        setattr(stage, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name in ("log", "log_dict"):
            delattr(stage, name)


def probe(
    stage: LightningModule,
    batch: Any,
    autocast: torch.dtype | None = None,
    fused_attention: bool = False,
    fake: bool = True,
) -> Step:
    """What a training step of one batch takes.

    Args:
        stage: built, on the CPU, its trainer attached.
        batch: of its DataModule.
        autocast: the type of mixed precision; None: products are in the weights' own type.
        fused_attention: whether the fit runs on a GPU.
        fake: false computes the step, which says the same and takes what it takes.
    """
    owned = [*stage.parameters(), *stage.buffers()]
    resident = {tensor.untyped_storage()._cdata for tensor in owned}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in resident:
            kept[storage._cdata] = storage  # held, so that no other one gets its name
        return tensor

    with ExitStack() as within:
        within.enter_context(silent(stage))
        if fake:
            # The lengths of what is picked out by a mask are symbols, all others are numbers.
            mode = FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv(), static_shapes=True)
            within.enter_context(mode)
            doubles = [mode.from_tensor(tensor) for tensor in owned]  # held, or the mode would make them anew
            resident |= {double.untyped_storage()._cdata for double in doubles}
        gradients = [torch.zeros_like(weight) for weight in stage.parameters() if weight.requires_grad]
        resident |= {gradient.untyped_storage()._cdata for gradient in gradients}
        _accumulate_in(stage, gradients)
        if fused_attention:
            within.enter_context(_fused_attention())
        live = within.enter_context(_Live(resident))
        counter = within.enter_context(FlopCounterMode(display=False, custom_mapping=ON_A_CPU))
        within.enter_context(torch.compiler.set_stance("force_eager"))
        with torch.autograd.graph.saved_tensors_hooks(keep, _as_it_is):
            with torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None):
                loss = stage.training_step(batch, 0)
            size = sum(map(_size, kept.values()))
            kept.clear()
            if isinstance(loss, Tensor):
                torch.autograd.backward(loss)  # as a method it would leave the modes
        step = Step(counter.get_total_flops(), size, live.peak, live.operations)
    stage.zero_grad(set_to_none=True)
    return step


def _accumulate_in(stage: nn.Module, gradients: list[Tensor]) -> None:
    """Gradients lie there already, as in all steps but the first: they are counted apart."""
    trained = (weight for weight in stage.parameters() if weight.requires_grad)
    for weight, gradient in zip(trained, gradients, strict=True):
        weight.grad = gradient


def _size(storage: torch.UntypedStorage) -> int:
    """Bytes; 0 of what a mask picks out, whose number nobody knows without the content: figures to be logged."""
    size = storage.nbytes()
    return size if isinstance(size, int) else 0


_as_it_is: Callable[[Tensor], Tensor] = lambda tensor: tensor  # noqa: E731
