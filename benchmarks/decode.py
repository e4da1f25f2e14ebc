"""A search by constrained beams beside Hugging Face's `generate`, a mask of the whole vocabulary, and the bare model.

    python -m benchmarks.decode [--models width-256 base] [--sids 100000 1000000] [--beams 10 50 128 512]
                                [--batches 1 8] [--dtypes float32 bfloat16] [--device cpu] [--threads 1] [--rounds 3]
                                [--no-peers] [--compile] [--json FILE]
    # pip install -e '.[cpu,bench]'

ours              prompt → encoder → beams inside the trie, each layer's slice of the head, as `onesearch serve` does
floor             the same forward passes without any choice: encoder, decoder steps with one set of keys and values a
                  prompt, the layer's slice of the head; no softmax, no trie, no top-k, no beam changes places
prefix function   `generate` with `prefix_allowed_tokens_fn`, which looks a prefix up in a dictionary, beam by beam
vectorised mask   `generate` with a logits processor that masks the vocabulary [rows, V] by a walk down our trie

A time is that of a whole search, the encoder's part in it. Weights, prompts and SIDs are random, which changes no time;
SIDs are drawn with few frequent codes and many rare ones, as catalogues have them, so that the widest node has as many
children as its layer has codes. Ours and the floor take turns, so do the peers, as often each, and the fastest of the
rounds counts: by CPU time, which says more than the clock on a busy machine, or by the clock with several threads or a
GPU. Peers run where they end within reason: at the fewest SIDs and one search, up to 50 beams for the base model. They
must find valid SIDs, the same ones, and the same as ours where ours normalises over the whole vocabulary, as they do.

compiled   with --compile: the beams as one graph (`torch.compile`, a CUDA graph on a GPU), beside ours as it is
choosing   the share of ours that the trie, the mask and the top-k take, measured around their calls; the median
trie       bytes an item, seconds to build, against a dictionary of prefixes
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import linear
from transformers import LogitsProcessor, LogitsProcessorList

from benchmarks.table import Row, show
from onesearch.decoding import beam
from onesearch.decoding.beam import beam_search
from onesearch.models.generator import FreshGenerator, Generator
from onesearch.models.history_adapter import HistoryAdapter
from onesearch.models.scorer import GeneratorScorer
from onesearch.models.writing import Encoded
from onesearch.sid.spec import SidSpec
from onesearch.sid.trie import Trie
from onesearch.sid.vocabulary import Vocabulary
from onesearch.tasks.prompt import MARKERS
from onesearch.types import PromptBatch

SPEC = SidSpec()
LENGTH = 128  # tokens of a prompt
MODELS = {  # backbone, tokens of its text: BART's own tokenizer
    "width-256": (FreshGenerator(256, dropout=0.0), 50265),
    "base": (FreshGenerator(768, encoder_layers=6, decoder_layers=6, heads=12, dropout=0.0), 50265),
}
PEERS = ("vectorised mask", "prefix function")
MOST_OF_PEERS = {"width-256": 512, "base": 50}  # beams
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Case(NamedTuple):
    """What is measured."""

    model: str
    dtype: str
    num_sids: int
    batch_size: int
    num_beams: int

    def __str__(self) -> str:
        thousands = f"{self.num_sids // 1000:,} k SIDs"
        return f"{self.model}, {self.dtype}, {thousands}, batch {self.batch_size}, {self.num_beams} beams"


def build(name: str, dtype: torch.dtype, device: str) -> Generator:
    """A generator with fresh weights."""
    torch.manual_seed(0)
    backbone, num_text_tokens = MODELS[name]
    vocabulary = Vocabulary(num_text_tokens, SPEC, MARKERS)
    centroids = [torch.randn(size, 64) for size in SPEC.rq_sizes]
    model = backbone.build(vocabulary.size, vocabulary.num_text_tokens)
    generator = Generator(model, vocabulary, HistoryAdapter(centroids, backbone.hidden)).eval()
    return generator.to(device, dtype).requires_grad_(False)


def draw_sids(num_sids: int) -> NDArray[np.int64]:
    """Random SIDs, few of whose codes are frequent."""
    rng = np.random.default_rng(0)
    return np.stack([(size * rng.random(num_sids) ** 2).astype(np.int64) for size in SPEC.sizes], 1)


def draw_prompts(generator: Generator, batch_size: int) -> PromptBatch:
    """Random prompts without padding."""
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(4, generator.vocabulary.num_text_tokens, (batch_size, LENGTH), generator=draw)
    tokens = tokens.to(generator.backbone.device)
    return PromptBatch(tokens, torch.ones_like(tokens), None, None, None)


def ours(generator: Generator, trie: Trie, prompts: PromptBatch, num_beams: int) -> Tensor:
    """A search: SIDs [B, K, C]."""
    return beam_search(GeneratorScorer(generator, generator.encode(prompts)), trie, num_beams).codes


def compiled(generator: Generator, trie: Trie, num_beams: int, device: str) -> Callable[[PromptBatch], Tensor]:
    """The same search, whose beams are one graph."""

    def beams(hidden: Tensor, attention_mask: Tensor) -> Tensor:
        return beam_search(GeneratorScorer(generator, Encoded(hidden, attention_mask)), trie, num_beams).codes

    torch._dynamo.reset()
    mode = "reduce-overhead" if device == "cuda" else "default"
    graph = torch.compile(beams, fullgraph=True, dynamic=False, mode=mode)
    return lambda prompts: graph(*generator.encode(prompts)[:2])


class Floor(GeneratorScorer):
    """A scorer that says nothing of the codes it computed."""

    def advance(self, parents: Tensor, codes: Tensor, level: int) -> Tensor:
        """Logits [B, K, K_(level+1)] of beams that all stay where they are."""
        if level == 1:
            self.writing.fork(parents.new_tensor(range(len(codes))).repeat_interleave(codes.shape[1]))
        self.num_beams = codes.shape[1]
        self.level = level
        return self._step(codes.reshape(-1, 1) + self.generator.vocabulary.level_slice(level - 1).start)

    def _step(self, tokens: Tensor) -> Tensor:
        decoded = self.writing.step(tokens)[:, -1]
        return linear(decoded, self.heads[getattr(self, "level", 0)])


class FullHead(GeneratorScorer):
    """Normalised over the whole vocabulary."""

    def _step(self, tokens: Tensor) -> Tensor:
        decoded = self.writing.step(tokens)[:, -1].unflatten(0, (-1, self.num_beams))
        head: Any = self.generator.backbone.get_output_embeddings()
        logits: Tensor = head(decoded * self.generator.architecture.output_scale)
        return logits.float().log_softmax(-1)[..., self.generator.vocabulary.level_slice(self.prefix.shape[-1])]


def floor(generator: Generator, prompts: PromptBatch, codes: Tensor) -> None:
    """The forward passes that SIDs [B, K, C] take."""
    scorer = Floor(generator, generator.encode(prompts))
    scorer.start()
    same = torch.zeros_like(codes[..., 0])
    for level in range(1, codes.shape[-1]):
        scorer.advance(same, codes[..., level - 1], level)


# The peers.


def generate(generator: Generator, prompts: PromptBatch, num_beams: int, **constraint: Any) -> Tensor:
    """Hugging Face's beam search: SIDs [B, K, C]."""
    model: Any = generator.backbone
    written = model.generate(
        input_ids=prompts.input_ids,
        attention_mask=prompts.attention_mask,
        num_beams=num_beams,
        num_return_sequences=num_beams,
        min_new_tokens=SPEC.num_layers,
        max_new_tokens=SPEC.num_layers,
        length_penalty=0.0,
        do_sample=False,
        **constraint,
    )
    starts = torch.tensor([generator.vocabulary.level_slice(level).start for level in range(SPEC.num_layers)])
    codes: Tensor = written[:, 1:].unflatten(0, (-1, num_beams)) - starts.to(written.device)
    return codes


def prefix_function(generator: Generator, sids: NDArray[np.int64]) -> Callable[[int, Tensor], list[int]]:
    """What may follow a prefix, out of a dictionary."""
    tokens = generator.vocabulary.sid_tokens(torch.from_numpy(sids)).tolist()
    following: dict[tuple[int, ...], set[int]] = {}
    for sid in tokens:
        for level, token in enumerate(sid):
            following.setdefault(tuple(sid[:level]), set()).add(token)
    listed = {prefix: list(allowed) for prefix, allowed in following.items()}
    return lambda _, written: listed[tuple(written[1:].tolist())]


class VectorisedMask(LogitsProcessor):
    """Masks the whole vocabulary for all beams at once."""

    def __init__(self, generator: Generator, trie: Trie) -> None:
        self.trie = trie
        self.starts = [generator.vocabulary.level_slice(level).start for level in range(SPEC.num_layers)]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """-inf for what may not follow."""
        level = input_ids.shape[1] - 1
        nodes = torch.zeros_like(input_ids[:, :1])
        for depth in range(level):  # walk down again: `generate` does not say where beams came from
            children = self.trie.children(depth, nodes)
            is_next = children.valid & (children.codes == input_ids[:, depth + 1, None] - self.starts[depth])
            nodes = (children.nodes * is_next).sum(1, keepdim=True)
        children = self.trie.children(level, nodes)
        rows = torch.arange(len(nodes), device=nodes.device)[:, None].expand_as(children.codes)[children.valid]
        allowed = children.codes[children.valid] + self.starts[level]
        masked = torch.full_like(scores, -torch.inf)
        masked[rows, allowed] = scores[rows, allowed]
        return masked


# Measuring.


def clock(device: str) -> float:
    """Seconds that the one thread computed; of several, or of a GPU once it has done what it was told, the time."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.process_time() if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


@contextmanager
def timed_choice(device: str) -> Iterator[list[float]]:
    """Seconds of each choice among the children of beams."""
    seconds: list[float] = []
    extend = beam._extend

    def timed(*args: Any) -> Any:
        start = clock(device)
        found = extend(*args)
        seconds.append(clock(device) - start)
        return found

    with patch.object(beam, "_extend", timed):
        yield seconds


def seconds_of(searches: dict[str, Callable[[], Any]], num_rounds: int, device: str) -> dict[str, float]:
    """The fastest of some rounds in which they take turns, after one to warm up."""
    fastest = dict.fromkeys(searches, float("inf"))
    for turn in range(num_rounds + 1):
        for name, search in searches.items():
            start = clock(device)
            search()
            if turn:
                fastest[name] = min(fastest[name], clock(device) - start)
    return fastest


def measure(
    case: Case, generator: Generator, trie: Trie, function: Callable[[int, Tensor], list[int]] | None, options: Any
) -> tuple[list[Row], float]:
    """The rows of a case, and the seconds of our search."""
    prompts = draw_prompts(generator, case.batch_size)
    codes = ours(generator, trie, prompts, case.num_beams)
    searches: dict[str, Callable[[], Any]] = {
        "ours": partial(ours, generator, trie, prompts, case.num_beams),
        "floor": partial(floor, generator, prompts, codes),
    }
    if function is not None:
        mask = LogitsProcessorList([VectorisedMask(generator, trie)])
        searches["vectorised mask"] = partial(generate, generator, prompts, case.num_beams, logits_processor=mask)
        searches["prefix function"] = partial(
            generate, generator, prompts, case.num_beams, prefix_allowed_tokens_fn=function
        )
    if options.compile:
        search = compiled(generator, trie, case.num_beams, options.device)
        assert torch.equal(search(prompts), codes), "another list when compiled"
        searches["compiled"] = partial(search, prompts)
    if function is not None:
        check(generator, trie, prompts, *(searches[name]() for name in PEERS))
    # Ours and the floor by themselves: after a peer, which fills the caches, the first to come would pay for it.
    alone = {name: search for name, search in searches.items() if name not in PEERS}
    peers = {name: search for name, search in searches.items() if name in PEERS}
    found = seconds_of(alone, options.rounds, options.device) | seconds_of(peers, options.rounds, options.device)
    rows = [
        Row(str(case), "ms", 1e3 * found["ours"], 1e3 * seconds, name)
        for name, seconds in found.items()
        if name not in ("ours", "compiled")
    ]
    if options.compile:
        rows.append(Row(str(case), "ms, compiled", 1e3 * found["compiled"], 1e3 * found["ours"], "ours, not compiled"))
    shares = []
    for _ in range(options.rounds):
        with timed_choice(options.device) as choices:
            start = clock(options.device)
            searches["ours"]()
            shares.append(sum(choices) / (clock(options.device) - start))
    return [*rows, Row(str(case), "share", median(shares), 1.0, "choosing of the whole")], found["ours"]


def check(generator: Generator, trie: Trie, prompts: PromptBatch, masked: Tensor, by_prefix: Tensor) -> None:
    """The peers find the same SIDs as each other, and as ours with their normaliser; all of them valid."""
    scorer = FullHead(generator, generator.encode(prompts))
    found = beam_search(scorer, trie, masked.shape[1]).codes
    valid = set(map(tuple, trie.sids.tolist()))
    assert all(tuple(sid) in valid for sid in masked.flatten(0, 1).tolist()), "a peer found an invalid SID"
    for other, name in ((by_prefix, "the peers"), (found, "ours and the peers")):
        same = len(set(map(tuple, masked[0].tolist())) & set(map(tuple, other[0].tolist()))) / masked.shape[1]
        # In bfloat16 many scores are equal, and the last beams a matter of the order of additions.
        assert same == 1 or (masked.shape[1] > 1 and generator.backbone.dtype == torch.bfloat16), f"{name}: {same:.2f}"


def measure_trie(num_sids: int) -> tuple[Trie, list[Row]]:
    """A trie, its size and how long it takes to build."""
    sids = draw_sids(num_sids)

    def dictionary() -> dict[tuple[int, ...], set[int]]:
        following: dict[tuple[int, ...], set[int]] = {}
        for sid in sids.tolist():
            for level, code in enumerate(sid):
                following.setdefault(tuple(sid[:level]), set()).add(code)
        return following

    trie = Trie(sids, SPEC.sizes)
    found = seconds_of({"ours": partial(Trie, sids, SPEC.sizes), "dictionary": dictionary}, 1, "cpu")
    case = f"trie of {num_sids // 1000:,} k items"
    return trie, [
        Row(case, "s to build", found["ours"], found["dictionary"], "a dictionary of prefixes"),
        Row(case, "bytes an item", trie.num_bytes / num_sids, 60, "the goal"),
    ]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--sids", nargs="+", type=int, default=[100_000, 1_000_000])
    parser.add_argument("--beams", nargs="+", type=int, default=[10, 50, 128, 512])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true", help="ours and the floor alone")
    parser.add_argument("--compile", action="store_true", help="the beams as one graph, too")
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser.parse_args()


@torch.inference_mode()
def main() -> None:
    """Measure every case and show it as it comes."""
    options = parse()
    torch.set_num_threads(options.threads)
    tries, rows = {}, []
    for num_sids in options.sids:
        trie, about = measure_trie(num_sids)
        tries[num_sids] = trie.to(options.device)
        rows += about
        print(json.dumps([row._asdict() for row in about]), flush=True)
    for model in options.models:
        for dtype in options.dtypes:
            generator = build(model, DTYPES[dtype], options.device)
            fewest = min(options.sids)
            function = None if options.no_peers else prefix_function(generator, draw_sids(fewest))
            for batch_size in options.batches:
                for num_beams in options.beams:
                    seconds = {}
                    for num_sids in options.sids:
                        case = Case(model, dtype, num_sids, batch_size, num_beams)
                        is_for_peers = num_sids == fewest and batch_size == 1 and num_beams <= MOST_OF_PEERS[model]
                        found, seconds[num_sids] = measure(
                            case, generator, tries[num_sids], function if is_for_peers else None, options
                        )
                        rows += found
                        print(case, *(f"{row.peer_name} {row.ratio:.3f}" for row in found), sep="; ", flush=True)
                    if len(seconds) > 1:
                        most = max(options.sids)
                        fewest_seconds = 1e3 * seconds[fewest]
                        rows.append(
                            Row(
                                str(case._replace(num_sids=most)),
                                "ms",
                                1e3 * seconds[most],
                                fewest_seconds,
                                "ours at fewest",
                            )
                        )
    show("Constrained beam search", rows, options.json)


if __name__ == "__main__":
    main()
