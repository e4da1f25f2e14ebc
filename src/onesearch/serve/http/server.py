"""The process: it listens, reloads on SIGHUP, and on SIGTERM finishes what it has begun before it exits with 0."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import uvicorn

from onesearch.serve.http.app import create_app
from onesearch.serve.reranking import Reranking
from onesearch.serve.service import Service
from onesearch.serve.settings import Batching, Limits, Memory
from onesearch.serve.telemetry import log, log_to_stderr
from onesearch.types import UserError

KEY_VARIABLE = "ONESEARCH_API_KEY"


class Server(uvicorn.Server):
    """uvicorn's, but that signals are ours: it would re-raise SIGTERM, and the exit code would not be 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def serve_run(
    run: Path,
    stages: Sequence[str],
    host: str,
    port: int,
    num_beams: int,
    threads: int,
    events: Path | None,
    api_key_file: Path | None,
    log_queries: bool,
    drain_seconds: float,
    limits: Limits,
    batching: Batching,
    memory: Memory,
    rerank: bool,
    reranking: Reranking,
) -> None:
    """Serve a run until a signal ends it; see `onesearch.commands.serve`.

    Raises:
        UserError: the run cannot be served, the key cannot be read, or the port is taken.
    """
    log_to_stderr()
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    key = read_key(api_key_file)
    service = Service(run, stages, num_beams, limits, batching, memory, events, rerank, reranking)
    app = create_app(service, key, log_queries)
    config = uvicorn.Config(
        app, host, port, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=5
    )
    asyncio.run(run_server(Server(config), service, drain_seconds))


def read_key(path: Path | None) -> str | None:
    """The API key: the first line of a file, or of the environment.

    Raises:
        UserError: the file cannot be read, or the key is too short to be one.
    """
    if path is None:
        key = os.environ.get(KEY_VARIABLE, "")
    else:
        try:
            key = path.read_text("utf-8").strip()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): it should hold the API key.") from error
    where = path or KEY_VARIABLE
    if (path is not None or key) and (len(key) < 16 or not key.isascii() or not key.isprintable()):
        raise UserError(f"{where}: an API key needs 16 or more plain characters.")
    return key or None


async def run_server(server: Server, service: Service, drain_seconds: float) -> None:
    """Listen until a signal asks to end.

    Raises:
        UserError: nothing could be listened to.
    """
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()  # the loop itself keeps none

    def start(what: "asyncio.Task[None]") -> None:
        tasks.add(what)
        what.add_done_callback(tasks.discard)

    async def end() -> None:
        log("draining", told={"in_flight": service.num_in_flight})
        await service.drain(drain_seconds)
        server.should_exit = True

    asked_to_reload = asyncio.Event()

    async def reload_when_asked() -> None:
        while await asked_to_reload.wait():
            asked_to_reload.clear()  # who asks from here on wants what is there by then: once more
            with contextlib.suppress(Exception):  # the log says why; what is served goes on
                await service.reload(waits=True)

    def asked_to_end() -> None:
        if service.is_draining:
            log("ended at once", told={"in_flight": service.num_in_flight})
            exit_now(1)
        else:
            service.is_draining = True
            start(loop.create_task(end()))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_end)
    loop.add_signal_handler(signal.SIGHUP, asked_to_reload.set)
    start(loop.create_task(reload_when_asked()))
    try:
        await listen(server, service)
    finally:
        # Beside the loop, which still hears a second signal. What computes has nobody left who waits for it.
        await asyncio.to_thread(service.close, 1)
    log("ended")
    if service.batcher.is_alive or service.is_reloading:  # Python would wait for their threads
        exit_now(0)


async def listen(server: Server, service: Service) -> None:
    """Answer until `server.should_exit`.

    Raises:
        UserError: the port is taken.
    """
    config = server.config
    try:
        listening = config.bind_socket()
    except SystemExit as error:  # uvicorn's way to say that it cannot bind
        raise UserError(f"{config.host}:{config.port} cannot be listened to: name a free port with --port.") from error
    host, port = listening.getsockname()[:2]
    listening.listen(config.backlog)  # who reads the line below may connect at once
    served = service.generation
    told = {"run": served.run.name, "stages": list(served.engines), "host": host, "port": port}
    log("serving", told=told)
    print(f"OneSearch answers at http://{host}:{port} (Ctrl-C ends it)", flush=True)
    await server.serve(sockets=[listening])


def exit_now(code: int) -> None:
    """End without waiting for threads: none of them can be stopped in the middle of a model."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
