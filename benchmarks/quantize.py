"""Codebooks: how fast they are fitted and applied, how well they code, how much memory that takes.

    python -m benchmarks.quantize [--scale 1] [--rounds 2] [--only fit] [--json FILE]    # pip install -e '.[cpu,bench]'

fit      RQ 1024-1024-512, neither normalised nor balanced. The peers: one faiss.Kmeans a level (25 iterations on all
         vectors, a seed of its own each), faiss.ResidualQuantizer (beam of 1), one MiniBatchKMeans of scikit-learn a
         level.
opq      2 × 256 on what that RQ leaves, beside faiss.OPQMatrix and faiss.ProductQuantizer as they are by default.
encode   a million vectors to five codes, beside faiss with the same codebooks, its codes unpacked row by row in Python
         or all at once with numpy.
balance  RQ-OPQ with its third layer balanced beside the same without: once with residuals normalised, as by default,
         once raw, as the paper has them. Raw ones of dense clusters are short and share a few codes of layer 3.
memory   fit and encode as a whole, beside the size of the embeddings.

Vectors are synthetic (see `draw_vectors`). Every run is a process of its own with two threads; ours and the peers'
take turns, and the best of the rounds counts. CPU seconds are the processor's, of both threads: what else runs on the
machine disturbs those less than the clock's. Peak memory is above what the process holds with the vectors loaded (VmHWM
of /proc/self/status, so Linux alone). Errors are mean ‖x − x̂‖² of the codes that float64 gives for the codebooks.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.table import Row, show
from onesearch.metrics.codebook import items_alone, utilisation
from onesearch.quantize.balanced import capacity
from onesearch.quantize.codebooks import load_codebook
from onesearch.quantize.product import fit_product, quantize_product, reconstruct_product
from onesearch.quantize.residual import fit_residual
from onesearch.quantize.rq_opq import RqOpq, RqOpqRecipe

RQ, OPQ = (1024, 1024, 512), (256, 256)
THREADS = 2
Floats = NDArray[np.float32]
Books = list[Floats]


class Run(NamedTuple):
    """What one process measured."""

    cpu: float  # seconds
    wall: float  # seconds
    memory: float  # MB above the vectors
    figures: dict[str, float]  # of quality, by name


def draw_vectors(number: int, width: int, seed: int = 0) -> Tensor:
    """[number, width] of length 1: 300 clusters whose sizes follow a power law, ten smaller ones in each, noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse, fine = (torch.randn(rows, width, generator=generator) for rows in (300, 3000))
    clusters = torch.multinomial(torch.arange(1, 301).double() ** -0.7, number, True, generator=generator)
    nested = clusters * 10 + torch.multinomial(torch.arange(1, 11).double() ** -0.7, number, True, generator=generator)
    drawn = torch.empty(number, width)
    for start in range(0, number, 100_000):
        rows = slice(start, start + 100_000)
        noise = torch.randn(drawn[rows].shape, generator=generator) * torch.rand(
            len(drawn[rows]), 1, generator=generator
        )
        drawn[rows] = normalize(coarse[clusters[rows]] + 0.6 * fine[nested[rows]] + 0.4 * noise)
    return drawn


# Fits of RQ: vectors to one codebook a level.


def fit_ours(vectors: Floats, effort: Any) -> Books:
    """Ours."""
    layers, _ = fit_residual(torch.from_numpy(vectors), RQ, 0, effort, normalize=False, slack=None)
    return [layer.centroids.numpy() for layer in layers]


def fit_loop(vectors: Floats) -> Books:
    """k-means of faiss, level by level."""
    rest, books = vectors.copy(), []
    for level, size in enumerate(RQ):
        trainer: Any = faiss.Kmeans(rest.shape[1], size, niter=25, seed=1234 + level, max_points_per_centroid=10**9)
        trainer.train(rest)
        codes = trainer.index.search(rest, 1)[1][:, 0]
        rest -= trainer.centroids[codes]
        books.append(trainer.centroids)
    return books


def fit_faiss(vectors: Floats) -> Books:
    """The residual quantizer of faiss."""
    quantizer = _faiss_residual(vectors.shape[1])
    quantizer.train(vectors)
    flat = faiss.vector_to_array(quantizer.codebooks).reshape(-1, vectors.shape[1])
    return list(np.split(flat, np.cumsum(RQ)[:-1]))


def fit_minibatch(vectors: Floats) -> Books:
    """MiniBatchKMeans of scikit-learn, level by level."""
    from sklearn.cluster import MiniBatchKMeans  # type: ignore[import-untyped]

    rest, books = vectors.copy(), []
    for level, size in enumerate(RQ):
        model = MiniBatchKMeans(size, batch_size=4096, n_init=1, random_state=level).fit(rest)
        rest -= model.cluster_centers_[model.labels_]
        books.append(model.cluster_centers_)
    return books


FITS: dict[str, Callable[[Floats], Books]] = {
    "exact": partial(fit_ours, effort="exact"),
    "fast": partial(fit_ours, effort="fast"),
    "a loop of faiss.Kmeans": fit_loop,
    "faiss.ResidualQuantizer": fit_faiss,
    "a loop of MiniBatchKMeans": fit_minibatch,
}


def run_fit(folder: Path, name: str) -> Run:
    """Fit RQ, then code the vectors with it; the rest that ours leaves is kept for OPQ."""
    vectors = np.load(folder / "vectors.npy")
    measured, books = _measured(lambda: FITS[name](vectors))
    codebook = _with_books(books)
    codes = codebook.encode(torch.from_numpy(vectors))
    if name == "exact":
        np.save(folder / "rest.npy", vectors - codebook.decode(codes).numpy())
    error = _error(torch.from_numpy(vectors), codebook.decode(codes))
    return measured._replace(figures={"error": error, "ICR": items_alone(codes.numpy())})


def fit_opq_ours(vectors: Floats) -> Callable[[Tensor], Tensor]:
    """Our OPQ, as what codes and decodes vectors."""
    rotation, books = fit_product(torch.from_numpy(vectors), OPQ, 0)
    return lambda part: reconstruct_product(quantize_product(part, rotation, books), rotation, books)


def fit_opq_faiss(vectors: Floats) -> Callable[[Tensor], Tensor]:
    """OPQ of faiss, likewise."""
    transform: Any = faiss.OPQMatrix(vectors.shape[1], len(OPQ))
    transform.train(vectors)
    quantizer: Any = faiss.ProductQuantizer(vectors.shape[1], len(OPQ), 8)
    quantizer.train(transform.apply(vectors))

    def decoded(part: Tensor) -> Tensor:
        codes = quantizer.compute_codes(transform.apply(part.numpy()))
        return torch.from_numpy(transform.reverse_transform(quantizer.decode(codes)))

    return decoded


def run_opq(folder: Path, name: str) -> Run:
    """Fit OPQ."""
    rest = np.load(folder / "rest.npy")
    fit = fit_opq_ours if name == "exact" else fit_opq_faiss
    measured, decoded = _measured(lambda: fit(rest))
    parts = torch.from_numpy(rest).split(16_384)
    return measured._replace(figures={"error": _error(torch.from_numpy(rest), torch.cat([decoded(p) for p in parts]))})


# Encoding.


def encode_faiss(codebook: RqOpq, vectors: Floats, unpack: Callable[[Any], Any]) -> NDArray[np.int64]:
    """Five codes a vector by faiss with our codebooks."""
    residual = _faiss_residual(codebook.dim)
    books = [codebook.level_centroids(level).numpy() for level in range(len(RQ))]
    faiss.copy_array_to_vector(np.concatenate(books).ravel(), residual.codebooks)
    residual.is_trained = True
    residual.compute_codebook_tables()
    product = faiss.ProductQuantizer(codebook.dim, len(OPQ), 8)
    tables = np.concatenate([codebook.get_buffer(f"opq_{number}").numpy().ravel() for number in range(len(OPQ))])
    faiss.copy_array_to_vector(tables, product.centroids)
    packed = residual.compute_codes(vectors)
    rest = vectors - residual.decode(packed)
    return np.concatenate([unpack(packed), product.compute_codes(rest @ codebook.rotation.numpy().T)], axis=1)


def unpack_rows(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Codes of 10, 10 and 9 bits, lowest first, row by row."""
    rows = []
    for row in packed:
        bits = int.from_bytes(row.tobytes(), "little")
        codes = []
        for size in RQ:
            codes.append(bits % size)
            bits //= size
        rows.append(codes)
    return np.array(rows)


def unpack_numpy(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The same, all at once."""
    bits = packed.astype(np.int64) @ (1 << 8 * np.arange(packed.shape[1]))
    return np.stack([bits % 1024, bits // 1024 % 1024, bits // 1024**2], axis=1)


ENCODERS: dict[str, Callable[[RqOpq, Floats], NDArray[np.int64]]] = {
    "RqOpq.encode": lambda codebook, vectors: codebook.encode(torch.from_numpy(vectors)).numpy(),
    "faiss, unpacked row by row": partial(encode_faiss, unpack=unpack_rows),
    "faiss, unpacked with numpy": partial(encode_faiss, unpack=unpack_numpy),
}


def run_encode(folder: Path, name: str) -> Run:
    """Encode; the codes are kept to be compared."""
    vectors, codebook = np.load(folder / "vectors.npy"), load_codebook(folder / "codebook.safetensors")
    assert isinstance(codebook, RqOpq)
    measured, codes = _measured(lambda: ENCODERS[name](codebook, vectors))
    np.save(folder / f"{name}.npy", codes)
    return measured


def count_differences(folder: Path, name: str) -> dict[str, float]:
    """Rows whose codes differ from ours, and those of them where float64 sees more than a tie."""
    ours, peers = np.load(folder / "RqOpq.encode.npy"), np.load(folder / f"{name}.npy")
    rows = (ours != peers).any(axis=1).nonzero()[0]
    codebook = load_codebook(folder / "codebook.safetensors").double()
    assert isinstance(codebook, RqOpq)
    vectors = torch.from_numpy(np.load(folder / "vectors.npy")[rows]).double()
    unexplained = 0
    for vector, mine, theirs in zip(vectors, ours[rows], peers[rows], strict=True):
        level = int((mine != theirs).argmax())  # after the first difference the rests differ, and all the rest may
        rest = vector - sum(codebook.level_centroids(before)[mine[before]] for before in range(min(level, len(RQ))))
        if level >= len(RQ):
            number, width = level - len(RQ), codebook.dim // len(OPQ)
            rest, book = (codebook.rotation @ rest)[number * width :][:width], codebook.get_buffer(f"opq_{number}")
        else:
            book = codebook.level_centroids(level)
        gap = (rest - book[theirs[level]]).square().sum() - (rest - book[mine[level]]).square().sum()
        unexplained += not 0 <= gap < 1e-5
    return {"rows coded alike": len(rows), "alike or tied (gap < 1e-5)": unexplained}


# The whole recipe.


def run_recipe(folder: Path, name: str) -> Run:
    """Fit and encode; with a balanced third layer or without."""
    vectors = torch.from_numpy(np.load(folder / "vectors.npy"))
    recipe = RqOpqRecipe(RQ, OPQ, normalize_residuals="raw" not in name)
    recipe = replace(recipe, slack=None) if "not balanced" in name else recipe
    fitted, codebook = _measured(lambda: recipe.fit(vectors))
    encoded, codes = _measured(lambda: codebook.encode(vectors, recipe.slack).numpy())
    figures = {
        "CUR, total": utilisation(codes, RQ)[-1],
        "ICR of RQ": items_alone(codes[:, : len(RQ)]),
        "ICR": items_alone(codes),
        "error": _error(vectors, codebook.decode(torch.from_numpy(codes))),
        "largest code of layer 3": np.bincount(codes[:, 2]).max().item(),
        "encode, CPU s": encoded.cpu,
    }
    return fitted._replace(memory=fitted.memory + encoded.memory, figures=figures)


RUNS: dict[str, Callable[[Path, str], Run]] = {
    "fit": run_fit,
    "opq": run_opq,
    "encode": run_encode,
    "recipe": run_recipe,
}


# Measuring.


def _measured(work: Callable[[], Any]) -> tuple[Run, Any]:
    before, wall, cpu = _peak_megabytes(), time.perf_counter(), time.process_time()
    result = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Run(cpu, wall, _peak_megabytes() - before, {}), result


def _peak_megabytes() -> float:
    """VmHWM; `ru_maxrss` would start at what the parent held."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def take_turns(kind: str, folder: Path, names: list[str], rounds: int) -> dict[str, Run]:
    """The best of each name's runs, each in a process of its own."""
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            command = [sys.executable, "-m", "benchmarks.quantize", "--run", kind, name, str(folder)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            runs[name].append(Run(*json.loads(output.splitlines()[-1])))
            print(kind, name, runs[name][-1], file=sys.stderr, flush=True)
    return {name: min(taken, key=lambda run: run.cpu) for name, taken in runs.items()}


def compare(case: str, ours: Run, peer: Run, peer_name: str) -> list[Row]:
    """Time, memory and quality."""
    rows = [Row(case, f"{clock} s", *pair, peer_name) for clock, pair in _clocks(ours, peer).items()]
    rows.append(Row(case, "peak MB", ours.memory, peer.memory, peer_name))
    return rows + [Row(case, metric, ours.figures[metric], peer.figures[metric], peer_name) for metric in ours.figures]


def _clocks(ours: Run, peer: Run) -> dict[str, tuple[float, float]]:
    return {"CPU": (ours.cpu, peer.cpu), "wall": (ours.wall, peer.wall)}


def measure_fit(folder: Path, scale: float, rounds: int) -> list[Row]:
    """RQ at two widths, then OPQ."""
    rows = []
    for number, width in ((200_000, 64), (100_000, 768)):
        np.save(folder / "vectors.npy", draw_vectors(round(number * scale), width).numpy())
        best = take_turns("fit", folder, list(FITS), rounds)
        for ours in ("exact", "fast"):
            for peer in list(FITS)[2:]:
                rows += compare(f"fit RQ, {width} dims, {ours}", best[ours], best[peer], peer)
        if width == 64:
            opq = take_turns("opq", folder, ["exact", "faiss.OPQMatrix"], rounds)
            rows += compare("fit OPQ, 64 dims, exact", opq["exact"], opq["faiss.OPQMatrix"], "faiss.OPQMatrix, its PQ")
    return rows


def measure_encode(folder: Path, scale: float, rounds: int) -> list[Row]:
    """Five codes."""
    vectors = draw_vectors(round(1_000_000 * scale), 64)
    np.save(folder / "vectors.npy", vectors.numpy())
    recipe = RqOpqRecipe(RQ, OPQ, normalize_residuals=False, slack=None, effort="fast")
    recipe.fit(vectors[: round(200_000 * scale)]).save(folder / "codebook.safetensors")
    del vectors
    ours, *peers = take_turns("encode", folder, list(ENCODERS), rounds).items()
    rows = []
    for name, peer in peers:
        rows += compare("encode 1 M, 64 dims", ours[1], peer, name)
        number = round(1_000_000 * scale)
        for metric, count in count_differences(folder, name).items():
            rows.append(Row("encode 1 M, 64 dims", metric, number - count, number, name))
    return rows


def measure_balance(folder: Path, scale: float, rounds: int) -> list[Row]:
    """The third layer with a cap."""
    number = round(200_000 * scale)
    np.save(folder / "vectors.npy", draw_vectors(number, 64).numpy())
    names = [kind + fit for kind in ("", "raw, ") for fit in ("balanced", "not balanced")]
    best = take_turns("recipe", folder, names, rounds)
    rows = []
    for kind, case in (
        ("", "fit RQ-OPQ, 64 dims, balanced"),
        ("raw, ", "fit RQ-OPQ, 64 dims, raw residuals, balanced"),
    ):
        balanced, free = best[f"{kind}balanced"], best[f"{kind}not balanced"]
        rows += compare(case, balanced, free, "the same, not balanced")
        largest = balanced.figures["largest code of layer 3"]
        rows.append(Row(case, "largest code of layer 3", largest, capacity(number, RQ[2], 1.1), "its cap"))
    return rows


def measure_memory(folder: Path, scale: float, rounds: int) -> list[Row]:
    """The recipe as a whole."""
    vectors = draw_vectors(round(1_000_000 * scale), 64).numpy()
    np.save(folder / "vectors.npy", vectors)
    megabytes = vectors.nbytes / 2**20
    del vectors
    run = take_turns("recipe", folder, ["balanced"], 1)["balanced"]
    return [Row("fit and encode 1 M, 64 dims", "peak MB", run.memory, megabytes, "the embeddings themselves")]


MEASURES = {"fit": measure_fit, "encode": measure_encode, "balance": measure_balance, "memory": measure_memory}


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of vectors")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=MEASURES, action="append")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)  # what a process of its own is asked
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    faiss.omp_set_num_threads(THREADS)
    if arguments.run:
        kind, name, folder = arguments.run
        print(json.dumps(RUNS[kind](Path(folder), name)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only or MEASURES:
            rows += MEASURES[name](Path(folder), arguments.scale, arguments.rounds)
    show(f"RQ {RQ}, OPQ {OPQ}, {THREADS} threads, scale {arguments.scale:g}", rows, arguments.json)


def _faiss_residual(width: int) -> Any:
    bits = faiss.UInt64Vector()
    for size in RQ:
        bits.push_back(size.bit_length() - 1)
    quantizer: Any = faiss.ResidualQuantizer(width, bits)  # type: ignore[call-overload]
    quantizer.max_beam_size = 1
    return quantizer


def _with_books(books: Books) -> RqOpq:
    codebook = RqOpq(RQ, (), books[0].shape[1], normalize_residuals=False)
    for level, book in enumerate(books):
        codebook.get_buffer(f"rq_{level}").copy_(torch.from_numpy(book))
    return codebook


def _error(vectors: Tensor, decoded: Tensor) -> float:
    return (vectors - decoded).square().sum(dim=1).mean().item()


if __name__ == "__main__":
    main()
