"""Metrics for Prometheus, and logs as JSON lines without personal data.

A log line names no shopper and no address, and a query only where the owner asks for it; an exception is told by its
type and place, since its message may repeat what was typed. Why a reload failed is told in words: they name files.
"""

import datetime
import json
import logging
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

LOGGER = logging.getLogger("onesearch.serve")

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)


class Metrics:
    """What is counted and measured; a registry of its own for each service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = self._counter("requests", "Requests by route, method and status.", "route", "method", "status")
        self.seconds = self._histogram("request_seconds", "From request to answer.", SECONDS, "route")
        self.refused = self._counter("refused", "Requests refused before they were computed.", "reason")
        self.in_flight = Gauge("onesearch_in_flight", "Requests that are being answered.", registry=self.registry)
        self.batch_size = self._histogram("batch_size", "Searches of a batch.", (1, 2, 4, 8, 16, 32, 64, 128))
        self.batch_seconds = self._histogram("batch_seconds", "To compute a batch.", SECONDS)
        self.waited = self._histogram("queue_seconds", "That a search waited for its batch.", SECONDS)
        self.events = self._counter("events", "Events taken, by kind.", "kind")
        self.reloads = self._counter("reloads", "Reloads by outcome.", "outcome")
        self.served = Gauge("onesearch_served", "What is served.", ["run", "stage", "version"], registry=self.registry)

    def watch(self, name: str, documentation: str, measure: Callable[[], float]) -> None:
        """A gauge that is measured when it is read."""
        Gauge(f"onesearch_{name}", documentation, registry=self.registry).set_function(measure)

    def batch_done(self, size: int, seconds: float, waited: Sequence[float]) -> None:
        """See `batcher.Observer`."""
        self.batch_size.observe(size)
        self.batch_seconds.observe(seconds)
        for one in waited:
            self.waited.observe(one)

    def serves(self, run: str, stage: str, version: str) -> None:
        """Another run is served from now on."""
        self.served.clear()
        self.served.labels(run, stage, version).set(1)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"onesearch_{name}", documentation, labels, registry=self.registry)

    def _histogram(self, name: str, documentation: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"onesearch_{name}", documentation, labels, buckets=buckets, registry=self.registry)


class JsonLines(logging.Formatter):
    """A record as one JSON object; what is passed as `extra={"told": {..}}` joins it."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": time, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= getattr(record, "told", {})
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = type(error).__name__
            line["at"] = [f"{place.filename}:{place.lineno}" for place in traceback.extract_tb(error.__traceback__)]
        return json.dumps(line, ensure_ascii=False)


def log(
    event: str, level: int = logging.INFO, error: BaseException | None = None, told: Mapping[str, object] | None = None
) -> None:
    """Write a line of log: what happened, and what is told of it."""
    LOGGER.log(level, event, exc_info=error, extra={"told": told or {}})


def log_to_stderr() -> None:
    """Send our lines and those of uvicorn to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in (LOGGER.name, "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == LOGGER.name else logging.WARNING)
