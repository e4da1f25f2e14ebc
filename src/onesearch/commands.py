"""The verbs that are no stages, as typed functions."""

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from jsonargparse.typing import register_type
from rich.console import Console

from onesearch.log.sources import Source
from onesearch.log.split import Split
from onesearch.serve.filtering import TypedFilter
from onesearch.serve.reranking import Reranking
from onesearch.serve.settings import Batching, Limits, Memory
from onesearch.simulate.marketplace import Marketplace
from onesearch.tasks.prompt import Views


def prepare(source: Source, run: Path, split: Split = Split(), max_history: int = 1000) -> None:  # noqa: B008
    """Read a log, validate it, and write its canonical and derived tables to RUN/log.

    Args:
        source: where the log comes from.
        run: the run folder.
        split: where training ends and the test begins.
        max_history: longest click and order sequence of a search.
    """
    from onesearch.log.prepare import prepare as prepare_log

    report = prepare_log(source, run / "log", split, max_history)
    Console(stderr=True).print(report)


def simulate(run: Path, marketplace: Marketplace = Marketplace(), split: Split = Split()) -> None:  # noqa: B008
    """Simulate a marketplace and write its log to RUN/log.

    Args:
        run: the run folder.
        marketplace: its size, its shape and its seed.
        split: where training ends and the test begins.
    """
    from onesearch.simulate.simulator import Simulator

    prepare(Simulator(marketplace), run, split)


def pipeline(
    run: Path,
    recipe: Path = Path("configs/demo"),
    data: Path | None = None,
    test_from: datetime.date | None = None,
    until: str | None = None,
    seed: int | None = None,
    stages: bool = False,
    begin: str | None = None,
    end: str | None = None,
) -> None:
    """Run every stage that is not up to date: the whole of OneSearch.

    Where something else starts processes, as SLURM does, `--stages`, `--begin` and `--end` hand it the work: nothing is
    run then.

    Args:
        run: the run folder.
        recipe: a folder of overlays over configs/STAGE.yaml, and log.yaml.
        data: the folder that the recipe's source reads, where it reads one.
        test_from: the first day of the test split.
        until: the last stage to run; all when not given.
        seed: of all random choices of the stages, not of the log; their configurations' when not given.
        stages: print a line a stage, its name and what it can use: `cpu`, `one` device, or `all`.
        begin: note that this stage begins, and print its commands, after the word that says how many processes run
            each, `one` or `all`; nothing when the stage is up to date.
        end: note that the commands of this stage have succeeded.
    """
    from onesearch import handover, pipeline

    options = [] if data is None else ["--source.folder", str(data)]
    options += [] if test_from is None else ["--split.test_from", test_from.isoformat()]
    if stages:
        lines = handover.stages(recipe, until)
    elif begin or end:
        lines = handover.begin(begin, run, recipe, options, seed) if begin else handover.end(end or "", run, recipe)
    else:
        lines = []
        pipeline.run_pipeline(run, recipe, options, until, seed)
    for line in lines:
        print(line)


def compare(
    run: Path,
    num_beams: int = 64,
    batch_size: int = 64,
    reranking: Reranking = Reranking(),  # noqa: B008
) -> None:
    """Set every trained stage beside the baselines on the test searches; write RUN/compare.json and compare.png.

    Args:
        run: the run folder.
        num_beams: K of the beam search.
        batch_size: searches answered at once.
        reranking: how the reward model re-sorts the lists of the last stage.
    """
    from onesearch.evaluate.run import compare_run

    compare_run(run, num_beams, batch_size, reranking)


def ablate(
    run: Path,
    recipe: Path = Path("configs/demo"),
    study: Path = Path("configs/ablation/views"),
    seeds: tuple[int, ...] = (0,),
    only: list[str] | None = None,
    num_beams: int = 64,
    table: bool = True,
) -> None:
    """Train the variants of a study with the same budget and set them side by side; write RUN/ablation/STUDY.json.

    Args:
        run: a run whose earlier stages are finished.
        recipe: the recipe of that run, over which the study's overlays are laid.
        study: a folder with a folder of overlays for each variant; the first is what the others are compared with.
        seeds: each variant is trained once with each; [0,1,2] shows what chance does.
        only: the variants to train now; all when not given.
        num_beams: K of the beam search.
        table: false: train only; a later call judges, as where each variant is trained by a job of its own.
    """
    from onesearch.ablation.run import run_study
    from onesearch.ablation.study import Study
    from onesearch.report.terminal import study_tables

    for part in study_tables(run_study(run, Study.open(study, recipe), seeds, only or [], num_beams, table)):
        Console().print(part)


def catalogue(run: Path, version: int | None = None) -> None:
    """List the versions of a run's catalogue, or serve another one.

    Args:
        run: the run folder.
        version: the version to serve from now on; 0 is the catalogue as it was fitted.
    """
    from onesearch.sid.versions import FITTED, current_version, switch, versions

    if version is not None:
        switch(run, version)
    for number in versions(run):
        mark = "→" if number == current_version(run) else " "
        Console().print(f"{mark} version {number}" + (" (as fitted)" if number == FITTED else ""))


def report(run: Path) -> None:
    """Write what the run has left behind to RUN/report.html: one page that needs no network.

    Args:
        run: the run folder.
    """
    from onesearch.report.run import write_report

    Console(markup=False, soft_wrap=True).print(write_report(run))


def search(
    query: str,
    run: Path = Path("runs/demo"),
    user: str | None = None,
    k: int = 10,
    stage: str | None = None,
    num_beams: int = 64,
    rerank: bool = False,
    reranking: Reranking = Reranking(),  # noqa: B008
    filter: TypedFilter = TypedFilter(),  # noqa: B008
) -> None:
    """Answer a query with a trained run.

    Args:
        query: what the shopper types.
        run: the run folder.
        user: whose behaviour is known; nobody's when not given.
        k: number of items.
        stage: the generator to use; the last one that is trained when not given.
        num_beams: K of the beam search.
        rerank: whether the reward model re-sorts the list; the parts of its score are printed then.
        reranking: how it does.
        filter: what an item must be to be shown.
    """
    from onesearch.log.prepared import Log
    from onesearch.serve.engine import SearchEngine
    from onesearch.serve.reranker import Reranker, doubt
    from onesearch.serve.show import hits_table

    log = Log.open(run / "log")
    engine = SearchEngine.open(run, stage, num_beams=num_beams)
    log = log.with_items(engine.khqe.added_items)
    reranker = Reranker.open(run, engine.khqe, log, settings=reranking) if rerank else None
    if rerank and (sentence := doubt(run)):
        Console(stderr=True, soft_wrap=True).print(sentence, style="yellow")
    hits = engine.search(log, query, user, k, reranker, filter)
    passing = f"  ({filter}: {engine.filters(log).of(filter).num_items:,} of {len(log.items):,} items)"
    title = f"{query}" + (f"  (user {user})" if user else "") + passing
    table = hits_table(hits, log, title, reranker.formula if reranker else None)
    Console(markup=False).print(table)  # a title may hold [brackets]


def export(run: Path, stage: str | None = None, folder: Path | None = None, num_checked: int = 32) -> None:
    """Write a stage's generator as ONNX, and check that it searches as torch does.

    Each stage's folder in the run is a Hugging Face folder as it is.

    Args:
        run: the run folder.
        stage: whose generator; the last one that is trained when not given.
        folder: where to; RUN/onnx when not given.
        num_checked: searches of the test split that both answer.
    """
    from onesearch.serve.onnx import export_run

    folder = folder or run / "onnx"
    facts = export_run(run, folder, stage, num_checked)
    Console(markup=False, soft_wrap=True).print(
        f"{folder}: {facts['num_same_lists']} of {facts['num_searches']} searches have the same list as with torch, "
        f"scores differ by {facts['largest_difference']:.1e} at most"
    )


def serve(
    run: Path = Path("runs/demo"),
    stages: list[str] | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    num_beams: int = 64,
    threads: int = 0,
    events: Path | None = None,
    api_key_file: Path | None = None,
    log_queries: bool = False,
    drain_seconds: float = 30.0,
    limits: Limits = Limits(),  # noqa: B008
    batching: Batching = Batching(),  # noqa: B008
    memory: Memory = Memory(),  # noqa: B008
    rerank: bool = False,
    reranking: Reranking = Reranking(),  # noqa: B008
) -> None:
    """Answer searches over HTTP, with a page to try them, until SIGTERM or Ctrl-C; SIGHUP reads the run again.

    Args:
        run: the run folder.
        stages: the stages to offer, the first one by default; all that are trained, the last one first, when not given.
        host: the address to listen at; 0.0.0.0 is every one of the machine.
        port: the port; 0 takes a free one.
        num_beams: K of the beam search where a request does not ask for its own.
        threads: of the models; one a processor when 0.
        events: the file that keeps what shoppers do; RUN/serve/events.jsonl when not given.
        api_key_file: holds the key that clients must show; the environment's ONESEARCH_API_KEY when not given.
        log_queries: write queries to the log, which names no shopper otherwise either.
        drain_seconds: how long searches that have begun may take to end.
        limits: what a request and a client may ask for.
        batching: how searches that wait are answered together.
        memory: what is kept in memory.
        rerank: whether the reward model re-sorts lists where a request does not say.
        reranking: how it does.
    """
    from importlib.util import find_spec

    from onesearch.types import UserError

    if not all(map(find_spec, ("fastapi", "uvicorn", "prometheus_client"))):
        raise UserError("`onesearch serve` needs more packages: install them with pip install 'onesearch[serve]'.")
    from onesearch.serve.http.server import serve_run

    serve_run(
        run,
        stages or (),
        host,
        port,
        num_beams,
        threads,
        events,
        api_key_file,
        log_queries,
        drain_seconds,
        limits,
        batching,
        memory,
        rerank,
        reranking,
    )


def samples(
    run: Path,
    stage: str | None = None,
    views: Views = Views(),  # noqa: B008
    template: str = "markers",
    tokenizer: str | None = None,
    seed: int = 0,
) -> None:
    """Print a sample of each task of the generator's three stages, as the run's own log and SIDs give it.

    Args:
        run: a run whose log and quantizer are finished.
        stage: a trained stage whose views, template and tokenizer are used in place of the next three.
        views: what the prompt of a search shows.
        template: the words of the prompts: `markers`, `en`, `zh` or a YAML file's path.
        tokenizer: a pretrained tokenizer by name; the run's own one when not given.
        seed: of the choice of examples.
    """
    from onesearch.data.samples import open_samples
    from onesearch.tasks.show import show_samples

    console = Console(markup=False, highlight=False, soft_wrap=True)
    for block in show_samples(*open_samples(run, stage, views, template, tokenizer), seed):
        console.print(block, end="\n\n")


VERBS: list[Callable[..., Any] | type] = [
    prepare,
    simulate,
    pipeline,
    compare,
    ablate,
    catalogue,
    report,
    samples,
    search,
    serve,
    export,
]

EPILOG = (
    "One stage alone: onesearch {fit,validate,test,predict} --config configs/STAGE.yaml --run RUN; "
    "what a fit would take: onesearch plan, with the same options"
)

register_type(datetime.date, serializer=datetime.date.isoformat, deserializer=datetime.date.fromisoformat)


def run_command(arguments: Sequence[str]) -> None:
    """Parse the command line and run one verb; only a search's query goes without a flag."""
    auto_cli(
        VERBS,
        args=list(arguments),
        as_positional="search" in arguments[:1],
        prog="onesearch",
        epilog=EPILOG,
        exit_on_error=False,  # what is wrong is `main`'s to say
    )
