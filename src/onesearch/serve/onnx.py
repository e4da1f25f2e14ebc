"""The generator in ONNX: exported, checked against torch, and searched with by ONNX Runtime.

    FOLDER/prompt.onnx     reads prompts          `models.graphs.PromptGraph`
    FOLDER/step.onnx       writes one more code   `models.graphs.StepGraph`
    FOLDER/onnx.json       start token, the first token of SIDs, sizes of the layers
    FOLDER/items.parquet   the catalogue's SIDs: item_id, codes
    FOLDER/tokenizer.json  of the text, as transformers and tokenizers read it

Batch, beams, lengths and the number of codes so far are free; weights are float32. Prompts are written (`tasks/`), and
the trie is walked, by whoever runs the graphs: `OnnxScorer` is how.
"""

import json
import logging
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from onesearch.artifacts import ArtifactError, writing
from onesearch.decoding.beam import Beams, beam_search
from onesearch.log.prepared import Log
from onesearch.models.generator import Generator
from onesearch.models.graphs import PromptGraph, StepGraph
from onesearch.serve.engine import SearchEngine, trained
from onesearch.sid.spec import SidSpec
from onesearch.types import PromptBatch, UserError

OPSET = 18
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
MOST_APART = 1e-3
"""Nats between the scores of torch and of ONNX Runtime; they come to some 1e-5."""


def export_run(run: Path, folder: Path, stage: str | None = None, num_checked: int = 32) -> dict[str, Any]:
    """Export the generator of a stage and search with both, torch and ONNX Runtime; nothing is left where they differ.

    Args:
        run: the run folder.
        folder: where to.
        stage: the last one that is trained when None.
        num_checked: searches of the test split that both answer.

    Returns:
        What was compared.

    Raises:
        UserError: a package is missing, the generator cannot be exported, or the two differ.
    """
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        raise UserError(f"ONNX needs {', '.join(missing)}: install them with pip install 'onesearch[onnx]'.")
    engine = SearchEngine.open(run, stage)
    facts: dict[str, Any] = {}
    with writing(folder, "onnx", [run / (stage or trained(run)[-1])], facts=facts) as temporary:
        export_onnx(engine.generator, temporary)
        engine.writer.tokenizer.save_pretrained(temporary)
        sids = {"item_id": engine.khqe.item_ids, "codes": engine.khqe.item_codes.tolist()}
        pq.write_table(pa.table(sids), temporary / "items.parquet", write_page_checksum=True)
        facts |= check(OnnxGenerator(temporary), engine, Log.open(run / "log"), num_checked)
    return facts


@torch.inference_mode()
def check(exported: "OnnxGenerator", engine: SearchEngine, log: Log, num_searches: int) -> dict[str, Any]:
    """Let both answer the first searches of the test split.

    Raises:
        UserError: there is no search.
        ArtifactError: a SID's score differs by more than `MOST_APART`, or only one of the two found it, and not for a
            score that close to the end of the other's list.
    """
    contexts = [context for context, _ in zip(log.contexts("test"), range(num_searches), strict=False)]
    if not contexts:
        raise UserError("There is no search to check the export by: ask for some with --num_checked, of a test split.")
    wanted = engine.beams(contexts)
    found = beam_search(exported.scorer(engine.batch(contexts)), engine.trie, engine.num_beams)
    apart = max(map(_apart, _by_sid(wanted), _by_sid(found)))
    if apart > MOST_APART:
        raise ArtifactError(
            f"The exported generator scores SIDs {apart:.1e} nats apart from torch: nothing was written."
        )
    alike = int((found.codes == wanted.codes).all(-1).all(-1).sum())
    return {"num_searches": len(contexts), "num_same_lists": alike, "largest_difference": apart}


def _by_sid(beams: Beams) -> list[dict[tuple[int, ...], float]]:
    """SID → score, a search each."""
    lists = zip(beams.codes.tolist(), beams.scores.tolist(), strict=True)
    return [dict(zip(map(tuple, codes), scores, strict=True)) for codes, scores in lists]


def _apart(wanted: dict[tuple[int, ...], float], found: dict[tuple[int, ...], float]) -> float:
    """The most that the score of a SID differs; one that a list does not have is at most as good as the list's last."""
    differences = [abs(wanted[sid] - found[sid]) for sid in wanted.keys() & found.keys()]
    for one, other in ((wanted, found), (found, wanted)):
        differences += [one[sid] - min(other.values()) for sid in one.keys() - other.keys()]
    return max(differences)


def export_onnx(generator: Generator, folder: Path) -> None:
    """Write the two graphs.

    Args:
        generator: an encoder-decoder in evaluation mode, on the CPU.
        folder: that is there.

    Raises:
        UserError: the generator has no step to export.
    """
    prompt, graph = _example(generator), PromptGraph(generator)
    mask, *rest = graph(*prompt)
    num_parts = 2 * len(graph.step.blocks)
    pairs, copier_keys = rest[:num_parts], rest[num_parts:]
    names = [f"{part}_{layer}" for layer in range(num_parts // 2) for part in ("keys", "values")]
    of_prompts = ["mask", *(f"prompt_{name}" for name in names), *(["copier_keys"] if copier_keys else [])]
    free = [{0: Dim.DYNAMIC, 2 if name == "history" else 1: Dim.DYNAMIC} for name in PromptBatch._fields]
    _export(graph, prompt, free, PromptBatch._fields, of_prompts, folder / "prompt.onnx")

    vocabulary, start = generator.vocabulary, generator.architecture.start_token
    num_beams, level = 3, 2  # not 0 or 1, which an export would take for constants
    codes = torch.zeros(len(prompt.input_ids), num_beams, vocabulary.spec.num_layers, dtype=torch.int64)
    tokens = vocabulary.sid_tokens(codes)[..., :level]
    written = torch.cat([torch.full_like(tokens[..., :1], start), tokens], -1)
    width = pairs[0].shape[1] * pairs[0].shape[-1]
    past = [torch.zeros(*written.shape[:2], level, width) for _ in pairs]
    batch, beams, any_size = Dim("batch"), Dim("beams"), Dim.DYNAMIC  # by name: prompts and beams share the batch
    of_prompt, of_beams, both = {0: batch, 2: any_size}, {0: batch, 1: beams, 2: any_size}, {0: batch, 1: any_size}
    inputs = (written, mask, pairs, past, prompt.listed, *copier_keys)
    free_too = [of_beams, {0: batch, 3: any_size}, [of_prompt] * num_parts, [of_beams] * num_parts]
    free_too += [both] * (len(inputs) - len(free_too))
    told = ["written", *of_prompts[: num_parts + 1], *(f"past_{name}" for name in names), "listed"]
    told += of_prompts[num_parts + 1 :]
    outputs = ["log_probs", *(f"new_{name}" for name in names)]
    _export(StepGraph(generator), inputs, free_too, told, outputs, folder / "step.onnx")
    settings = {
        "start_token": start,
        "first_sid_token": vocabulary.level_slice(0).start,
        "rq_sizes": vocabulary.spec.rq_sizes,
        "opq_sizes": vocabulary.spec.opq_sizes,
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
    graph: nn.Module, inputs: tuple[Any, ...], free: Any, names: Sequence[str], outputs: Sequence[str], path: Path
) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # that torchvision is not there concerns nobody
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own parts
        torch.onnx.export(
            graph.eval(),
            tuple(inputs),
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
    """Exported graphs in ONNX Runtime.

    Args:
        folder: what `export_onnx` wrote.
    """

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        self.settings = json.loads((folder / "onnx.json").read_text("utf-8"))
        self.spec = SidSpec(tuple(self.settings["rq_sizes"]), tuple(self.settings["opq_sizes"]))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
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
