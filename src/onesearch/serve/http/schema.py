"""Requests and answers as they go over the wire; OpenAPI is written from them."""

import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from onesearch.serve.http.fields import ItemId, Strict, UserId, WholeNumber
from onesearch.serve.http.filter_schema import FilterParams, SearchFilter


class SearchRequest(Strict):
    """A search."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"query": "red dress", "user_id": "u12", "k": 10, "explain": True, "filter": {"price_max": 50}}
            ]
        }
    )
    query: Annotated[str, Field(min_length=1, description="What the shopper typed.")]
    user_id: Annotated[
        UserId | None, Field(description="Whose behaviour is known; somebody unknown is a new shopper.")
    ] = None
    k: Annotated[WholeNumber, Field(description="Items of the answer, at most.")] = 10
    stage: Annotated[
        str | None, Field(max_length=64, description="The stage of the run that answers; the service's own if none.")
    ] = None
    num_beams: Annotated[WholeNumber | None, Field(description="K of the beam search; the service's own if none.")] = (
        None
    )
    explain: Annotated[bool, Field(strict=True, description="Say what each hit's SID means and how it scored.")] = False
    rerank: Annotated[
        StrictBool | None,
        Field(description="Let the reward model re-sort the list; the service's own choice if none."),
    ] = None
    filter: SearchFilter = SearchFilter()


class SearchParams(FilterParams):
    """The same search in a URL."""

    q: Annotated[str, Field(min_length=1, description="What the shopper typed.", examples=["red dress"])]
    user_id: Annotated[UserId | None, Field(description="Whose behaviour is known.")] = None
    k: Annotated[int, Field(ge=1, description="Items of the answer, at most.")] = 10
    stage: Annotated[str | None, Field(max_length=64, description="The stage of the run that answers.")] = None
    num_beams: Annotated[int | None, Field(ge=1, description="K of the beam search.")] = None
    explain: Annotated[bool, Field(description="Say what each hit's SID means and how it scored.")] = False
    rerank: Annotated[bool | None, Field(description="Let the reward model re-sort the list.")] = None

    def request(self) -> SearchRequest:
        """As the body of a POST has it."""
        told = self.model_dump(exclude={"q"})
        chosen = {name: told.pop(name) for name in FilterParams.model_fields}
        return SearchRequest(query=self.q, filter=SearchFilter(**chosen), **told)


class SharedKeyword(BaseModel):
    """A keyword of the items behind a SID prefix."""

    value: str
    type: Annotated[str, Field(description="One of the 18 attribute types.", examples=["Color"])]
    share: Annotated[float, Field(description="Of the items that have it, 0 to 1.")]


class SidLevel(BaseModel):
    """What a SID means down to one of its levels."""

    prefix: Annotated[str, Field(examples=["<a_17><b_4>"])]
    token: Annotated[str, Field(description="The last token of the prefix; empty for all items.", examples=["<b_4>"])]
    num_items: int
    category: Annotated[str | None, Field(description="The most frequent leaf category of its items.")]
    category_share: float
    keywords: list[SharedKeyword]
    log_probability: Annotated[
        float | None, Field(description="Of the token, given the search and the tokens before it.")
    ] = None


class MatchedKeyword(BaseModel):
    """A keyword of the query that the item has."""

    value: str
    type: Annotated[str | None, Field(description="None: a word of the query that is no core keyword.")]


class Explanation(BaseModel):
    """Why a hit is there."""

    levels: Annotated[list[SidLevel], Field(description="What its SID means, coarse to fine.")]
    matched: Annotated[list[MatchedKeyword], Field(description="What title, brand, categories or attributes share.")]
    highlights: Annotated[
        list[tuple[int, int]], Field(description="Where they stand in the title: code points [start, end).")
    ]
    score_parts: Annotated[
        dict[str, float],
        Field(
            description="The natural logarithm of the SID's probability; of a re-sorted hit also the reward and what "
            "the reward model foretells: `ctr`, `cvr` and `ctcvr` (where the log knew orders) and `relevance`.",
            examples=[{"sid_log_probability": -3.4}],
        ),
    ]


class Item(BaseModel):
    """An item of the catalogue."""

    item_id: Annotated[str, Field(examples=["i07"])]
    title: str
    brand: str | None
    price: float | None
    category: Annotated[list[str], Field(description="Names, coarse to fine.")]
    available: bool | None
    sid: Annotated[str, Field(examples=["<a_17><b_4><c_9><d_2><e_8>"])]

    @classmethod
    def of(cls, row: dict[str, Any], sid: str, **more: Any) -> Any:
        """From a canonical row."""
        names = ("item_id", "title", "brand", "price", "available")
        return cls(**{name: row[name] for name in names}, category=row["category"] or [], sid=sid, **more)


class Hit(Item):
    """An item of an answer."""

    position: Annotated[int, Field(ge=1)]
    score: Annotated[float, Field(description="Hits fall by it: the response's `score_weights` say what it is.")]
    explanation: Explanation | None = None


class ItemDetails(Item):
    """All that is known of an item."""

    seller: str | None
    attributes: dict[str, list[str]]
    levels: list[SidLevel]


class SearchResponse(BaseModel):
    """The answer to a search."""

    query: str
    user_known: Annotated[bool, Field(description="Whether the log or an event tells anything of this shopper.")]
    stage: str
    reads_users: Annotated[bool, Field(description="Whether an answer of this kind may depend on who asks.")]
    reranked: Annotated[bool, Field(description="Whether the reward model re-sorted the list.")]
    score_weights: Annotated[
        dict[str, float],
        Field(
            description="What each of a hit's `score_parts` counts in its score.",
            examples=[{"sid_log_probability": 1.0}],
        ),
    ]
    num_beams: int
    version: Annotated[
        str, Field(description="Of the run that answered: its generator, its catalogue, its reward model if any.")
    ]
    filter: Annotated[SearchFilter, Field(description="What the items had to be.")]
    num_passing: Annotated[int, Field(description="Items of the catalogue that pass the filter.")]
    milliseconds: float
    hits: list[Hit]


class UserSample(BaseModel):
    """A shopper to try."""

    user_id: str
    profile: str
    num_searches: int


class Users(BaseModel):
    """Some shoppers of the log."""

    users: list[UserSample]


class UserBehaviour(BaseModel):
    """What a search of this shopper knows of them, the latest first."""

    user_id: str
    profile: str
    recent_queries: list[str]
    recent_clicks: list[Item]
    orders: list[Item]
    num_clicks: int
    num_orders: int


class SidNode(BaseModel):
    """A place in the tree of SIDs."""

    node: SidLevel
    num_children: int
    children: list[SidLevel]
    items: Annotated[list[Item], Field(description="Of a whole SID, its bucket; else some items that begin so.")]


class NewEvent(Strict):
    """Something that a shopper did."""

    user_id: UserId
    kind: Literal["search", "click", "order"]
    item_id: Annotated[ItemId | None, Field(description="What was clicked or ordered.")] = None
    query: Annotated[str | None, Field(min_length=1, description="The search in which it happened, if in one.")] = None
    time: Annotated[datetime.datetime | None, Field(description="Now if not given; without a zone it is UTC.")] = None


class NewEvents(Strict):
    """Events of one request: all are taken, or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"events": [{"user_id": "u12", "kind": "click", "item_id": "i07", "query": "red dress"}]}]
        }
    )
    events: Annotated[list[NewEvent], Field(min_length=1)]


class Accepted(BaseModel):
    """Events that are on disk, and known to the next search."""

    accepted: int


class ReloadRequest(Strict):
    """What to serve from now on."""

    run: Annotated[
        str | None,
        Field(
            pattern=r"^[\w-][\w.-]{0,127}$", description="A run folder beside the one that is served; none: the same."
        ),
    ] = None
    stages: list[Annotated[str, Field(max_length=64)]] = Field(
        default=[], max_length=8, description="Stages to offer; none: all that are finished."
    )


class Served(BaseModel):
    """What is served."""

    run: str
    version: str
    stage: Annotated[str, Field(description="Answers where none is asked for.")]
    stages: list[str]
    num_beams: int
    num_items: int
    can_rerank: Annotated[bool, Field(description="Whether there is a reward model to re-sort lists.")]
    rerank: Annotated[bool, Field(description="Whether it does where a search does not say.")]


class Health(Served):
    """How the service is."""

    live: bool
    ready: Annotated[bool, Field(description="Whether it takes searches.")]
    status: Literal["ready", "reloading", "draining", "failed"]
    levels: Annotated[list[int], Field(description="Codes of each level of a SID.")]
    max_query_length: int


class FieldError(BaseModel):
    """A field that is wrong."""

    field: str
    message: str


class Problem(BaseModel):
    """What went wrong."""

    code: Annotated[str, Field(examples=["invalid"])]
    message: Annotated[str, Field(description="One sentence.")]
    fields: list[FieldError] = []


class ErrorBody(BaseModel):
    """Every answer that is no success."""

    error: Problem
