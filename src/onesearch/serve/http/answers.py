"""From rows and codes to what goes over the wire."""

import re
from collections.abc import Mapping, Sequence
from string import ascii_lowercase

import numpy as np

from onesearch.log.text import item_texts
from onesearch.serve.engine import Ranked
from onesearch.serve.filters import Filters, Named
from onesearch.serve.generation import Answer, Ask, Generation
from onesearch.serve.http.filter_schema import Choice, Choices
from onesearch.serve.http.schema import (
    Explanation,
    Hit,
    Item,
    ItemDetails,
    MatchedKeyword,
    SharedKeyword,
    SidLevel,
    SidNode,
    UserBehaviour,
)
from onesearch.serve.matches import ItemMatches, QueryKeywords
from onesearch.serve.meanings import Meaning, Prefix
from onesearch.serve.reranker import LOG_PROBABILITY
from onesearch.types import SearchContext, UserError

_TOKEN = re.compile(r"<([a-z])_(\d{1,6})>")


def hits(ask: Ask, answer: Answer) -> list[Hit]:
    """The items of an answer, explained where that was asked for."""
    generation, rows = ask.generation, answer.ranked.items.tolist()
    explanations = _explanations(ask, answer) if answer.level_scores is not None else [None] * len(rows)
    judgement = answer.ranked.judgement
    scores = np.asarray(answer.ranked.scores if judgement is None else judgement.score).tolist()
    found = zip(generation.items(rows), rows, scores, explanations, strict=True)
    return [
        Hit.of(item, generation.sid(row), position=position, score=score, explanation=explanation)
        for position, (item, row, score, explanation) in enumerate(found, start=1)
    ]


def score_weights(ask: Ask) -> dict[str, float]:
    """What the scores of an answer are made of."""
    reranker = ask.generation.reranker
    return reranker.weights if ask.rerank and reranker is not None else {LOG_PROBABILITY: 1.0}


def _explanations(ask: Ask, answer: Answer) -> list[Explanation]:
    generation, rows = ask.generation, answer.ranked.items
    items = generation.log.items.take(rows)
    keywords = QueryKeywords(ask.query, generation.khqe.encoder.matcher)
    matches = keywords.match(items["title"].to_pylist(), item_texts(items))
    assert answer.level_scores is not None
    found = zip(rows.tolist(), answer.level_scores, matches, _judged_parts(ask, answer.ranked), strict=True)
    return [
        _explanation(generation, generation.khqe.item_codes[row].tolist(), scores.tolist(), matched, parts)
        for row, scores, matched, parts in found
    ]


def _judged_parts(ask: Ask, ranked: Ranked) -> list[dict[str, float]]:
    """What the reward model says of each hit; nothing where it was not asked."""
    if ranked.judgement is None:
        return [{} for _ in ranked.items]
    names = ["reward", *(name for name in score_weights(ask) if name != LOG_PROBABILITY)]
    columns = [np.asarray(getattr(ranked.judgement, name)).tolist() for name in names]
    return [dict(zip(names, parts, strict=True)) for parts in zip(*columns, strict=True)]


def _explanation(
    generation: Generation,
    codes: Sequence[int],
    scores: Sequence[float],
    matched: ItemMatches,
    judged: Mapping[str, float],
) -> Explanation:
    path = zip(generation.meanings.path(codes), scores, strict=True)
    return Explanation(
        levels=[level(generation, meaning, score) for meaning, score in path],
        matched=[MatchedKeyword(value=keyword.value, type=keyword.type) for keyword in matched.keywords],
        highlights=matched.places,
        score_parts={**judged, LOG_PROBABILITY: sum(scores)},
    )


def level(generation: Generation, meaning: Meaning, log_probability: float | None = None) -> SidLevel:
    """What a prefix means."""
    prefix = generation.khqe.spec.render(meaning.prefix)
    return SidLevel(
        prefix=prefix,
        token=prefix[prefix.rfind("<") :] if prefix else "",
        num_items=meaning.num_items,
        category=meaning.category,
        category_share=meaning.category_share,
        keywords=[SharedKeyword(value=one.value, type=one.type, share=one.share) for one in meaning.keywords],
        log_probability=log_probability,
    )


def item_details(generation: Generation, row: int) -> ItemDetails:
    """All that is known of an item."""
    item = generation.items([row])[0]
    path = generation.meanings.path(generation.khqe.item_codes[row].tolist())
    details: ItemDetails = ItemDetails.of(
        item,
        generation.sid(row),
        seller=item["seller"],
        attributes={name: values or [] for name, values in item["attributes"] or []},
        levels=[level(generation, meaning) for meaning in path],
    )
    return details


def items(generation: Generation, rows: Sequence[int]) -> list[Item]:
    """Items in brief."""
    return [Item.of(item, generation.sid(row)) for item, row in zip(generation.items(rows), rows, strict=True)]


def behaviour(generation: Generation, context: SearchContext, most: int) -> UserBehaviour:
    """What a search of a shopper knows of them, `most` of each kind, the latest first."""
    return UserBehaviour(
        user_id=context.user_id,
        profile=context.profile,
        recent_queries=list(context.recent_queries[::-1][:most]),
        recent_clicks=items(generation, context.long_clicks[::-1][:most]),
        orders=items(generation, context.long_orders[::-1][:most]),
        num_clicks=len(context.long_clicks),
        num_orders=len(context.long_orders),
    )


def node(generation: Generation, prefix: Prefix, limit: int, offset: int) -> SidNode:
    """A place in the tree of SIDs with its children."""
    meanings = generation.meanings
    children = meanings.children(prefix)
    rows = meanings.rows(prefix)
    best = rows[np.argsort(-generation.khqe.priority[rows], kind="stable")][:limit]
    return SidNode(
        node=level(generation, meanings.of(prefix)),
        num_children=len(children),
        children=[level(generation, meanings.of(child)) for child, _ in children[offset : offset + limit]],
        items=items(generation, best.tolist()),
    )


def choices(filters: Filters, most: int) -> Choices:
    """What can be filtered by, `most` names of each field."""
    known = filters.prices[~np.isnan(filters.prices)]
    return Choices(
        **{name: _choices(named, most) for name, named in filters.names.items()},
        price_min=float(known.min()) if len(known) else None,
        price_max=float(known.max()) if len(known) else None,
        num_sold_out=int((~filters.available).sum()),
    )


def _choices(named: Named, most: int) -> list[Choice]:
    """A path never stands without what it begins with, which has as many items or more."""
    return [
        Choice(value=value, path=list(path), num_items=count)
        for value, path, count in sorted(named.choices[:most], key=lambda one: [name.casefold() for name in one.path])
    ]


def parse_prefix(generation: Generation, text: str) -> Prefix:
    """The codes of a prefix that is written as `<a_3><b_17>`.

    Raises:
        UserError: it is none, or goes beyond a level.
    """
    found = _TOKEN.findall(text)
    letters = "".join(letter for letter, _ in found)
    if (
        _TOKEN.sub("", text)
        or letters != ascii_lowercase[: len(letters)]
        or len(letters) > len(generation.khqe.spec.sizes)
    ):
        raise UserError("prefix: write the first tokens of a SID in their order, such as <a_3><b_17>.")
    codes = tuple(int(code) for _, code in found)
    generation.khqe.spec.render(codes)  # says which code is outside its layer
    return codes
