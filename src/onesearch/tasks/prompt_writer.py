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

from onesearch.behavior.memory import NOTHING_HIDDEN
from onesearch.behavior.window import slide_back
from onesearch.bpe_dropout import whole_words
from onesearch.sid.vocabulary import Vocabulary
from onesearch.tasks.evidence import Asked, Evidence
from onesearch.tasks.prompt import ASKS, LISTS, LONGEST_LIST, MARKERS, SECTIONS, Listed, Prompt
from onesearch.tasks.template import Template
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
        evidence: chooses what a search shows.
        template: words behind the markers.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        vocabulary: Vocabulary,
        item_codes: NDArray[np.integer],
        sid_of: SidOf,
        evidence: Evidence,
        template: Template = Template(),  # noqa: B008
    ) -> None:
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary
        self.item_codes = item_codes
        self.sid_of = sid_of
        self.evidence = evidence
        self.views = evidence.views
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
        markers = [self.vocabulary.marker(marker) for marker in MARKERS if marker == f"<{section}>"]
        return markers + self._whole(words)

    def _whole(self, text: str) -> list[int]:
        """Token ids of a text, however long, without special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []

    def num_words(self) -> int:
        """Most tokens of a search prompt that are the template's words, beside what `Views.lengths` counts."""
        again = max(0, self.views.num_recent_queries - 1) * self.heads["next_query"]
        heads = (head for name, head in self.heads.items() if name not in ("query", "title", "sid", "next_query"))
        written = [*self.asks["SearchToItem"], *again, *(token for head in heads for token in head)]
        return sum(token < self.vocabulary.num_text_tokens for token in written)

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
            shift: how many clicks ago the shopper's behaviour ends, for augmentation.
            hidden_from: known queries of this cosine or more to the query, its own record too, are taken as never
                seen, for augmentation; `NOTHING_HIDDEN` hides none.
        """
        context = slide_back(context, shift)
        query = context.query if query is None else query
        shown = self.evidence.of(Asked(context, query, hidden_from))
        views, heads = self.views, self.heads
        tokens = [*self.asks["SearchToItem"], *self.text(query)]
        if views.query_sid:
            tokens += [*heads["query_sid"], *self.sid(self.sid_of(query))]
        listed: list[Listed] = []
        self.append_items("<popular>", shown.popular, tokens, listed)
        self.append_items("<similar>", shown.similar, tokens, listed)
        self.append_items("<trending>", shown.trending, tokens, listed)
        for place, recent in enumerate(shown.queries):
            tokens += heads["next_query" if place else "queries"]
            tokens += self.text(recent)
            tokens += self.sid(self.sid_of(recent)) if views.recent_query_sids else []
        self.append_items("<clicks>", shown.clicks, tokens, listed)
        self.append_items("<relevant>", shown.relevant, tokens, listed)
        if shown.user:
            tokens += [*heads["user"], *(token for half in shown.user for token in self.sid(half))]
        if any(shown.history):
            tokens += [*heads["history"], *[self.vocabulary.marker("<slot>")] * views.num_slots]
        if views.profile and context.profile:
            tokens += [*heads["profile"], *self.text(context.profile)]
        return Prompt([*tokens, self.end], shown.history, listed)

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


def draw_shift(context: SearchContext, rate: float, largest: int, rng: random.Random) -> int:
    """How far to slide the behaviour window back, for sliding-window augmentation."""
    if rng.random() >= rate or len(context.recent_clicks) < 2:
        return 0
    return rng.randint(1, min(largest, len(context.recent_clicks) - 1))
