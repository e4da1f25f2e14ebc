"""Clients of an application in this process."""

import asyncio
from collections.abc import Callable

import httpx
from fastapi import FastAPI


def found(client: httpx.Client, **body: object) -> dict:
    """The answer to a search, which has to succeed."""
    answer = client.post("/search", json=body)
    assert answer.status_code == 200, answer.text
    told: dict = answer.json()
    return told


def http(app: FastAPI) -> httpx.Client:
    """A synchronous client."""
    return httpx.Client(transport=Inside(app), base_url="http://test")


def asynchronous(app: FastAPI) -> httpx.AsyncClient:
    """A client for several requests at once."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", timeout=30)


async def until(holds: Callable[[], object]) -> None:
    """Wait for a condition, ten seconds at most."""
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


class Inside(httpx.BaseTransport):
    """A synchronous client of an application in this process."""

    def __init__(self, app: FastAPI) -> None:
        self.inner = httpx.ASGITransport(app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def answer() -> httpx.Response:
            content = request.read()
            asked = httpx.Request(request.method, request.url, headers=request.headers, content=content)
            response = await self.inner.handle_async_request(asked)
            return httpx.Response(response.status_code, headers=response.headers, content=await response.aread())

        return asyncio.run(answer())
