"""Searches and their samples: time and memory as a log grows from 100 thousand searches to a million.

    python -m benchmarks.samples [--sizes 100000 1000000] [--former 100000] [--samples 3000] [--json FILE]

prepare   from drawn tables to a finished log, validation, writing and hashes included; its peak of memory.
hash      `Log.open`: the SHA-256 of every file.
open      the searches of the training split with a clicked item, as `SftData` wants them.
set up    what else `SftData.setup` takes from the log: distinct queries and their SIDs, clicked pairs, counts by day.
contexts  searches a second, cut one by one at random.
samples   prompts with their answers a second, `SearchToItem` at random over all of them, by the real prompt writer.
memory    anonymous memory (RssAnon) behind all that, beside the size of the mapped files. A mapped page is the kernel's
          to take back, so it is not counted.

Times are the processor's, those of all threads: what else runs on the machine disturbs them less than the clock's.
Every size has a process of its own. The encoder is a stub that adds up vectors of words; what comes behind it is what
trains. Beside it stands the former way, `former_contexts`: the history of every search written out, read into a
list of tuples. Its prepare is the writing of that table alone.

Logs are drawn (`large_log`): the larger one has the same items and queries, and more users and days.
"""

import argparse
import gc
import multiprocessing
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from benchmarks.former_contexts import read_contexts, write_contexts
from benchmarks.large_log import LargeLog
from benchmarks.table import Row, show
from onesearch.behavior.categories import Categories
from onesearch.data.corpus import build_corpus
from onesearch.data.examples import Examples
from onesearch.data.mixture import Example
from onesearch.khqe import KeywordEncoder, Khqe
from onesearch.log.prepare import prepare
from onesearch.log.prepared import Log
from onesearch.log.text import item_texts
from onesearch.models.text_tokenizer import train_tokenizer
from onesearch.quantize.rq_opq import RqOpqRecipe
from onesearch.tasks.personalize import SearchToItem
from onesearch.tasks.prompt import Views

WIDTH = 32
Figures = dict[str, float]


class WordVectors(KeywordEncoder):
    """Adds up a random vector for each word."""

    def __init__(self) -> None:
        self.known: dict[str, Tensor] = {}

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [len(texts), WIDTH]."""
        sums = [torch.stack([self._of(word) for word in text.split() or [""]]).sum(0) for text in texts]
        return torch.nn.functional.normalize(torch.stack(sums), dim=1) if sums else torch.empty(0, WIDTH)

    def _of(self, word: str) -> Tensor:
        if word not in self.known:
            self.known[word] = torch.randn(WIDTH, generator=torch.Generator().manual_seed(crc32(word.encode())))
        return self.known[word]


def prepared(folder: Path, num_searches: int, former: bool) -> Figures:
    """Prepare a log in `folder`; with `former`, write the former contexts of the log that stands there."""
    figures: Figures = {}
    if former:
        log = Log.open(folder)
        tables = {name: getattr(log, name) for name in ("items", "users", "searches", "events")}
        boundary = log.manifest.facts["split"]["test_from_us"]
        with clocked(figures, "prepare, CPU s"):
            write_contexts(tables, boundary, 1000, folder.parent / "former.parquet")
    else:
        source = LargeLog(num_searches)
        raw = source.read()
        source.read = lambda: raw  # type: ignore[method-assign]  # drawing is no part of it
        with clocked(figures, "prepare, CPU s"):
            prepare(source, folder)
    return figures | {"prepare, peak MB": _status("VmHWM")}


def measured(folder: Path, num_samples: int, former: bool) -> Figures:
    """Open the log, set the samples up and write some."""
    torch.set_num_threads(1)
    figures: Figures = {}
    with clocked(figures, "hash, CPU s"):
        log = Log.open(folder)
    khqe, tokenizer = _khqe(log)
    gc.collect()
    figures["memory before, MB"] = _status("RssAnon")
    searches: Any
    with clocked(figures, "open, CPU s"):
        if former:
            contexts = read_contexts(folder.parent / "former.parquet", log.items["item_id"].combine_chunks())
            splits = dict(zip(log.searches["search_id"].to_pylist(), log.searches["split"].to_pylist(), strict=True))
            searches = [found for found in contexts if found.clicked and splits[found.search_id] == "train"]
            del contexts, splits, log.searches
        else:
            searches = log.contexts("train").answered
    with clocked(figures, "set up, CPU s"):
        khqe.remember(log)
        corpus = build_corpus(log, khqe, searches, num_typos=4, num_fragments=2, seed=0)
        _learn(khqe, searches)
        task = SearchToItem()
        assert len(task.repeats(corpus)) and corpus.clicked and len(corpus.pairs)
    writer = khqe.writer(tokenizer, Views(fold_sids=True))
    examples = Examples([task], corpus, writer, seed=0)
    places = random.Random(0).choices(range(len(searches)), k=num_samples)
    figures["contexts/CPU s"] = _speed(lambda: [searches[place] for place in places], num_samples)
    for draw, place in enumerate(places[:200]):
        examples.write(Example(1, 0, draw, place))  # warm: caches of texts and answers
    written = [Example(0, 0, draw, place) for draw, place in enumerate(places)]
    figures["samples/CPU s"] = _speed(lambda: [examples.write(example) for example in written], num_samples)
    gc.collect()
    figures["memory, MB"] = _status("RssAnon")
    files = (folder / "as_of").iterdir()
    figures["mapped files, MB"] = sum(path.stat().st_size for path in files) / 2**20
    return figures


def _khqe(log: Log) -> tuple[Khqe, Any]:
    """Semantic IDs of the catalogue by the stub, and a tokenizer of its words."""
    encoder, texts = WordVectors(), item_texts(log.items)
    embeddings = encoder.embed(texts)
    codebook = RqOpqRecipe((64, 32, 16), (16, 16)).fit(embeddings[:5000])
    codes = codebook.encode(embeddings).numpy()
    khqe = Khqe(encoder, codebook, log.item_ids, codes, embeddings, np.zeros(len(texts)))
    khqe.categories = Categories(np.arange(len(texts)) % 100, khqe.nearest)
    return khqe, train_tokenizer(texts[:5000], 3000)


def _learn(khqe: Khqe, searches: Any) -> None:
    if isinstance(searches, list):
        khqe.learn(query for c in searches for query in (c.query, *c.recent_queries))
    else:
        khqe.learn(searches.queries_seen())


def same(folder: Path, _: int, __: bool) -> Figures:
    """Compare the contexts of both ways, all of them."""
    log = Log.open(folder)
    former = read_contexts(folder.parent / "former.parquet", log.items["item_id"].combine_chunks())
    found = log.contexts("train", "validation", "test")
    assert len(found) == len(former)
    differ = sum(one != other for one, other in zip(found, former, strict=True))
    return {"contexts that differ": differ}


@contextmanager
def clocked(figures: Figures, name: str) -> Iterator[None]:
    """Note how long the block takes."""
    start = time.process_time()
    yield
    figures[name] = time.process_time() - start


def _speed(work: Callable[[], Any], count: int) -> float:
    start = time.process_time()
    work()
    return count / (time.process_time() - start)


def _status(name: str) -> float:
    """A figure of /proc/self/status in MB."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def _apart(work: Callable[..., Figures], *arguments: Any) -> Figures:
    """In a process of its own, whose memory begins anew."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def main() -> None:
    """Measure every size, smallest first, and show each beside the smallest one and the former way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--former", type=int, nargs="*", default=[100_000], help="sizes of the former way")
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    ours: dict[int, Figures] = {}
    rows: list[Row] = []
    for size in sorted(arguments.sizes):
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            ours[size] = _apart(prepared, log, size, False) | _apart(measured, log, arguments.samples, False)
            smallest = min(ours)
            if size > smallest:
                peer = f"{smallest:,} searches"
                rows += _rows(f"{size:,} searches", ours[size], ours[smallest], peer)
            if size in arguments.former:
                former = _apart(prepared, log, size, True) | _apart(measured, log, arguments.samples, True)
                differ = _apart(same, log, 0, True)["contexts that differ"]
                name = "a list of tuples" + (f", {differ:,.0f} OF THEM OTHERS" if differ else "")
                rows += _rows(f"{size:,} searches", ours[size], former, name)
    show("Searches and their samples", rows, arguments.json)


def _rows(case: str, ours: Figures, peer: Figures, name: str) -> list[Row]:
    return [Row(case, metric, ours[metric], peer[metric], name) for metric in ours]


if __name__ == "__main__":
    main()
