"""SearchEngine: a trained run answers searches.

context → prompt → encoder → constrained beams over valid SIDs → buckets → items
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from onesearch.artifacts import ArtifactError, verify
from onesearch.decoding.beam import Beams, beam_search
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.log.text import normalize_query
from onesearch.models.generator import Generator
from onesearch.models.generator_folder import load_generator
from onesearch.models.scorer import GeneratorScorer
from onesearch.serve.filtering import Filter
from onesearch.serve.filters import Filters, Passing
from onesearch.sid.trie import SidTree
from onesearch.tasks.collation import collate_prompts
from onesearch.tasks.prompt import MARKERS, Prompt, Views
from onesearch.tasks.template import Template
from onesearch.types import PromptBatch, SearchContext, UserError

if TYPE_CHECKING:
    from onesearch.serve.reranker import Reranker

STAGES = ("sft_align", "sft_cooccur", "sft_personalize", "dpo_hybrid", "dpo_logged")
"""The stages that leave a generator, in their order."""

ROUND = re.compile(r"_([2-9]|[1-9]\d+)$")
"""How the folder of a stage's further round ends: `dpo_hybrid_2`."""


def stage_of(folder: str) -> str:
    """The stage that left a folder, whichever its round."""
    return ROUND.sub("", folder)


def trained(run: Path) -> list[str]:
    """Folders of the run's finished generators in their order: a round's stages before those of the next."""

    def order(folder: str) -> tuple[int, int]:
        number = ROUND.search(folder)
        return int(number[1]) if number else 1, STAGES.index(stage_of(folder))

    found = (path.parent.name for path in run.glob("*/manifest.json"))
    return sorted((folder for folder in found if stage_of(folder) in STAGES), key=order)


class Judgement(NamedTuple):
    """What the reward model says of an item, or of each item of a list."""

    score: NDArray[np.float64] | float  # what the list was re-sorted by
    reward: NDArray[np.float64] | float  # the part of it that is the reward model's
    ctr: NDArray[np.float64] | float  # P(click | shown)
    cvr: NDArray[np.float64] | float  # P(order | click); as meaningless as CTCVR where the log knew no orders
    ctcvr: NDArray[np.float64] | float  # P(click and order | shown)
    relevance: NDArray[np.float64] | float  # 0 to 1


class Hit(NamedTuple):
    """One item of an answer."""

    item_id: str
    title: str
    sid: str
    score: float  # log-probability of the SID
    judgement: Judgement | None = None  # where the answer was re-sorted


class Ranked(NamedTuple):
    """Items of one search, best first."""

    items: NDArray[np.int64]  # [K] rows
    scores: NDArray[np.float64]  # [K] log-probability of each item's SID
    judgement: Judgement | None = None  # [K] each, where the items were re-sorted

    def take(self, places: NDArray[np.int64] | slice) -> "Ranked":
        """The items at some places, with all that is said of them."""
        parts = None if self.judgement is None else (np.asarray(part)[places] for part in self.judgement)
        return Ranked(self.items[places], self.scores[places], None if parts is None else Judgement(*parts))


class SearchEngine:
    """Answers searches with one generator of a run.

    Args:
        khqe: SIDs of the catalogue.
        generator: the trained model.
        tokenizer: of its text.
        form: which prompt the generator was last trained to answer: `sid`, `cooccur` or `search`.
        views: what a search prompt shows.
        num_beams: K.
        per_bucket: how many items of one SID are shown, where a filter leaves enough others.
        template: the words of its prompts.
    """

    def __init__(
        self,
        khqe: Khqe,
        generator: Generator,
        tokenizer: PreTrainedTokenizerBase,
        form: str,
        views: Views,
        num_beams: int = 64,
        per_bucket: int = 5,
        template: Template = Template(),  # noqa: B008
    ) -> None:
        self.khqe = khqe
        self.generator = generator
        self.form = form
        self.num_beams = num_beams
        self.per_bucket = per_bucket
        self.trie = khqe.trie.to(generator.backbone.device)
        self.writer = khqe.writer(tokenizer, views, template)
        self._filters: Filters | None = None

    @classmethod
    def open(cls, run: Path, stage: str | None = None, khqe: Khqe | None = None, num_beams: int = 64) -> "SearchEngine":
        """Load the generator of `stage`, or of the last stage that is finished.

        Args:
            run: the run folder.
            stage: one of `STAGES`, or the folder of a further round.
            khqe: the run's SIDs where they are loaded already.
            num_beams: K.

        Raises:
            UserError: there is no such stage, or it is not trained yet.
        """
        if stage is not None and stage_of(stage) not in STAGES:
            raise UserError(f"No stage '{stage}' answers searches: use one of {', '.join(STAGES)}.")
        finished = trained(run)
        if not finished:
            raise ArtifactError(f"{run} holds no trained generator yet: run the pipeline, or `onesearch fit`, first.")
        folder = run / (stage or finished[-1])
        verify(folder, "generator", [run / "quantizer"])
        generator, tokenizer, settings = load_generator(folder, MARKERS)
        return cls(
            khqe or Khqe.open(run, with_added=True),
            generator,
            tokenizer,
            settings["form"],
            Views(**settings["views"]),
            num_beams,
            template=Template.of(settings),
        )

    @property
    def reads_users(self) -> bool:
        """Whether an answer may depend on who asks."""
        return self.form == "search" and self.writer.views.personal

    def prompt(self, context: SearchContext) -> Prompt:
        """The prompt of a search in the form that the generator was trained to answer."""
        writer = self.writer
        if self.form == "sid":
            return writer.about("QueryToSid", writer.text(context.query))
        if self.form == "cooccur":
            return writer.about("QuerySidToItemSid", writer.sid(self.khqe.sid_of(context.query)))
        return writer.search(context)

    def batch(self, contexts: Sequence[SearchContext]) -> PromptBatch:
        """Prompts of several searches, padded, on the generator's device."""
        self.khqe.learn(query for context in contexts for query in (context.query, *context.recent_queries))
        pad = self.writer.tokenizer.pad_token_id
        batch = collate_prompts([self.prompt(context) for context in contexts], self.khqe.item_codes, pad)
        device = self.generator.backbone.device
        return batch._replace(**{name: part.to(device) for name, part in batch._asdict().items() if part is not None})

    def beams(self, contexts: Sequence[SearchContext]) -> Beams:
        """The best valid SIDs of each search."""
        return self.beams_within(contexts, self.trie)[0]

    @torch.inference_mode()
    def beams_within(self, contexts: Sequence[SearchContext], *tries: SidTree, spare: int = 0) -> list[Beams]:
        """The best K + `spare` SIDs of each search inside one trie after the other; the prompts are read once."""
        was_training = self.generator.training
        self.generator.eval()
        encoded = self.generator.encode(self.batch(contexts))
        num_beams = self.num_beams + spare
        found = [beam_search(GeneratorScorer(self.generator, encoded), trie, num_beams) for trie in tries]
        self.generator.train(was_training)
        return found

    def rank(self, contexts: Sequence[SearchContext], k: int, passing: Passing | None = None) -> list[Ranked]:
        """At most `k` items for each search of one batch.

        Args:
            contexts: the searches.
            k: length of the answers.
            passing: the only items that may be in them; the whole catalogue when not given, as it is evaluated.
        """
        if passing is None:
            return self.ranked(self.beams(contexts), k)
        return self.rank_each(contexts, [k] * len(contexts), [passing] * len(contexts))

    def rank_each(
        self, contexts: Sequence[SearchContext], lengths: Sequence[int], passing: Sequence[Passing]
    ) -> list[Ranked]:
        """The items of searches of one batch whose filters differ in blocked items at most.

        Args:
            contexts: the searches.
            lengths: how many items each asks for: a list is filled up to its own length, so that cutting a longer one
                would not give it.
            passing: of each the only items that may be in it; all of one trie and one `spare`.
        """
        trie, spare = passing[0].trie, passing[0].spare
        if trie is None:
            return [Ranked(np.empty(0, np.int64), np.empty(0)) for _ in contexts]
        found = _sids(self.beams_within(contexts, trie, spare=spare)[0])
        return [self.expand(*sids, k, shown) for sids, k, shown in zip(found, lengths, passing, strict=True)]

    def ranked(self, beams: Beams, k: int) -> list[Ranked]:
        """The items behind beams, at most `k` for each search."""
        return [self.expand(*sids, k) for sids in _sids(beams)]

    def expand(
        self, codes: NDArray[np.int64], scores: NDArray[np.float64], k: int, passing: Passing | None = None
    ) -> Ranked:
        """Items of ranked SIDs [K, C] with their scores [K]."""
        items = self.khqe.table.expand(codes, k, self.per_bucket, None if passing is None else passing.items)
        score_of = {tuple(sid): score for sid, score in zip(codes.tolist(), scores, strict=True)}
        return Ranked(items, np.array([score_of[tuple(self.khqe.item_codes[item].tolist())] for item in items]))

    def filters(self, log: Log) -> Filters:
        """The filters over the items of a log; those that are compiled are kept until another log comes."""
        if self._filters is None or self._filters.log is not log:
            self._filters = Filters(log, self.khqe.table, self.trie)
        return self._filters

    def search(
        self,
        log: Log,
        query: str,
        user_id: str | None = None,
        k: int = 10,
        reranker: "Reranker | None" = None,
        filter: Filter = Filter(),  # noqa: B008
    ) -> list[Hit]:
        """Answer a shopper's query now, with the behaviour that the log holds of the user.

        Args:
            log: with the items of `khqe`.
            query: as typed.
            user_id: None or an unknown user: no history.
            k: number of items.
            reranker: re-sorts a longer list before it is cut.
            filter: what an item must be to be shown; without one, not known to be sold out.

        Raises:
            UserError: the query holds no word, no item is asked for, or the filter names what there is not.
        """
        if not normalize_query(query):
            raise UserError(f"The query '{query}' holds no word: say what to look for, such as 'red dress'.")
        if k < 1:
            raise UserError(f"k is {k}: ask for at least one item.")
        contexts, passing = [log.context(user_id, query)], self.filters(log).of(filter)
        if reranker is None:
            return self._hits(log, self.rank(contexts, k, passing)[0])
        return self._hits(log, reranker.rerank(contexts, self.rank(contexts, reranker.length(k), passing), k)[0])

    def _hits(self, log: Log, ranked: Ranked) -> list[Hit]:
        titles = log.items["title"].take(ranked.items).to_pylist()
        sids = [self.khqe.spec.render(codes) for codes in self.khqe.item_codes[ranked.items].tolist()]
        judgements: list[Judgement | None] = [None] * len(titles)
        if ranked.judgement is not None:
            parts = zip(*(part.tolist() for part in map(np.asarray, ranked.judgement)), strict=True)
            judgements = [Judgement(*part) for part in parts]
        return [
            Hit(log.item_ids[item], title, sid, float(score), judgement)
            for item, title, sid, score, judgement in zip(
                ranked.items, titles, sids, ranked.scores, judgements, strict=True
            )
        ]


def _sids(beams: Beams) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Of each search the SIDs [K, C] that were found, and their scores [K]."""
    for codes, scores, valid in zip(beams.codes, beams.scores, beams.valid, strict=True):
        yield codes[valid].cpu().numpy(), scores[valid].double().cpu().numpy()
