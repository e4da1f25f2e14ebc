"""The application: endpoints, guards, the page, and one form for all errors."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import onesearch
from onesearch.serve.batcher import QueueFullError
from onesearch.serve.filtering import NAMES
from onesearch.serve.http.guards import Guard
from onesearch.serve.http.routes import PAGE, page, router
from onesearch.serve.service import ClientLeftError, ReloadingError, Service
from onesearch.types import UserError

CODES = {
    400: "malformed",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    422: "invalid",
    503: "unavailable",
    504: "timeout",
    507: "not_kept",
}


NOWHERE = "There is no such address: /openapi.json lists those that there are."


def create_app(service: Service, api_key: str | None = None, log_queries: bool = False) -> FastAPI:
    """The application over a service; whoever opened that closes it.

    Args:
        service: what answers.
        api_key: what clients must show; none: everybody may ask, and nobody may reload.
        log_queries: write queries to the log.
    """
    app = FastAPI(
        title="OneSearch",
        version=onesearch.__version__,
        summary="Generative e-commerce search.",
        docs_url=None,  # its page would come from another host
        redoc_url=None,
    )
    app.state.service, app.state.has_key, app.state.log_queries = service, api_key is not None, log_queries
    app.include_router(router)
    app.include_router(page)
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    app.add_middleware(Guard, service=service, api_key=api_key)
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    _describe(app, service)

    return app


def problem(status: int, message: str, fields: list[dict[str, str]] | None = None, **headers: str) -> JSONResponse:
    """An answer that is no success; what cannot be written in UTF-8 is written as an escape."""
    told = {"code": CODES.get(status, "refused"), "message": _plain(message), "fields": fields or []}
    return JSONResponse({"error": told}, status, {name.replace("_", "-"): value for name, value in headers.items()})


def _invalid(_: Request, error: Exception) -> JSONResponse:
    """The fields that are wrong, without what was in them: it may be long, or personal."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(one["type"] == "json_invalid" for one in found):
        return problem(400, "The body is no valid JSON.")
    fields = [{"field": _plain(_place(one["loc"])), "message": _plain(one["msg"])} for one in found[:20]]
    return problem(422, "; ".join(f"{one['field']}: {one['message']}" for one in fields[:3]) + ".", fields)


def _place(location: tuple[Any, ...]) -> str:
    """Where a field stands, without the part of the request that it is in."""
    return ".".join(str(part) for part in location[1:]) or str(location[0])


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()[:500]


def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    told = NOWHERE if error.detail == "Not Found" else str(error.detail)  # Starlette's own word
    return problem(error.status_code, told, None, **dict(error.headers or {}))


def _mistaken(_: Request, error: Exception) -> JSONResponse:
    return problem(422, str(error))


def _full(_: Request, error: Exception) -> JSONResponse:
    return problem(503, "Too many requests wait: try again soon.", retry_after="1")


def _late(_: Request, error: Exception) -> JSONResponse:
    return problem(504, "The search took too long and was given up.")


def _busy(_: Request, error: Exception) -> JSONResponse:
    return problem(409, "Another reload is going on: wait for it.")


HANDLERS: Mapping[Any, Any] = {
    RequestValidationError: _invalid,
    HTTPException: _refused,
    UserError: _mistaken,
    QueueFullError: _full,
    TimeoutError: _late,
    ClientLeftError: lambda *_: problem(499, "The client went away."),  # for the log alone, in nginx' number
    ReloadingError: _busy,
}


def _describe(app: FastAPI, service: Service) -> None:
    """Write the limits that this service was started with into its OpenAPI."""
    limits = service.limits
    bounds = {
        "k": {"maximum": limits.k},
        "num_beams": {"maximum": limits.num_beams},
        "query": {"maxLength": limits.query_length},
        "q": {"maxLength": limits.query_length},
        "events": {"maxItems": limits.events},
        **{name: {"maxItems": limits.filter_names} for name in NAMES},
        **{name: {"maxItems": limits.filter_items} for name in ("allow", "block")},
    }
    whole = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = whole()
            for model in ("SearchRequest", "SearchFilter", "NewEvent", "NewEvents"):
                for name, field in schema["components"]["schemas"][model]["properties"].items():
                    _bound(field, bounds.get(name, {}))
            for parameter in schema["paths"]["/search"]["get"]["parameters"]:
                _bound(parameter["schema"], bounds.get(parameter["name"], {}))
        return app.openapi_schema or {}

    app.openapi = described  # type: ignore[method-assign]  # the way that FastAPI documents


def _bound(schema: dict[str, Any], bounds: dict[str, int]) -> None:
    """Put bounds on a schema, or on that of its alternatives which is not null."""
    for one in schema.get("anyOf", [schema]):
        if one.get("type") != "null":
            one.update(bounds)
