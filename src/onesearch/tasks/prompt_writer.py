"""The prompt: how text, semantic IDs and behaviour are written as one sequence of token ids.

Training, preference optimisation and serving all write it here. The whole prompt of a search (OneSearch §3):

    <to_item> <query> text SID_q <popular> SIDs <similar> SIDs <trending> SIDs <queries> text SID …
    <clicks> SIDs <relevant> SIDs <user> ID <history> <slot>×N_M <profile> text </s>

With `Views.fold_sids` each item of a list takes one position, `<item>`, whose embedding is the sum of its C codes'.
A `Template` writes words behind the markers.
"""

import random
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from onesearch.behavior.memory import NOTHING_HIDDEN, ClickMemory
from onesearch.behavior.user_id import NONE, user_id
from onesearch.behavior.window import slide, window
from onesearch.sid.vocabulary import Vocabulary
from onesearch.tasks.prompt import ASKS, LISTS, LONGEST_LIST, MARKERS, SECTIONS, Listed, Prompt, Views
from onesearch.tasks.template import Template, whole_words
from onesearch.types import SearchContext

SidOf = Callable[[str], Sequence[int]]
"""From a normalised query to its codes."""


class PromptWriter:
    """Writes prompts for one generator.

    Args:
        tokenizer: of the text.
        vocabulary: of all tokens.
        item_codes: [N, C] SIDs of the catalogue.
        sid_of: codes of a query.
        views: what the prompt shows.
        relevant: picks the RSU from a query and a long history: (query, item rows, count) → item rows.
        memory: what the log remembers of clicks; None: there is no log.
        template: words behind the markers.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        vocabulary: Vocabulary,
        item_codes: NDArray[np.integer],
        sid_of: SidOf,
        views: Views,
        relevant: Callable[[str, Sequence[int], int], Sequence[int]] | None = None,
        memory: ClickMemory | None = None,
        template: Template = Template(),  # noqa: B008
    ) -> None:
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary
        self.item_codes = item_codes
        self.sid_of = sid_of
        self.views = views
        self.relevant = relevant
        self.memory = memory
        offsets = np.array(vocabulary.spec.offsets) + vocabulary.num_text_tokens
        self.offsets = offsets
        self.item_tokens = (item_codes + offsets).tolist()
        self.end = tokenizer.eos_token_id
        with whole_words(tokenizer):
            # A template that was saved by an earlier version has no words for what came later.
            self.heads = {name: self._head(name, template.sections.get(name, "")) for name in SECTIONS}
            self.asks = {task: self._ask(task, template.asks.get(task, "")) for task in ASKS}

    def _ask(self, task: str, words: str) -> list[int]:
        """How the prompt of a task begins: what is asked, and the head of what it is asked of."""
        asked, shown = ASKS[task]
        return [self.vocabulary.marker(asked), *self._whole(words), *self.heads[shown.strip("<>")]]

    def _head(self, section: str, words: str) -> list[int]:
        """The marker of a part, where it has one, and its heading."""
        marker = f"<{section}>"
        return [*([self.vocabulary.marker(marker)] if marker in MARKERS else []), *self._whole(words)]

    def _whole(self, text: str) -> list[int]:
        """Token ids of a text, however long, without special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []

    def text(self, text: str, max_length: int | None = None) -> list[int]:
        """Token ids of a text, without special tokens."""
        return self._whole(text)[: max_length or self.views.max_text]

    def sid(self, codes: Sequence[int]) -> list[int]:
        """Token ids of a SID."""
        return [int(code + offset) for code, offset in zip(codes, self.offsets, strict=True)]

    def about(self, task: str, content: list[int]) -> Prompt:
        """The prompt of an alignment or co-occurrence task, named as in `ASKS`, about a text or a SID."""
        return Prompt([*self.asks[task], *content, self.end])

    def target(self, text: str, max_length: int) -> list[int]:
        """Token ids of a text target, closed by the end token."""
        return [*self.text(text, max_length), self.end]

    def search(
        self, context: SearchContext, query: str | None = None, shift: int = 0, hidden_from: float = NOTHING_HIDDEN
    ) -> Prompt:
        """The whole prompt of a search.

        Args:
            context: the search as of its own time.
            query: another wording of the query, for augmentation.
            shift: how far the behaviour windows slide back from the present, for augmentation.
            hidden_from: known queries of this cosine or more to the query, its own record too, are taken as never
                seen, for augmentation; `NOTHING_HIDDEN` hides none.
        """
        views, heads = self.views, self.heads
        query = context.query if query is None else query
        clicks = slide(context.recent_clicks, shift, views.num_recent_clicks) if views.num_recent_clicks else ()
        tokens = [*self.asks["SearchToItem"], *self.text(query)]
        if views.query_sid:
            tokens += [*heads["query_sid"], *self.sid(self.sid_of(query))]
        is_new = not context.long_clicks and not context.long_orders
        popular = self.popular(context, query, hidden_from) if is_new or views.popular_for_all else ()
        similar = self.similar(context, query, hidden_from, popular)
        listed: list[Listed] = []
        self.append_items("<popular>", popular, tokens, listed)
        self.append_items("<similar>", similar, tokens, listed)
        if self.memory is not None and views.num_trending:
            self.append_items("<trending>", self.memory.trending(context.day, views.num_trending), tokens, listed)
        if views.num_recent_queries and context.recent_queries:
            for place, recent in enumerate(slide(context.recent_queries, shift, views.num_recent_queries)):
                tokens += heads["next_query" if place else "queries"]
                tokens += self.text(recent)
                tokens += self.sid(self.sid_of(recent)) if views.recent_query_sids else []
        self.append_items("<clicks>", clicks, tokens, listed)
        relevant = self.rsu(query, slide(context.long_clicks, shift, views.max_history), views.num_relevant_sids)
        self.append_items("<relevant>", relevant, tokens, listed)
        if views.user_id and not is_new:
            tokens += [*heads["user"], *self.user(context, shift)]
        history = self.history(context, query, shift, popular or similar)
        if any(history):
            tokens += [*heads["history"], *[self.vocabulary.marker("<slot>")] * views.num_slots]
        if views.profile and context.profile:
            tokens += [*heads["profile"], *self.text(context.profile)]
        return Prompt([*tokens, self.end], history, listed)

    def append_items(self, name: str, rows: Sequence[int], tokens: list[int], listed: list[Listed]) -> None:
        """Write a named list of items to `tokens`; where SIDs are folded, its items to `listed` too."""
        if not rows:
            return
        tokens += self.heads[name.strip("<>")]
        if not self.views.fold_sids:
            tokens += [token for row in rows for token in self.item_tokens[row]]
            return
        # What others click is ranked, the shopper's own comes by time: the first place is the best or the latest item.
        ranks = range(len(rows))[::-1] if name in ("<clicks>", "<relevant>") else range(len(rows))
        for rank, row in zip(ranks, rows, strict=True):
            place = LISTS.index(name) * LONGEST_LIST + min(rank, LONGEST_LIST - 1)
            listed.append(Listed(len(tokens), row, place))
            tokens.append(self.vocabulary.marker("<item>"))

    def user(self, context: SearchContext, shift: int) -> list[int]:
        """The user ID's 2·C tokens; a part without behaviour is left out."""
        short = window(
            [slide(context.recent_clicks, shift, self.views.num_recent_clicks)], self.views.num_recent_clicks
        )
        long = window([slide(context.long_clicks, shift, self.views.max_history)], self.views.max_history)
        codes = user_id(self.item_codes[short.values], short.lengths, self.item_codes[long.values], long.lengths)[0]
        halves = codes.reshape(2, -1)
        return [token for half in halves if half[0] != NONE for token in self.sid(half.tolist())]

    def popular(self, context: SearchContext, query: str, hidden_from: float) -> Sequence[int]:
        """Items most clicked for this very query until the day before."""
        is_known = query == context.query and hidden_from >= NOTHING_HIDDEN
        return context.cold_start[: self.views.num_popular] if is_known else ()

    def similar(self, context: SearchContext, query: str, hidden_from: float, beside: Sequence[int]) -> Sequence[int]:
        """Items most clicked for the nearest known queries until the day before, without those `beside` them."""
        k = self.views.num_similar
        if self.memory is None or not k:
            return ()
        # What is hidden is measured from the query itself: its typo may lie farther from it than that.
        asked = query if hidden_from >= NOTHING_HIDDEN else context.query
        found = self.memory.similar(asked, context.day, k + len(beside), hidden_from)
        return tuple(item for item in found if item not in beside)[:k]

    def as_remembered(self, context: SearchContext, day: int) -> SearchContext:
        """The same search where clicks are remembered until the day before `day` only."""
        own = self.memory.own(context.query, day, len(context.cold_start)) if self.memory is not None else ()
        return context._replace(day=day, cold_start=own)

    def history(
        self, context: SearchContext, query: str, shift: int, popular: Sequence[int]
    ) -> tuple[Sequence[int], ...]:
        """Click, order and RSU sequences as item rows; for a user without any, what others clicked."""
        if not self.views.max_history or not self.views.num_slots:
            return ((), (), ())
        clicks = slide(context.long_clicks, shift, self.views.max_history)
        orders = slide(context.long_orders, 0, self.views.max_history)
        if not clicks and not orders:
            clicks = popular
        return clicks, orders, self.rsu(query, clicks, self.views.num_relevant)

    def rsu(self, query: str, history: Sequence[int], k: int) -> Sequence[int]:
        """The relevant search unit: the `k` items of a long history nearest to the query, each once, by time."""
        if self.relevant is None or not history or not k:
            return ()
        return self.relevant(query, tuple(dict.fromkeys(reversed(history)))[::-1], k)


def draw_shift(context: SearchContext, rate: float, largest: int, rng: random.Random) -> int:
    """How far to slide the behaviour window back, for sliding-window augmentation."""
    if rng.random() >= rate or len(context.recent_clicks) < 2:
        return 0
    return rng.randint(1, min(largest, len(context.recent_clicks) - 1))
