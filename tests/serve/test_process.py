"""The real process: it starts by the verb, reads the run again on SIGHUP, and ends with 0 when it has answered."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

from handful import refusal


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


def test_from_start_to_end(tiny_run_copy, tmp_path):
    """At a free port; an event is on disk; after SIGHUP a new version answers; SIGTERM under load exits with 0."""
    logged = tmp_path / "log"
    command = [sys.executable, "-m", "onesearch.main", "serve", "--run", str(tiny_run_copy), "--port", "0"]
    options = ["--num_beams", "8", "--threads", "1", "--limits.rate", "0", "--stages", "[sft_personalize]"]
    with logged.open("w") as stderr:
        process = subprocess.Popen(command + options, stdout=subprocess.PIPE, stderr=stderr, text=True, env=os.environ)
    try:
        port = int(process.stdout.readline().split("http://127.0.0.1:")[1].split()[0])
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
        process.send_signal(signal.SIGTERM)
        told = len(statuses)
        assert process.wait(20) == 0
        for shopper in shoppers:
            shopper.join(20)
        assert set(statuses) == {200, 503}
        assert set(statuses[: told - 4]) == {200}
    finally:
        process.kill()
    lines = [json.loads(line) for line in logged.read_text().splitlines()]
    assert [line["event"] for line in lines if line["event"] != "request"] == [
        "serving",
        "reloaded",
        "draining",
        "ended",
    ]


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
            capsys, "serve", "--run", str(tiny_run), "--port", port, "--num_beams", "4", *events
        )


def test_without_its_extra_it_says_what_to_install(tiny_run, monkeypatch, capsys):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'onesearch[serve]'" in refusal(capsys, "serve", "--run", str(tiny_run))


@pytest.fixture(autouse=True)
def _logs_as_before():
    """Serving sends logs to stderr; the tests after this one should not."""
    import logging

    loggers = [logging.getLogger(name) for name in ("onesearch.serve", "uvicorn.error")]
    before = [(logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
