"""The endpoints."""

import datetime
import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse

from onesearch.log.text import normalize_query
from onesearch.serve.events import Event, microseconds
from onesearch.serve.http import answers
from onesearch.serve.http.filter_schema import Choices
from onesearch.serve.http.schema import (
    Accepted,
    ErrorBody,
    Health,
    ItemDetails,
    NewEvent,
    NewEvents,
    ReloadRequest,
    SearchParams,
    SearchRequest,
    SearchResponse,
    Served,
    SidNode,
    UserBehaviour,
    Users,
    UserSample,
)
from onesearch.serve.service import Service, check_query
from onesearch.types import UserError

PAGE = Path(__file__).parents[1] / "page"

MEANINGS = {
    400: "The body is no JSON.",
    401: "The API key is missing or wrong.",
    403: "Not allowed here.",
    404: "There is no such thing.",
    409: "Another reload is going on.",
    413: "The body is too large.",
    422: "A field is wrong.",
    429: "Too many requests of this client.",
    503: "Too many requests wait, or the service is shutting down.",
    504: "The search took too long.",
    507: "The events could not be written.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ways in which an endpoint may refuse, for OpenAPI."""
    always = (400, 401, 413, 422, 429, 503)
    return {status: {"model": ErrorBody, "description": MEANINGS[status]} for status in sorted({*always, *statuses})}


router = APIRouter()
page = APIRouter(include_in_schema=False)


def service_of(request: Request) -> Service:
    """The service of the application."""
    service: Service = request.app.state.service
    return service


@router.post("/search", tags=["search"], responses=problems(504))
async def search(body: SearchRequest, request: Request) -> SearchResponse:
    """The items for a query, best first, as the behaviour of the shopper until now has them."""
    start = time.perf_counter()
    service = service_of(request)
    ask = service.ask(
        body.query,
        body.user_id,
        body.k,
        body.stage,
        body.num_beams,
        body.explain,
        body.rerank,
        body.filter.filter(),
    )
    if request.app.state.log_queries:
        request.state.told = {"query": body.query}
    answer = await service.answer(ask, _left(request))
    found = await run_in_threadpool(answers.hits, ask, answer)
    return SearchResponse(
        query=body.query,
        user_known=service.knows(ask.generation, body.user_id),
        stage=ask.stage,
        reads_users=ask.reads_users,
        reranked=ask.rerank,
        score_weights=answers.score_weights(ask),
        num_beams=ask.num_beams,
        version=ask.generation.version,
        filter=body.filter,
        num_passing=answer.num_passing,
        milliseconds=round((time.perf_counter() - start) * 1000, 1),
        hits=found,
    )


async def _left(request: Request) -> None:
    """Ends when the client goes away; the body has been read by then."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@router.get("/search", tags=["search"], responses=problems(504))
async def search_by_url(params: Annotated[SearchParams, Query()], request: Request) -> SearchResponse:
    """The same in a URL. Prefer POST where addresses are logged on the way: a query may be personal."""
    return await search(params.request(), request)


@router.post("/events", tags=["behaviour"], responses=problems(507))
async def take_events(body: NewEvents, request: Request) -> Accepted:
    """Tell what shoppers did; once answered it is on disk, and the next search knows it."""
    service = service_of(request)
    if len(body.events) > service.limits.events:
        raise UserError(f"There are {len(body.events)} events: {service.limits.events} are allowed at once.")
    try:
        await service.keep([_event(service, event) for event in body.events])
    except OSError as error:
        raise HTTPException(507, "The events could not be written to disk: none was taken.") from error
    return Accepted(accepted=len(body.events))


def _event(service: Service, event: NewEvent) -> Event:
    if event.kind == "search" and (event.query is None or event.item_id is not None):
        raise UserError("A search has a query and no item_id.")
    if event.kind != "search" and event.item_id is None:
        raise UserError(f"A {event.kind} needs the item_id of what it was on.")
    if event.query is not None:
        check_query(event.query, service.limits)
    time = event.time or datetime.datetime.now(datetime.UTC)
    query = normalize_query(event.query) if event.query is not None else None
    return Event(event.user_id, event.kind, microseconds(time), event.item_id, query)


@router.get("/users", tags=["behaviour"], responses=problems())
def users(request: Request, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> Users:
    """Some shoppers of the log to try: those who searched the most."""
    shoppers = service_of(request).generation.shoppers
    found = [
        UserSample(
            user_id=one.user_id, profile=shoppers.context(one.user_id, "").profile, num_searches=one.num_searches
        )
        for one in shoppers.busiest[:limit]
    ]
    return Users(users=found)


@router.get("/users/{user_id:path}", tags=["behaviour"], responses=problems(404))
def user(user_id: str, request: Request, limit: Annotated[int, Query(ge=1, le=100)] = 10) -> UserBehaviour:
    """What the next search of a shopper knows of them."""
    service = service_of(request)
    generation = service.generation
    if not service.knows(generation, user_id):
        raise HTTPException(404, "Nothing is known of this shopper: a search of theirs is one of a new shopper.")
    context = generation.shoppers.context(user_id, "", service.events.of(user_id))
    return answers.behaviour(generation, context, limit)


@router.get("/items/{item_id:path}", tags=["catalogue"], responses=problems(404))
def item(item_id: str, request: Request) -> ItemDetails:
    """All that is known of an item, and what its SID means."""
    generation = service_of(request).generation
    row = generation.log.row_of.get(item_id)
    if row is None:
        raise HTTPException(404, "There is no item of this ID in the catalogue.")
    return answers.item_details(generation, row)


@router.get("/sids", tags=["catalogue"], responses=problems(404))
def sids(
    request: Request,
    prefix: Annotated[str, Query(max_length=256, description="First tokens of a SID; none: the root.")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> SidNode:
    """A place in the tree of SIDs: what it means, and its children, those of the most items first."""
    generation = service_of(request).generation
    found = answers.node(generation, answers.parse_prefix(generation, prefix), limit, offset)
    if not found.node.num_items:
        raise HTTPException(404, "No item has a SID that begins so.")
    return found


@router.get("/filters", tags=["catalogue"], responses=problems())
def filters(request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Choices:
    """What a search can be filtered by: categories, brands and sellers of the most items, and the span of prices."""
    return answers.choices(service_of(request).generation.filters, limit)


@router.get("/health", tags=["service"], responses={503: {"model": Health, "description": "It takes no searches."}})
async def health(request: Request, response: Response) -> Health:
    """How the service is: 200 where it takes searches, 503 where it does not."""
    service = service_of(request)
    works = service.batcher.is_alive
    ready = works and not service.is_draining
    response.status_code = 200 if ready else 503
    status = "ready" if ready else "draining" if works else "failed"
    return Health(
        **_served(service).model_dump(),
        live=works,
        ready=ready,
        status="reloading" if ready and service.is_reloading else status,  # type: ignore[arg-type]  # one of the four
        levels=list(service.generation.khqe.spec.sizes),
        max_query_length=service.limits.query_length,
    )


@router.get("/health/live", tags=["service"], responses={503: {"model": ErrorBody, "description": "Start it anew."}})
async def live(request: Request) -> dict[str, bool]:
    """Whether the process works: 503 means that it should be started anew. It may be draining all the same."""
    if not service_of(request).batcher.is_alive:
        raise HTTPException(503, "The worker has ended: start the service anew.")
    return {"live": True}


@router.get("/metrics", tags=["service"], responses=problems(), response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    return Response(service_of(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.post("/admin/reload", tags=["service"], responses=problems(403, 409))
async def reload(body: ReloadRequest, request: Request) -> Served:
    """Serve another run or other stages; the old ones answer until the new ones are warm. Needs an API key."""
    if not request.app.state.has_key:
        raise HTTPException(403, "Start the service with an API key to reload it from afar, or send it SIGHUP.")
    service = service_of(request)
    await service.reload(body.run, body.stages)
    return _served(service)


def _served(service: Service) -> Served:
    generation = service.generation
    return Served(
        run=generation.run.name,
        version=generation.version,
        stage=generation.default_stage,
        stages=list(generation.engines),
        num_beams=service.num_beams,
        num_items=len(generation.khqe.item_ids),
        can_rerank=generation.reranker is not None,
        rerank=service.rerank,
    )


@page.get("/")
async def index() -> FileResponse:
    """The page."""
    return FileResponse(PAGE / "index.html")


@page.get("/favicon.ico")
async def icon() -> Response:
    """Browsers ask for it; the page names its own."""
    return JSONResponse(None, 204)
