"""Searches a second and their latencies over HTTP, with batches and without, and what the memory does in a soak.

    python -m benchmarks.serve --run RUN [--clients 1 8 64] [--seconds 10] [--soak 5000] [--rerank] [--json FILE]

The service is a process of its own, started by its verb; this process is the clients, asyncio over httpx, each of which
sends its next search when the one before is answered. Searches are those of the log's test period, with their shoppers,
in an order drawn by a seed. Beside it stands the same service with batches of one (`--batching.max_batch 1`): the peer.
Whatever is not answered with 200 is a failure; it counts neither as a search nor as a latency.

The soak sends queries that nobody asked before, of shoppers who are new, with an event each: what a service
could hoard. Its memory is RSS as the service's own metrics tell it, before and after.
"""

import argparse
import asyncio
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np

from benchmarks.table import Row, show
from onesearch.log.prepared import Log

Body = dict[str, Any]


class Measured(NamedTuple):
    """One round."""

    seconds: float
    latencies: list[float]  # milliseconds of the searches that were answered
    failures: int

    def figures(self) -> dict[str, float]:
        """What is shown of it."""
        p50, p95, p99 = np.percentile(self.latencies, (50, 95, 99)) if self.latencies else (np.nan,) * 3
        speed = len(self.latencies) / self.seconds
        return {"searches/s": speed, "p50 ms": p50, "p95 ms": p95, "p99 ms": p99, "failures": self.failures}


@contextmanager
def served(run: Path, folder: Path, num_beams: int, *options: str) -> Iterator[str]:
    """The address of a service that runs meanwhile."""
    command = [sys.executable, "-m", "onesearch.main", "serve", "--run", str(run), "--port", "0", "--limits.rate", "0"]
    command += ["--num_beams", str(num_beams), "--events", str(folder / "events.jsonl"), *options]
    with (folder / "log").open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=os.environ)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit((folder / "log").read_text("utf-8").strip().splitlines()[-1])
        yield line.split()[3]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()


async def load(address: str, bodies: Iterator[Body], num_clients: int, is_over: Callable[[int], bool]) -> Measured:
    """Let clients ask until `is_over` says so of the number of searches sent."""
    measured = Measured(0.0, [], 0)
    sent = failures = 0

    async def ask_on(http: httpx.AsyncClient) -> None:
        nonlocal sent, failures
        while not is_over(sent):
            sent += 1
            begun = time.perf_counter()
            try:
                answer = await http.post("/search", json=next(bodies))
                failed = answer.status_code != 200
            except httpx.HTTPError:
                failed = True
            if failed:
                failures += 1
            else:
                measured.latencies.append((time.perf_counter() - begun) * 1000)

    limits = httpx.Limits(max_connections=num_clients)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=60) as http:
        start = time.perf_counter()
        await asyncio.gather(*(ask_on(http) for _ in range(num_clients)))
    return measured._replace(seconds=time.perf_counter() - start, failures=failures)


def for_seconds(seconds: float) -> Callable[[int], bool]:
    """Over when the time is."""
    until = time.perf_counter() + seconds
    return lambda _: time.perf_counter() > until


def searches(log: Log, seed: int) -> Iterator[Body]:
    """Searches of the test period for ever, in a drawn order."""
    found = [{"query": one.query, "user_id": one.user_id or None, "k": 10} for one in log.contexts("test")]
    random.Random(seed).shuffle(found)
    return itertools.cycle(found)


def new_searches(log: Log, seed: int) -> Iterator[Body]:
    """Searches that nobody asked before, of shoppers who are new: words of the test period's queries, and a number."""
    rng = random.Random(seed)
    words = sorted({word for one in log.contexts("test") for word in one.query.split()})
    for number in itertools.count():
        yield {
            "query": f"{' '.join(rng.choices(words, k=2))} {number}",
            "user_id": f"soak-{number}",
            "k": 10,
            "explain": True,
        }


def soak(address: str, log: Log, num_searches: int) -> tuple[dict[str, float], dict[str, float]]:
    """What the service holds after many new searches, and what it held before."""
    rng = random.Random(1)
    before = _held(address)
    bodies = new_searches(log, 1)
    measured = asyncio.run(load(address, bodies, 8, lambda sent: sent >= num_searches))
    with httpx.Client(base_url=address, timeout=60) as http:
        for first in range(0, num_searches, 100):
            events = [
                {
                    "user_id": f"soak-{number}",
                    "kind": "click",
                    "item_id": rng.choice(log.item_ids),
                    "query": f"w {number}",
                }
                for number in range(first, min(first + 100, num_searches))
            ]
            measured = measured._replace(
                failures=measured.failures + http.post("/events", json={"events": events}).is_error
            )
    return _held(address) | {"failures": measured.failures}, before | {"failures": 0}


def _held(address: str) -> dict[str, float]:
    text = httpx.get(f"{address}/metrics", timeout=60).text
    value = {name: float(re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)[0]) for name in _HELD.values()}
    return {shown: value[name] / (2**20 if "MB" in shown else 1) for shown, name in _HELD.items()}


_HELD = {"RSS, MB": "process_resident_memory_bytes", "known texts": "onesearch_known_texts"}


def round_of(
    run: Path, log: Log, clients: Sequence[int], seconds: float, num_beams: int, *options: str
) -> dict[int, Measured]:
    """Measure each number of clients against one service."""
    with tempfile.TemporaryDirectory() as folder, served(run, Path(folder), num_beams, *options) as address:
        asyncio.run(load(address, searches(log, 0), 8, for_seconds(min(seconds, 3))))  # warm
        return {count: asyncio.run(load(address, searches(log, 1), count, for_seconds(seconds))) for count in clients}


def main() -> None:
    """Measure with batches, without, and in a soak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--num_beams", type=int, default=64)
    parser.add_argument("--soak", type=int, default=5000, help="searches; 0: none")
    parser.add_argument("--rerank", action="store_true", help="the reward model re-sorts every list")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    log = Log.open(given.run / "log")
    rerank = ("--rerank", "true") if given.rerank else ()
    one = ("--batching.max_batch", "1", *rerank)
    batched = round_of(given.run, log, given.clients, given.seconds, given.num_beams, *rerank)
    alone = round_of(given.run, log, given.clients, given.seconds, given.num_beams, *one)
    rows = [
        Row(f"{count} clients", metric, figure, alone[count].figures()[metric], "batches of one")
        for count in given.clients
        for metric, figure in batched[count].figures().items()
    ]
    if given.soak:
        # Few texts may stay, so that a short soak shows whether the bound holds.
        bound = ("--memory.texts", "1000", *rerank)
        with (
            tempfile.TemporaryDirectory() as folder,
            served(given.run, Path(folder), given.num_beams, *bound) as address,
        ):
            soak(address, log, min(given.soak, 500))  # allocators settle
            after, before = soak(address, log, given.soak)
        rows += [Row(f"soak of {given.soak:,}", name, after[name], before[name], "before") for name in after]
    show(f"Searches over HTTP, {given.num_beams} beams{', re-sorted' if rerank else ''}", rows, given.json)


if __name__ == "__main__":
    main()
