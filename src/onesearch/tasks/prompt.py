"""What a prompt is made of: markers, the views of a search that it may show, the lists of items in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from onesearch.log.schema import COLD_START, RECENT
from onesearch.types import UserError

MARKERS = (
    "<to_sid>",
    "<to_query>",
    "<to_title>",
    "<to_category>",
    "<to_item>",
    "<query>",
    "<title>",
    "<sid>",
    "<popular>",
    "<similar>",
    "<trending>",
    "<queries>",
    "<clicks>",
    "<relevant>",
    "<user>",
    "<history>",
    "<slot>",
    "<profile>",
    "<item>",
)
"""Tokens that say what is asked and what follows."""

ASKS = {
    "QueryToSid": ("<to_sid>", "<query>"),
    "ItemToSid": ("<to_sid>", "<title>"),
    "SidToQuery": ("<to_query>", "<sid>"),
    "SidToItem": ("<to_title>", "<sid>"),
    "QueryToCategory": ("<to_category>", "<query>"),
    "ItemToCategory": ("<to_category>", "<title>"),
    "SidToCategory": ("<to_category>", "<sid>"),
    "QuerySidToCategory": ("<to_category>", "<sid>"),
    "QueryTextToItemText": ("<to_title>", "<query>"),
    "ItemTextToQueryText": ("<to_query>", "<title>"),
    "QuerySidToItemSid": ("<to_item>", "<sid>"),
    "ItemSidToQuerySid": ("<to_query>", "<sid>"),
    "SearchToItem": ("<to_item>", "<query>"),
}
"""How the prompt of each task begins: what is asked, and what it is asked of."""

SECTIONS = (
    "query",
    "query_sid",
    "title",
    "sid",
    "popular",
    "similar",
    "trending",
    "queries",
    "next_query",
    "clicks",
    "relevant",
    "user",
    "history",
    "profile",
)
"""Parts of a prompt that a template may head with words; most have a marker of the same name."""


@dataclass(frozen=True)
class Views:
    """Which views of the search and its user the prompt shows; 0 or false leaves one out.

    Args:
        fold_sids: an item of a list takes one input position in place of C. The paper writes all C tokens; folded,
            lists are C times shorter, and a decoder copies an item by attending to one place.
        query_sid: SID_q behind the query text.
        num_popular: items most clicked for this query until the day before, 20 at most.
        popular_for_all: show them to every user; false: as the paper does, only where a user has no history.
        cold_start: what a user without history gets of them. `list`: `<popular>`, and they are the long click sequence.
            `sequences`, as the paper has it: they are the default of all click sequences, the short one too, in place
            of `<popular>`. Where the query has no clicks, those of similar queries stand in for them.
        cold_user_id: that user has a user ID, too, made from them.
        num_similar: further items most clicked for the nearest known queries: what a query without clicks can go by.
        num_trending: items most clicked of late, whatever the query: what remains where nobody understands it.
        num_recent_queries: m, latest queries, 20 at most.
        recent_query_sids: their SIDs behind their texts.
        num_recent_clicks: m, latest clicked items, 20 at most.
        sliding: in training the behaviour windows of some examples slide back from the present (`SearchToItem`).
        num_relevant_sids: items of the long history nearest to the query, as SIDs that an answer can repeat. The paper
            shows the RSU through the history adapter alone; shoppers look for what they have seen, hence this.
        relevant_by: how the RSU is picked from the long history: the items nearest to the query (`embedding`), or the
            latest ones of the category that the query is predicted to ask for (`category`).
        user_id: the behaviour-constructed user ID, 2·C codes.
        user_id_by: `codes` averages code numbers, as the paper does; `centroids` averages the items' embeddings and
            takes the codes nearest to that.
        max_history: longest of the three long sequences.
        num_relevant: length of the RSU sequence.
        num_slots: N_M, embeddings that the history adapter makes.
        profile: gender, age and place as text.
        max_text: longest query text, in tokens.

    Raises:
        UserError: more queries, clicks or popular items than a prepared log keeps.
    """

    fold_sids: bool = False
    query_sid: bool = True
    num_popular: int = 5
    popular_for_all: bool = False
    cold_start: Literal["list", "sequences"] = "list"
    cold_user_id: bool = False
    num_similar: int = 5
    num_trending: int = 0
    num_recent_queries: int = 5
    recent_query_sids: bool = True
    num_recent_clicks: int = 5
    sliding: bool = True
    num_relevant_sids: int = 5
    relevant_by: Literal["embedding", "category"] = "embedding"
    user_id: bool = True
    user_id_by: Literal["codes", "centroids"] = "codes"
    max_history: int = 200
    num_relevant: int = 20
    num_slots: int = 3
    profile: bool = True
    max_text: int = 24

    def __post_init__(self) -> None:
        kept = {"num_popular": COLD_START, "num_recent_queries": RECENT, "num_recent_clicks": RECENT}
        for name, most in kept.items():
            if getattr(self, name) > most:
                raise UserError(
                    f"views.{name} is {getattr(self, name)}, but a log keeps {most}: set it to {most} or less."
                )

    @property
    def personal(self) -> bool:
        """Whether a prompt depends on who asks; what is popular may be shown to new users alone.

        A user ID is made of the clicks that the other views show.
        """
        behaviour = self.num_recent_queries, self.num_recent_clicks, self.max_history, self.num_relevant_sids
        return any((*behaviour, self.profile)) or bool(self.num_popular and not self.popular_for_all)

    def lengths(self, num_codes: int) -> dict[str, int]:
        """Most tokens of a search prompt, by the field that shortens them; the last one is the end token's too.

        Args:
            num_codes: C.
        """
        lists = "num_popular", "num_similar", "num_trending", "num_recent_clicks", "num_relevant_sids"
        counts = {name: getattr(self, name) for name in lists}
        per_item = 1 if self.fold_sids else num_codes
        per_query = self.max_text + num_codes * self.recent_query_sids
        return {
            **{name: 1 + count * per_item for name, count in counts.items() if count},
            "query_sid": num_codes * self.query_sid,
            "num_recent_queries": (1 + self.num_recent_queries * per_query) if self.num_recent_queries else 0,
            "user_id": (1 + 2 * num_codes) * self.user_id,
            "num_slots": (1 + self.num_slots) if self.num_slots and self.max_history else 0,
            "profile": (1 + self.max_text) * self.profile,
            "max_text": 2 + self.max_text + 1,
        }


LISTS = ("<popular>", "<similar>", "<trending>", "<clicks>", "<relevant>")
"""What lists items."""

LONGEST_LIST = 32
"""Places of a list that are told apart: whatever comes after them shares the last one."""

NUM_PLACES = len(LISTS) * LONGEST_LIST
"""Places of all lists."""


class Listed(NamedTuple):
    """An item that takes one position of a prompt."""

    position: int
    row: int
    place: int  # which list, and how far from its best or latest item: 0 to NUM_PLACES - 1


class Prompt(NamedTuple):
    """One prompt before padding."""

    tokens: list[int]
    history: tuple[Sequence[int], ...] = ()  # item rows: click, order, RSU
    listed: Sequence[Listed] = ()
