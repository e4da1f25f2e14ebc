"""Domain records and batch tuples that the parts of OneSearch hand to each other.

Shape legend, used in every tensor file:
    B batch, L sequence length, D embedding width, H hidden width, K beams, N items, C codes of a SID
    (C = 5: three residual layers and two product layers), M short-history window, V vocabulary, X candidates of a list.

An item is an integer *row* in memory: its position in the prepared log's `items` table. Item IDs (strings) exist only
at the edges: in Parquet, in reports and in answers to a shopper.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

ATTRIBUTE_TYPES = (
    "Entity",
    "Modifier",
    "Brand",
    "Material",
    "Style",
    "Function",
    "Location",
    "Audience",
    "Color",
    "Scene",
    "Specifications",
    "Price",
    "Model",
    "Anchor",
    "Series",
    "Marketing",
    "Season",
    "Pattern",
)
"""The 18 structured attribute types of KHQE (authors' public code)."""


class UserError(ValueError):
    """A mistake in what the user gave: one sentence that names file, row or field, and the way out."""


class Span(NamedTuple):
    """A marked place in a text: `text[start:end]` is a value of an attribute type."""

    type: str  # one of `ATTRIBUTE_TYPES`
    start: int  # characters
    end: int


class SearchContext(NamedTuple):
    """Everything the models may know about one search, as of its own time. Sequences run from oldest to newest."""

    search_id: str
    user_id: str
    query: str  # normalised by `log.text.normalize_query`
    day: int  # days since 1970-01-01 of the search; statistics are those of the end of the day before
    recent_queries: tuple[str, ...]  # the user's latest searches before this one, normalised
    recent_clicks: tuple[int, ...]  # item rows
    long_clicks: tuple[int, ...]  # item rows, inside and outside search
    long_click_days: tuple[int, ...]  # the day of each of `long_clicks`
    long_orders: tuple[int, ...]  # item rows, inside and outside search
    cold_start: tuple[int, ...]  # item rows most clicked for this query until yesterday, by clicks, best first
    profile: str  # "F 31-40 Zhejiang", "" when nothing is recorded
    clicked: tuple[int, ...]  # the answer: item rows clicked in this search (purchased ones included)
    purchased: tuple[int, ...]
    impressed: tuple[int, ...] | None  # item rows in display order; None: the log does not record them
    # When each of them happened, in microseconds since 1970: what the sliding window cuts all four by.
    recent_query_times: tuple[int, ...] = ()
    recent_click_times: tuple[int, ...] = ()
    long_click_times: tuple[int, ...] = ()
    long_order_times: tuple[int, ...] = ()


class TextBatch(NamedTuple):
    """Tokenised texts, padded on the right."""

    input_ids: Tensor  # [B, L] int64
    attention_mask: Tensor  # [B, L] int64, 1 on text


class AlignmentBatch(NamedTuple):
    """One step of the encoder: every distinct text once, and relations between them as rows of queries, then items.

    Queries and items are padded apart: a query of four tokens should not cost a title's forty.
    """

    queries: TextBatch  # [Tq, Lq]
    items: TextBatch  # [Ti, Li]
    identity: Tensor  # [Tq + Ti] int64: texts that mean the same (a query and its typo) share a number: no negatives
    q2q: Tensor  # [P, 2] int64 rows
    i2i: Tensor  # [P, 2] int64 rows
    q2i: Tensor  # [P, 2] int64 rows
    ranked: Tensor  # [R, 4] int64 rows: query, ordered item, clicked item, shown item; -1 where there is none
    judged: Tensor  # [J, 2] int64 rows: query, item
    grades: Tensor  # [J] float32, 0 to 3
    hard: Tensor  # [P, X] int64 rows: items near the query of each q2i pair that nobody clicked for it; -1 is padding


class NamedTexts(NamedTuple):
    """Texts to be embedded as they are."""

    table: str  # `items` or `queries`
    rows: Tensor  # [B] int64: their places in that table
    names: list[str]  # item IDs, or the queries themselves
    texts: list[str]


class ClickedQueries(NamedTuple):
    """Distinct queries of a split with the items that they led to."""

    rows: Tensor  # [B] int64: number of the query
    texts: list[str]
    clicked: Tensor  # [B, X] int64: item rows, -1 is padding; X is the same in every batch
    unseen: Tensor  # [B] bool: no search with this query was learnt from


@runtime_checkable
class EpochMiner(Protocol):
    """Data that depends on what the encoder has learnt so far."""

    def mine(self, epoch: int, embed: Callable[[Sequence[str]], Tensor]) -> None:
        """Look at the encoder, which turns texts into unit vectors, as it is at the start of an epoch."""


class CatalogueBatch(NamedTuple):
    """Texts that the quantizer fits on: items first, in the order of their rows."""

    items: list[str]
    queries: list[str]
    num_texts: int  # of the whole pass


class TaggingBatch(NamedTuple):
    """Texts with the spans that are to be marked in them."""

    tokens: TextBatch  # [B, L]
    tags: Tensor  # [B, L] int64, numbers of BIO tags, -100 on tokens that cover no text
    texts: list[str]
    spans: list[list[Span]]
    is_query: list[bool]  # or a title


class ArrivalBatch(NamedTuple):
    """Items and queries that come after the fit, to be coded."""

    items: list[dict[str, Any]]  # canonical rows
    texts: list[str]  # how those items read
    queries: list[str]


class PromptBatch(NamedTuple):
    """What the generator reads, padded on the right."""

    input_ids: Tensor  # [B, L] int64
    attention_mask: Tensor  # [B, L] int64, 1 on tokens
    history: Tensor | None  # [B, 3, L', C] int64: SIDs of the click, order and RSU sequences, -1 is padding
    listed: Tensor | None  # [B, L, C] int64: SIDs of items that take one position, -1 at all other positions
    places: Tensor | None  # [B, L] int64: which place of which list such an item has, -1 at all other positions


class GeneratorBatch(NamedTuple):
    """Prompts with one kind of target: the codes of an item or query, or a text."""

    prompt: PromptBatch
    codes: Tensor | None  # [B, C] int64, local to their layers
    labels: Tensor | None  # [B, T] int64 token ids, -100 is padding
    tasks: Tensor | None = None  # [B] int64, the task of each row by its number in `task_names`; None: not told
    task_names: tuple[str, ...] = ()  # of all tasks, the same in every batch


class PreferenceBatch(NamedTuple):
    """Preference lists: candidate 0 of each prompt is the chosen one."""

    prompt: PromptBatch
    codes: Tensor  # [B, 1 + X, C] int64
    reference: Tensor  # [B, 1 + X] float32, log-probabilities under the reference
    weights: Tensor  # [B, X] float32, clipped reward gaps; 0 in soft lists
    mask: Tensor  # [B, X] bool, true on rejected candidates, false on padding
    shares: Tensor | None = None  # [B, 1 + X] float32, chance of each to be the best; None: candidate 0 is
    invalid: Tensor | None = None  # [B, X] bool, true on rejected SIDs that no item has; None: there are none

    @property
    def candidates(self) -> Tensor:
        """All but padding, the chosen one among them, [B, 1 + X] bool."""
        return torch.cat([torch.ones_like(self.mask[:, :1]), self.mask], 1)

    @property
    def items(self) -> Tensor:
        """Candidates that some item has, the chosen one among them, [B, 1 + X] bool."""
        candidates = self.candidates
        if self.invalid is not None:
            candidates[:, 1:] &= ~self.invalid
        return candidates

    @property
    def counts(self) -> Tensor | None:
        """How much of one rejected candidate each counts for: SIDs that no item has are one together; [B, X]."""
        if self.invalid is None:
            return None
        return torch.where(self.invalid, 1 / self.invalid.sum(1, keepdim=True).clamp(min=1), 1.0)
