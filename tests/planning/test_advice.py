"""What a plan warns of, and what it does not."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from onesearch.models.generator import FreshGenerator, PretrainedGenerator
from onesearch.planning.advice import batch_advice, disk_advice, length_advice, memory_advice, rate_advice, ways_to_save
from onesearch.planning.hardware import GPUS, Device, device_of
from onesearch.planning.work import Cost, Work
from onesearch.stages.sft import SftStage
from onesearch.stages.stage import Optimization
from onesearch.stages.tagger import TaggerStage
from onesearch.types import UserError

GPU = Device("T4", True, 65e12, 16e9)


@pytest.fixture
def stage(tiny_run):
    """A generator of width 32, started anew with a rate that is set later."""
    found = SftStage(tiny_run, "sft_align", "sid", backbone=FreshGenerator(32, 1, 1, 2))
    found.build()
    return found


def test_a_batch_that_does_not_fit_and_one_that_does():
    """The batch size that is named fits: 14.4 GB less 4 for the model leave 10.4 for what 20 GB hold 64 of."""
    (sentence,) = memory_advice(24e9, 20e9, GPU, 64, ["set 'trainer.precision' to bf16-mixed"])
    assert sentence.startswith("A batch of 64 takes 24 GB, T4 has 16: set 'data.init_args.batch_size' to 29 or less")
    assert "bf16-mixed" in sentence
    assert not [*memory_advice(4e9 + 20e9 * 29 / 64, 20e9 * 29 / 64, GPU, 29, [])]
    assert "a smaller model" in next(memory_advice(24e9, 1e9, GPU, 64, []))


def test_ways_to_save_are_those_that_are_not_taken(stage):
    assert len([*ways_to_save(stage, "32-true")]) == 2
    stage.gradient_checkpointing = True
    assert [*ways_to_save(stage, "bf16-mixed")] == []


@pytest.mark.parametrize(
    ("global_batch", "samples", "steps", "words"),
    [
        (512, 9999, 5, []),
        (256, 9999, 5, []),
        (64, 9999, 5, ["the paper's 512"]),
        (4096, 9999, 5, ["the paper's 512"]),
        (512, 100, 5, ["less than a step's"]),
        (512, 9999, None, ["names no end"]),
    ],
)
def test_a_step_of_another_scale(stage, global_batch, samples, steps, words):
    found = [*batch_advice(stage, Work(samples, {"sid": 20}, global_batch, steps))]
    assert len(found) == len(words)
    assert all(word in sentence for word, sentence in zip(words, found, strict=True))


def test_the_papers_batch_is_the_generators_alone(tiny_run):
    assert not [*batch_advice(TaggerStage(tiny_run), Work(9999, {"all": 20}, 64, 5))]


@pytest.mark.parametrize(
    ("rate", "backbone", "words"),
    [
        (5e-3, FreshGenerator(), ""),
        (5e-2, FreshGenerator(), "is high for weights of width 32"),
        (1e-5, FreshGenerator(), "hardly moves"),
        (5e-3, PretrainedGenerator("x"), ""),
        (2e-2, PretrainedGenerator("x"), "is high for pretrained weights"),
        (1e-5, PretrainedGenerator("x"), ""),
    ],
)
def test_a_rate_of_another_scale(stage, rate, backbone, words):
    stage.optimization, stage.backbone = Optimization(lr=rate), backbone
    found = [*rate_advice(stage, 1000)]
    assert len(found) == bool(words)
    assert all(words in sentence for sentence in found)


def test_texts_that_are_cut_and_prompts_that_are_too_long(stage, tiny_log):
    """Queries have two words here; the backbone has 512 positions."""
    cost = Cost(1.0, None, 1.0, 1.0, 513, 1.0)
    stage.views = SimpleNamespace(max_text=1)
    long, cut = length_advice(stage, SimpleNamespace(views=stage.views), tiny_log, cost)
    assert long.startswith("A prompt has 513 tokens, the backbone reads 512")
    assert cut.endswith("have more than 1 tokens and are cut: raise 'data.init_args.views.max_text'.")
    stage.views = SimpleNamespace(max_text=24)
    data = SimpleNamespace(views=stage.views)
    assert [*length_advice(stage, data, tiny_log, replace(cost, longest=512))] == []


def test_a_full_disk():
    (sentence,) = disk_advice(int(2e9), int(1e9), "runs/demo", int(7e8))
    assert sentence.startswith("runs/demo has 1.0 GB free, the checkpoints take 2.0 (0.7 each)")
    assert [*disk_advice(int(1e9), int(2e9), "runs/demo", int(7e8))] == []


def test_gpus_by_their_names():
    """As CUDA calls them, and what the command line says instead; the longest name first where one begins another."""
    h100 = device_of("gpu", "NVIDIA H100 80GB HBM3", None, None, half=True)
    assert (h100.peak, h100.memory) == (989e12, 80e9)
    assert device_of("gpu", "NVIDIA A100-SXM4-40GB", None, None, half=False) == Device(
        "NVIDIA A100-SXM4-40GB", True, 156e12, 40e9
    )
    assert device_of("auto", "NVIDIA L40S", 100, 10, half=True) == Device("NVIDIA L40S", True, 100e12, 10e9)
    for name, gpu in GPUS.items():
        assert device_of("gpu", name, None, None, half=True).memory == gpu.memory * 1e9
    cpu = device_of("cpu", None, None, None, half=False)
    assert (cpu.is_gpu, cpu.peak) == (False, None)
    assert cpu.memory > 1e9
    with pytest.raises(UserError, match="Abacus is not known here"):
        device_of("gpu", "Abacus", None, None, half=True)
