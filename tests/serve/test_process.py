"""The real process: it starts by the verb, reads the run again on SIGHUP, and ends with 0 when it has answered."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
import torch
import uvicorn
from inside import until

from handful import refusal
from onesearch.serve.events import EventStore
from onesearch.serve.generation import Generation
from onesearch.serve.http.app import create_app
from onesearch.serve.http.server import Server, run_server
from onesearch.serve.service import Service


def ask(port: int, path: str, body: object = None) -> tuple[int, dict]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def wait_for(holds) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it never came true")


@contextmanager
def served(run, logged, *options):
    """A process that serves a run, and its port."""
    command = [sys.executable, "-m", "onesearch.main", "serve", "--run", str(run), "--port", "0"]
    command += ["--num_beams", "8", "--threads", "1", "--limits.rate", "0", "--stages", "[sft_personalize]", *options]
    with logged.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=os.environ)
    try:
        wait_for(lambda: '"serving"' in logged.read_text() or process.poll() is not None)
        yield process, int(process.stdout.readline().split("http://127.0.0.1:")[1].split()[0])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_from_start_to_end(tiny_run_copy, tmp_path):
    """At a free port; an event is on disk; after SIGHUP a new version answers; SIGTERM under load exits with 0."""
    logged = tmp_path / "log"
    with served(tiny_run_copy, logged) as (process, port):
        health = ask(port, "/health")[1]
        assert (health["stages"], health["num_beams"]) == (["sft_personalize"], 8)
        event = {"user_id": "u0", "kind": "click", "item_id": "i03"}
        assert ask(port, "/events", {"events": [event]}) == (200, {"accepted": 1})
        assert len((tiny_run_copy / "serve" / "events.jsonl").read_text().splitlines()) == 1

        manifest = tiny_run_copy / "sft_personalize" / "manifest.json"
        told = json.loads(manifest.read_text())
        manifest.write_text(json.dumps(told | {"fingerprint": "0" * 16}))
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: ask(port, "/health")[1]["version"] == "0" * 16 + "-0")

        statuses: list[int] = []

        def keep_asking() -> None:
            while True:
                try:
                    statuses.append(ask(port, "/search", {"query": "red boots", "user_id": "u0"})[0])
                except OSError:  # nobody listens any more
                    return

        shoppers = [threading.Thread(target=keep_asking) for _ in range(4)]
        for shopper in shoppers:
            shopper.start()
        wait_for(lambda: len(statuses) > 20)
        told = len(statuses)  # all of them before the signal
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        for shopper in shoppers:
            shopper.join(20)
        assert set(statuses) <= {200, 503}  # 503 where a search ends before nobody listens any more
        assert set(statuses[:told]) == {200}
    lines = [json.loads(line) for line in logged.read_text().splitlines()]
    assert [line["event"] for line in lines if line["event"] != "request"] == [
        "serving",
        "reloaded",
        "draining",
        "ended",
    ]


async def burst(port: int, num_connections: int) -> list[int]:
    """Connections that are all open before the first of them asks; the statuses of their answers, 0 for none."""
    opened = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(num_connections)))

    async def search(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        writer.write(b"GET /search?q=red+boots HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        return int(answer.split()[1]) if answer else 0

    return await asyncio.gather(*(search(*pair) for pair in opened))


def test_sudden_connections_and_a_kill(tiny_run_copy, tmp_path):
    """A thousand at once are answered, or refused for a full queue; killed and started again it knows what it knew."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    num_connections = 1000 if hard >= 4096 else hard // 4
    with served(tiny_run_copy, tmp_path / "log", "--batching.max_queue", "64") as (process, port):
        event = {"user_id": "u0", "kind": "click", "item_id": "i03"}
        assert ask(port, "/events", {"events": [event]})[0] == 200
        statuses = asyncio.run(burst(port, num_connections))
        assert set(statuses) <= {200, 503, 504}  # 504: a slow machine, on which the queue's end waits too long
        assert {200, 503} <= set(statuses)
        status, before = ask(port, "/search", {"query": "blue kettle", "user_id": "u0"})
        assert status == 200
        process.kill()
        process.wait()
        with pytest.raises(OSError):
            ask(port, "/health")
    with served(tiny_run_copy, tmp_path / "log") as (_, port):
        status, after = ask(port, "/search", {"query": "blue kettle", "user_id": "u0"})
        assert status == 200
        assert after["hits"] == before["hits"]
        shopper = ask(port, "/users/u0")[1]
        assert "i03" in json.dumps(shopper)


def test_what_cannot_be_served_is_said(tmp_path, tiny_run, capsys):
    """A run that is not there, one without a generator or a reward model, a stage or a limit that is none."""
    (tmp_path / "empty").mkdir()
    for message, *options in (
        ("There is no run folder", "--run", str(tmp_path / "nowhere")),
        ("holds no trained generator yet", "--run", str(tmp_path / "empty")),
        ("No stage 'log' answers searches", "--run", str(tiny_run), "--stages", "[log]"),
        ("reward holds no finished artefact", "--run", str(tiny_run), "--rerank", "true"),
        ("reranking.list_size is 0", "--run", str(tiny_run), "--reranking.list_size", "0"),
        ("limits.k is 0", "--run", str(tiny_run), "--limits.k", "0"),
    ):
        assert message in refusal(capsys, "serve", *options)


def test_a_taken_port_is_said(tiny_run, tmp_path, capsys):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        events = ("--events", str(tmp_path / "events.jsonl"))
        assert f"127.0.0.1:{port} cannot be listened to" in refusal(
            capsys, "serve", "--run", str(tiny_run), "--port", port, "--num_beams", "4", "--threads", "1", *events
        )
    EventStore(tmp_path / "events.jsonl").close()  # it has let go of its file


def serve_until(service: Service, act) -> list[int]:
    """Listen in this process while `act` sends it signals; the codes that it would have ended with at once."""
    codes: list[int] = []

    async def serve() -> None:
        server = Server(uvicorn.Config(create_app(service), port=0, log_config=None, timeout_graceful_shutdown=1))
        running = asyncio.create_task(run_server(server, service, 0.3))
        await until(lambda: server.started)
        await act(server)
        await asyncio.wait_for(running, 10)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("onesearch.serve.http.server.exit_now", codes.append)
        asyncio.run(serve())
    return codes


def test_a_second_signal_ends_it_at_once(make_service):
    """While a request is still being answered."""
    service = make_service(stages=["sft_align"])

    async def act(server: Server) -> None:
        service.num_in_flight += 1
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: service.is_draining)
        os.kill(os.getpid(), signal.SIGTERM)

    assert serve_until(service, act) == [1]


def test_the_end_waits_for_no_run_that_is_being_loaded(make_service, monkeypatch):
    """A SIGHUP during a reload is kept for after it; a run that takes for ever to open holds up nothing."""
    service, opened, go = make_service(stages=["sft_align"]), [], threading.Event()
    before = service.generation

    def opens(*_: object) -> Generation:
        opened.append(1)
        assert len(opened) == 1 or go.wait(20)
        return before

    monkeypatch.setattr(Generation, "open", opens)

    async def act(server: Server) -> None:
        async with service._reloading:  # another one goes on
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0.05)
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0.05)
            assert opened == []
        await until(lambda: len(opened) == 2)
        assert service.is_reloading
        os.kill(os.getpid(), signal.SIGTERM)

    assert serve_until(service, act) == [0]
    go.set()


def test_without_its_extra_it_says_what_to_install(tiny_run, monkeypatch, capsys):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'onesearch[serve]'" in refusal(capsys, "serve", "--run", str(tiny_run))


@pytest.fixture(autouse=True)
def _as_before():
    """Serving sends logs to stderr and sets torch's threads; the tests after this one should have theirs."""
    import logging

    threads = torch.get_num_threads()
    loggers = [logging.getLogger(name) for name in ("onesearch.serve", "uvicorn.error")]
    before = [(logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
    torch.set_num_threads(threads)
