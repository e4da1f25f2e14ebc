"""The generator in ONNX: exported, checked against torch, and searched with by ONNX Runtime.

    FOLDER/prompt.onnx     reads prompts          models/graphs.py, `PromptGraph`
    FOLDER/step.onnx       writes one more code   `StepGraph`
    FOLDER/onnx.json       start token, layers' sizes, where their tokens begin

Batch, beams, lengths and the number of codes so far are free; weights are float32.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from onesearch.models.generator import Generator
from onesearch.models.graphs import PromptGraph, StepGraph
from onesearch.sid.spec import SidSpec
from onesearch.types import PromptBatch, UserError

OPSET = 18
PROMPT = PromptBatch._fields


def export_onnx(generator: Generator, folder: Path) -> None:
    """Write the two graphs.

    Args:
        generator: an encoder-decoder in evaluation mode, on the CPU.
        folder: made where it is not there.

    Raises:
        UserError: the generator has no step to export, or what exports is not installed.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError("Exporting to ONNX needs onnx and onnxscript: pip install 'onesearch[onnx]'.") from error
    folder.mkdir(parents=True, exist_ok=True)
    prompt = _example(generator)
    graph = PromptGraph(generator)
    free = [{0: Dim.DYNAMIC, 1: Dim.DYNAMIC}] * len(PROMPT)
    free[PROMPT.index("history")] = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC}
    unseen, *rest = graph(*prompt)
    num_pairs = 2 * len(graph.step.blocks)
    pairs, copier_keys = rest[:num_pairs], rest[num_pairs:]
    names = [f"{part}_{layer}" for layer in range(num_pairs // 2) for part in ("keys", "values")]
    of_prompts = ["unseen", *(f"prompt_{name}" for name in names), *(["copier_keys"] if copier_keys else [])]
    _export(graph, tuple(prompt), free, list(PROMPT), of_prompts, folder / "prompt.onnx")

    num_beams, level = 3, 2  # not 0 or 1, which an export would take for constants
    width = pairs[0].shape[1] * pairs[0].shape[-1]
    start = generator.architecture.start_token
    codes = generator.vocabulary.sid_tokens(torch.zeros(2, num_beams, generator.vocabulary.spec.num_layers).long())
    written = torch.cat([torch.full((2, num_beams, 1), start), codes[..., :level]], -1)
    past = [torch.zeros(2, num_beams, level, width) for _ in pairs]
    inputs = (written, unseen, pairs, past, prompt.listed, *copier_keys)
    batch, beams, every = Dim("batch"), Dim("beams"), Dim.DYNAMIC  # by name: prompts and beams have the same batch
    both, of_prompt = {0: batch, 1: every}, {0: batch, 2: every}
    of_beams = {0: batch, 1: beams, 2: every}
    shapes = (of_beams, {0: batch, 3: every}, [of_prompt] * num_pairs, [of_beams] * num_pairs, both)
    told = ["written", "unseen", *of_prompts[1 : num_pairs + 1], *(f"past_{name}" for name in names), "listed"]
    outputs = ["log_probs", *(f"new_{name}" for name in names)]
    free_too, told_too = ([both], ["copier_keys"]) if copier_keys else ([], [])
    _export(StepGraph(generator), inputs, [*shapes, *free_too], [*told, *told_too], outputs, folder / "step.onnx")
    spec = generator.vocabulary.spec
    settings = {
        "start_token": start,
        "first_sid_token": generator.vocabulary.level_slice(0).start,
        "rq_sizes": spec.rq_sizes,
        "opq_sizes": spec.opq_sizes,
    }
    (folder / "onnx.json").write_text(json.dumps(settings, indent=1), "utf-8")


def _example(generator: Generator) -> PromptBatch:
    """Two prompts of 6 tokens, the second one shorter, with a history of 2 items and a listed one."""
    vocabulary, num_layers = generator.vocabulary, generator.vocabulary.spec.num_layers
    ids = torch.full((2, 6), vocabulary.marker("<slot>"))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    listed, places = torch.full((2, 6, num_layers), -1), torch.full((2, 6), -1)
    listed[:, 2], places[:, 2] = 0, 0
    return PromptBatch(ids, mask, torch.zeros(2, 3, 2, num_layers, dtype=torch.int64), listed, places)


def _export(
    graph: nn.Module, inputs: tuple[Any, ...], free: Any, names: list[str], outputs: list[str], path: Path
) -> None:
    torch.onnx.export(
        graph.eval(),
        inputs,
        path,
        input_names=names,
        output_names=outputs,
        dynamic_shapes=tuple(free),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


class OnnxGenerator:
    """Exported graphs in ONNX Runtime."""

    def __init__(self, folder: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError("Running ONNX needs onnxruntime: pip install 'onesearch[onnx]'.") from error
        if not (folder / "onnx.json").is_file():
            raise UserError(f"{folder} holds no exported generator: run `onesearch export` first.")
        self.settings = json.loads((folder / "onnx.json").read_text("utf-8"))
        self.spec = SidSpec(tuple(self.settings["rq_sizes"]), tuple(self.settings["opq_sizes"]))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.prompt, self.step = (
            onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
            for name in ("prompt.onnx", "step.onnx")
        )

    def scorer(self, prompts: PromptBatch) -> "OnnxScorer":
        """For `beam_search` over some prompts; what they do not have is told as empty."""
        rows, length = prompts.input_ids.shape
        num_layers = self.spec.num_layers
        empty = {
            "history": torch.full((rows, 3, 1, num_layers), -1),
            "listed": torch.full((rows, length, num_layers), -1),
            "places": torch.full((rows, length), -1),
        }
        given = {name: part for name, part in prompts._asdict().items() if part is not None}
        return OnnxScorer(self, {name: part.cpu().numpy() for name, part in (empty | given).items()})


class OnnxScorer:
    """Implements `decoding.beam.Scorer`."""

    def __init__(self, generator: OnnxGenerator, prompts: dict[str, NDArray[Any]]) -> None:
        self.generator = generator
        told = [one.name for one in generator.prompt.get_inputs()]  # a model may have no use for some
        outputs = [one.name for one in generator.prompt.get_outputs()]
        read = generator.prompt.run(outputs, {name: prompts[name] for name in told})
        self.prompts = dict(zip(outputs, read, strict=True)) | {"listed": prompts["listed"]}
        rows, start = len(prompts["input_ids"]), generator.settings["start_token"]
        self.written = np.full((rows, 1, 1), start, np.int64)  # [B, K, 1 + l]
        self.past: dict[str, NDArray[np.float32]] = {}
        for one in generator.step.get_inputs():
            if one.name.startswith("past_"):
                self.past[one.name] = np.zeros((rows, 1, 0, one.shape[-1]), np.float32)

    def start(self) -> Tensor:
        """Log-probabilities [B, K_1] of the first code."""
        return self._step(0)[:, 0]

    def advance(self, parents: Tensor, codes: Tensor, level: int) -> Tensor:
        """Log-probabilities [B, K, K_(level+1)] once beams [B, K] hold `level` codes, `codes` the latest."""
        spec, first = self.generator.spec, self.generator.settings["first_sid_token"]
        tokens = codes.numpy() + first + sum(spec.sizes[: level - 1])
        batch = np.arange(len(tokens))[:, None]
        self.written = np.concatenate([self.written[batch, parents.numpy()], tokens[..., None]], -1)
        self.past = {name: part[batch, parents.numpy()] for name, part in self.past.items()}
        return self._step(level)

    def _step(self, level: int) -> Tensor:
        step, sizes = self.generator.step, self.generator.spec.sizes
        known = self.prompts | self.past | {"written": self.written}
        outputs = [one.name for one in step.get_outputs()]
        found = dict(
            zip(outputs, step.run(outputs, {one.name: known[one.name] for one in step.get_inputs()}), strict=True)
        )
        self.past = {f"past_{name.removeprefix('new_')}": found[name] for name in outputs if name.startswith("new_")}
        begin = sum(sizes[:level])
        return torch.from_numpy(found["log_probs"][..., begin : begin + sizes[level]])
