"""What a request meets before it is answered: counting and logging, then the reasons to refuse it.

Plain ASGI: a client that goes away is seen by what computes, and nothing is buffered.
"""

import hmac
import ipaddress
import json
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import HTTPException

from onesearch.serve.service import Service
from onesearch.serve.telemetry import log

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/", "/page", "/health")
"""What needs no key and has no limit: the page itself, and what watches over the service. `/metrics` needs the key."""


HEADERS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
PAGE_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"cache-control", b"no-cache"),
]


class TokenBuckets:
    """How often each client may ask: a bucket fills with `rate` tokens a second up to `burst`, and a request takes one.

    Args:
        rate: tokens a second; 0: no limit.
        burst: the most tokens of a bucket.
        most: clients that are remembered; who was not seen the longest is forgotten, and starts with a full bucket.
        clock: seconds.
    """

    def __init__(self, rate: float, burst: int, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._most, self._clock = rate, burst, most, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client → tokens, when

    def wait(self, client: str) -> float:
        """Take a token; the seconds until there is one where there is none, else 0."""
        if not self._rate:
            return 0.0
        now = self._clock()
        tokens, since = self._buckets.pop(client, (float(self._burst), now))
        tokens = min(tokens + (now - since) * self._rate, self._burst)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[client] = (tokens - (not wait), now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return wait


class Guard:
    """Refuses what is too much or not allowed, and answers for what fails.

    Args:
        app: what answers.
        service: its limits and its state.
        api_key: what a client must show; none: everybody may ask.
    """

    def __init__(self, app: App, service: Service, api_key: str | None) -> None:
        self._app = app
        self._service = service
        self._api_key = api_key.encode() if api_key else None
        limits = service.limits
        self._buckets = TokenBuckets(limits.rate, limits.burst, limits.clients)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, request_id = time.perf_counter(), 0, uuid.uuid4().hex
        metrics = self._service.metrics
        is_page = scope["path"] == "/" or scope["path"].startswith("/page/")

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(b"x-request-id", request_id.encode()), *HEADERS, *(PAGE_HEADERS if is_page else ())]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        self._service.num_in_flight += 1
        metrics.in_flight.inc()
        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self._app(scope, self._bounded(receive), send_named)
            else:
                metrics.refused.labels(refusal[1]).inc()
                await _refuse(send_named, *refusal)
        except Exception as error:
            log("failed", logging.ERROR, error, told={"request_id": request_id})
            if not status:
                sentence = f"The service failed; its log has more under {request_id}."
                await _refuse(send_named, 500, "internal", sentence)
        finally:
            self._service.num_in_flight -= 1
            metrics.in_flight.dec()
            route = getattr(scope.get("route"), "path", "other") or "/page"
            seconds = time.perf_counter() - start
            method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD", "OPTIONS") else "other"
            metrics.requests.labels(route, method, str(status)).inc()
            metrics.seconds.labels(route).observe(seconds)
            told = scope.get("state", {}).get("told", {})
            named = {"request_id": request_id, "route": route, "method": method, "status": status}
            log("request", told=named | {"milliseconds": round(seconds * 1000, 1)} | told)

    def _refusal(self, scope: Scope) -> tuple[int, str, str, float | None] | None:
        """Why a request is not let in: status, code, sentence, seconds to wait."""
        path, headers = scope["path"], dict(scope["headers"])
        if path in OPEN or path.startswith(("/page/", "/health/")):
            return None
        if self._service.is_draining:
            return 503, "draining", "This service is shutting down: ask another one.", 1
        is_let_in = self._api_key is None or hmac.compare_digest(_shown_key(headers), self._api_key)
        # Those without the key have a bucket of their own: they take nothing from those who have it at their address.
        wait = self._buckets.wait(_client(scope) + ("" if is_let_in else " without key"))
        if wait:
            return 429, "too_many_requests", f"Too many requests: wait {wait:.1f} seconds.", wait
        if not is_let_in:
            return 401, "unauthorized", "A valid API key is needed: send it in the header X-API-Key.", None
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._service.limits.body_bytes:
            return 413, "too_large", self._too_large, None
        return None

    def _bounded(self, receive: Receive) -> Receive:
        """Stops a body that is longer than it said, or did not say."""
        size = 0

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._service.limits.body_bytes:
                raise HTTPException(413, self._too_large)
            return message

        return bounded

    @property
    def _too_large(self) -> str:
        return f"The body may have {self._service.limits.body_bytes} bytes at most."


def _shown_key(headers: dict[bytes, bytes]) -> bytes:
    """The key that a request shows, in either of two customary headers."""
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    return headers.get(b"x-api-key") or (key.strip() if scheme.lower() == b"bearer" else b"")


def _client(scope: Scope) -> str:
    """Who asks: an address, or in IPv6 the /64 that one household or server has for itself."""
    address: str = (scope.get("client") or ("unknown",))[0]
    try:
        found = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    return str(found.ipv4_mapped or ipaddress.ip_network((int(found), 64), strict=False).network_address)


async def _refuse(send: Send, status: int, code: str, message: str, wait: float | None = None) -> None:
    body = json.dumps({"error": {"code": code, "message": message, "fields": []}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if wait is not None:
        headers.append((b"retry-after", str(max(1, round(wait + 0.5))).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status in (413, 503):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
