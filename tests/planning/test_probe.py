"""What a step that computes nothing says of itself, beside a step that is computed."""

import copy

import lightning
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from onesearch.data.alignment import AlignmentData
from onesearch.data.sft import SftData
from onesearch.models.generator import FreshDecoder, FreshGenerator
from onesearch.models.text_encoder import FreshEncoder
from onesearch.planning.parts import parts_of, total
from onesearch.planning.probe import ON_A_CPU, probe, silent
from onesearch.planning.work import draw
from onesearch.stages.encoder import EncoderStage
from onesearch.stages.sft import SftStage
from onesearch.tasks.align import QueryToSid, SidToItem

SIZES = {"hidden": 32, "encoder_layers": 2, "decoder_layers": 1, "heads": 2, "max_length": 512}


def built(stage, data):
    """Stage and drawn batches, as the beginning of a fit has them."""
    stage.trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    stage.trainer.state.fn = "fit"
    data.setup("fit")
    stage.configure_model()
    stage.train()
    return stage, data.train_dataloader()


@pytest.fixture(scope="module")
def generator(tiny_run):
    """A generator stage, and a batch of each kind of answer."""
    data = SftData(tiny_run, [QueryToSid(), SidToItem()], batch_size=16, vocab_size=400)
    stage, loader = built(SftStage(tiny_run, "sft", "sid", backbone=FreshGenerator(**SIZES)), data)
    return stage, {one.kind: one.batch for one in draw(loader, ["sid", "text"])}


@pytest.fixture(scope="module")
def encoder(tiny_run):
    """An encoder stage, and a batch."""
    backbone = FreshEncoder(hidden=32, layers=2, heads=2)
    stage, loader = built(EncoderStage(tiny_run, backbone, dim=16), AlignmentData(tiny_run, 32, vocab_size=400))
    return stage, next(iter(loader))


def measured(stage, batch, dtype):
    """FLOPs as torch counts them, and bytes that autograd keeps, of a step that is computed."""
    kept, weights = {}, {tensor.untyped_storage().data_ptr() for tensor in [*stage.parameters(), *stage.buffers()]}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    with silent(stage), FlopCounterMode(display=False, custom_mapping=ON_A_CPU) as counter:
        autocast = torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
            loss = stage.training_step(batch, 0)
        loss.backward()
    size = sum(storage.nbytes() for place, storage in kept.items() if place not in weights)
    stage.zero_grad()
    return counter.get_total_flops(), size


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("kind", ["sid", "text"])
def test_a_generators_step_is_the_computed_one(generator, kind, dtype):
    """FLOPs to the last; kept bytes within 2%: a cast of what is constant is made again."""
    stage, batches = generator
    flops, size = measured(stage, batches[kind], dtype)
    step = probe(stage, batches[kind], dtype)
    assert step.flops == flops
    assert step.kept == pytest.approx(size, rel=0.02)
    computed = probe(stage, batches[kind], dtype, fake=False)
    assert step.peak == pytest.approx(computed.peak, rel=0.1)
    assert step.peak > step.kept


def test_an_encoders_step_is_the_computed_one(encoder):
    stage, batch = encoder
    flops, size = measured(stage, batch, None)
    step = probe(stage, batch)
    assert step.flops == flops
    assert step.kept == pytest.approx(size, rel=0.02)


def test_flops_are_those_of_the_formula(encoder):
    """6 · parameters · positions of the linear layers, attention's 14·L²·H a layer, the cosines left out."""
    stage, batch = encoder
    transformer = stage.encoder.transformer
    layers = sum(part.weight.numel() for part in transformer.encoder.modules() if isinstance(part, nn.Linear))
    flops = 0.0
    for texts in (batch.queries, batch.items):
        rows, length = texts.input_ids.shape
        flops += 6 * layers * rows * length + 14 * 2 * rows * length**2 * 32 + 6 * 32 * 16 * rows
    assert probe(stage, batch, fused_attention=True).flops == pytest.approx(flops, rel=0.05)


def test_twice_the_batch_is_twice_the_work(encoder):
    """Of the transformer; the largest texts are the same."""
    stage, batch = encoder
    twice = batch._replace(
        queries=type(batch.queries)(*(torch.cat([tensor, tensor]) for tensor in batch.queries)),
        items=type(batch.items)(*(torch.cat([tensor, tensor]) for tensor in batch.items)),
    )
    one, two = probe(stage, batch), probe(stage, twice)
    assert two.flops == pytest.approx(2 * one.flops, rel=0.05)
    assert two.kept == pytest.approx(2 * one.kept, rel=0.1)


def test_a_gpu_keeps_no_matrix_of_attention(encoder):
    """Where weights of attention are dropped, a CPU lays them out."""
    stage, batch = encoder
    assert probe(stage, batch, fused_attention=True).kept < probe(stage, batch).kept


def test_checkpointed_activations_are_computed_again(generator, tiny_run):
    """Less is alive at once, more is computed."""
    stage, batches = generator
    plain = probe(stage, batches["text"], fused_attention=True)
    again = copy.copy(stage)
    again.generator.architecture.checkpoint_activations()
    saving = probe(again, batches["text"], fused_attention=True)
    stage.generator.backbone.gradient_checkpointing_disable()
    assert saving.kept < plain.kept
    assert saving.peak < plain.peak
    assert 1.1 * plain.flops < saving.flops < 1.5 * plain.flops


def test_a_decoder_alone_is_probed_too(tiny_run):
    data = SftData(tiny_run, [QueryToSid()], batch_size=8, vocab_size=400)
    backbone = FreshDecoder(hidden=32, layers=1, heads=2)
    stage, loader = built(SftStage(tiny_run, "sft", "sid", backbone=backbone), data)
    batch = next(iter(loader))
    assert probe(stage, batch).flops == measured(stage, batch, None)[0]
    assert {"embeddings", "decoder", "adapter"} == set(parts_of(stage))


def test_nothing_of_a_probe_remains(encoder):
    """Neither gradients, nor weights of another value, nor a stage that cannot log."""
    stage, batch = encoder
    before = [weight.clone() for weight in stage.parameters()]
    probe(stage, batch, fused_attention=True)
    assert all(torch.equal(old, new) for old, new in zip(before, stage.parameters(), strict=True))
    assert all(weight.grad is None for weight in stage.parameters())
    assert "log" not in vars(stage)


def test_parts_are_the_model_to_the_byte(generator):
    """Parameters by module; weights, gradients and AdamW's state as they are after a real step."""
    stage, _ = generator
    model = copy.deepcopy(stage.generator)
    parts, backbone = parts_of(stage), model.backbone.model

    def count(module):
        return sum(weight.numel() for weight in module.parameters())

    tables = [backbone.shared, backbone.encoder.embed_positions, backbone.decoder.embed_positions]
    assert parts["embeddings"].parameters == sum(map(count, tables))
    inside = {"encoder": (backbone.encoder.layers, backbone.encoder.layernorm_embedding)}
    inside["decoder"] = (backbone.decoder.layers, backbone.decoder.layernorm_embedding)
    assert {name: parts[name].parameters for name in inside} == {
        name: sum(map(count, modules)) for name, modules in inside.items()
    }
    assert parts["adapter"].parameters == count(model.adapter)
    optimizer = torch.optim.AdamW(model.parameters())
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    whole = total(parts)
    assert whole.parameters == whole.trained == count(model)
    assert whole.weights == sum(weight.nbytes for weight in model.parameters())
    assert whole.gradients == sum(weight.grad.nbytes for weight in model.parameters())
    assert whole.optimizer == sum(value.nbytes for state in optimizer.state.values() for value in state.values())


def test_frozen_weights_have_no_gradients(generator):
    stage, _ = generator
    model = copy.deepcopy(stage.generator)
    model.adapter.requires_grad_(False)
    adapter = parts_of(model)["adapter"]
    assert (adapter.trained, adapter.gradients, adapter.optimizer) == (0, 0, 0)
    assert adapter.weights > 0
