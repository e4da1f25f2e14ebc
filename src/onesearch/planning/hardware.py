"""Devices that a fit can be planned for, on whatever machine the plan is made."""

import os
from dataclasses import dataclass

import torch

from onesearch.types import UserError


@dataclass(frozen=True)
class Gpu:
    """A GPU as its data sheet has it; matrix products of dense matrices, not the doubled figures for sparse ones.

    Args:
        half: TFLOP/s in bfloat16 or float16.
        single: TFLOP/s in float32: TF32 where there is one, as `onesearch fit` asks for it.
        memory: gigabytes, 10⁹ bytes.
    """

    half: float
    single: float
    memory: float


GPUS = {
    "B200": Gpu(2250, 1125, 180),  # NVIDIA Blackwell data sheet, a GPU of the HGX B200
    "H200": Gpu(989, 494, 141),  # NVIDIA H200 data sheet, SXM
    "H100": Gpu(989, 494, 80),  # NVIDIA H100 data sheet, SXM
    "A100-SXM4-40GB": Gpu(312, 156, 40),  # NVIDIA A100 data sheet
    "A100": Gpu(312, 156, 80),
    "L40S": Gpu(362, 183, 48),  # NVIDIA L40S data sheet
    "L4": Gpu(121, 60, 24),  # NVIDIA L4 data sheet
    "A10": Gpu(125, 62.5, 24),  # NVIDIA A10 data sheet
    "V100": Gpu(125, 15.7, 32),  # NVIDIA V100 data sheet; float16, no TF32
    "T4": Gpu(65, 8.1, 16),  # NVIDIA T4 data sheet; float16, no TF32
    "RTX 4090": Gpu(165, 82.6, 24),  # NVIDIA Ada architecture paper, sums in float32
    "RTX 3090": Gpu(71, 35.6, 24),  # NVIDIA Ampere GA102 architecture paper, sums in float32
}
"""By a part of the name that CUDA gives them."""


@dataclass(frozen=True)
class Device:
    """What a process of the fit computes on."""

    name: str
    is_gpu: bool
    peak: float | None  # FLOP/s at the planned precision; None: unknown
    memory: float  # bytes


def device_of(accelerator: str, gpu: str | None, peak_tflops: float | None, memory: float | None, half: bool) -> Device:
    """The device that a fit would run on.

    Args:
        accelerator: the trainer's.
        gpu: one of `GPUS`; None: what this machine has.
        peak_tflops: TFLOP/s in place of the table's.
        memory: gigabytes in place of the table's.
        half: whether matrix products are in 16 bits.

    Raises:
        UserError: the GPU is none of the table's and its memory is not given.
    """
    if gpu is None and accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        gpu = torch.cuda.get_device_name()
        memory = memory or torch.cuda.get_device_properties(0).total_memory / 1e9
    if gpu is None and accelerator not in ("gpu", "cuda"):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if memory is None else memory * 1e9
        return Device("CPU", False, peak_tflops and peak_tflops * 1e12, total)
    known = next((found for name, found in GPUS.items() if gpu is not None and name in gpu), None)
    if known is None and memory is None:
        raise UserError(
            f"The GPU {gpu or 'that the fit is for'} is not known here: say '--gpu' with one of {', '.join(GPUS)}, or "
            "'--memory_gb' and '--peak_tflops'."
        )
    told = (known.half if half else known.single) if known else None
    peak = told if peak_tflops is None else peak_tflops
    return Device(gpu or "GPU", True, peak and peak * 1e12, (memory or (known.memory if known else 0.0)) * 1e9)
