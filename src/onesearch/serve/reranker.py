"""The reward model in serving: a beam's items are re-sorted before they are shown (PARS, OneSearch §4.3).

    beam → items with log π → CTR, CVR, CTCVR, relevance of each → score → the list that is shown

Everything that the reward model reads is known before the search: the shopper's behaviour until then, and counts of the
day before. The generator's log-probability can count beside the reward: `serve.reranking` says why.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from onesearch.artifacts import ArtifactError, read_manifest, verify
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.models.reward import HistorySizes, RewardModel, RewardOutput, ScoreWeights, load_reward
from onesearch.models.reward_features import Catalogue, RewardFeatures, RewardInput
from onesearch.serve.engine import Judgement, Ranked
from onesearch.serve.reranking import Reranking
from onesearch.types import SearchContext

LOG_PROBABILITY = "sid_log_probability"
NAMES = {"ctr": "CTR", "cvr": "CVR", "ctcvr": "CTCVR", "relevance": "relevance", LOG_PROBABILITY: "log p"}
"""The parts of a score, and what they are called."""


class Reranker:
    """Re-sorts lists of items by the reward model.

    Args:
        model: the trained reward model; its device is where lists are judged.
        features: of the catalogue that the lists come from.
        khqe: encodes queries.
        settings: how lists are re-sorted.
    """

    def __init__(
        self, model: RewardModel, features: RewardFeatures, khqe: Khqe, settings: Reranking | None = None
    ) -> None:
        self.model = model.eval()
        self.features = features
        self.khqe = khqe
        self.settings = settings or Reranking()

    @classmethod
    def open(
        cls,
        run: Path,
        khqe: Khqe,
        log: Log,
        weights: ScoreWeights | None = None,
        settings: Reranking | None = None,
    ) -> "Reranker":
        """Load the reward model of a run.

        Args:
            run: the run folder.
            khqe: its SIDs.
            log: its log, with the items of `khqe`.
            weights: of the score; those it was trained beside when not given.
            settings: how lists are re-sorted.

        Raises:
            ArtifactError: the reward model is missing, damaged, or of another codebook or version.
        """
        verify(run / "reward", "reward", [run / "quantizer"])
        try:
            model = load_reward(run / "reward", weights)
        except (KeyError, TypeError, RuntimeError) as error:  # its settings, or its weights, are not those of today
            raise ArtifactError(f"{run / 'reward'} is of another version: run the 'reward' stage again.") from error
        return cls(model, _features(khqe, log, model.history), khqe, settings)

    def to(self, device: torch.device) -> "Reranker":
        """The same on a device."""
        self.model.to(device)
        return self

    @property
    def weights(self) -> dict[str, float]:
        """What each part of a judgement, and the log-probability of the SID, count in the score.

        CVR and CTCVR are not among them where the log knew no orders: then they say nothing.
        """
        weights = self.model.weights
        orders = {"cvr": weights.cvr, "ctcvr": weights.ctcvr} if self.model.orders_known else {}
        relevance = {"relevance": 10 * weights.relevance}
        return {"ctr": weights.ctr} | orders | relevance | {LOG_PROBABILITY: self.settings.generator_weight}

    @property
    def formula(self) -> str:
        """The score in figures, as lists are sorted by it."""
        return "score = " + " + ".join(f"{weight:g}·{NAMES[name]}" for name, weight in self.weights.items() if weight)

    def length(self, k: int) -> int:
        """How many items to ask a beam for when `k` of them are to be shown."""
        return max(k, self.settings.list_size)

    def scores(self, contexts: Sequence[SearchContext], items: Sequence[Sequence[int]]) -> list[NDArray[np.float64]]:
        """The reward of each item of each search, an array [X] a list.

        Args:
            contexts: B searches.
            items: item rows of each, lists of any lengths.
        """
        return [np.asarray(found.score) for found in self.judge(contexts, items)]

    @torch.inference_mode()
    def judge(self, contexts: Sequence[SearchContext], items: Sequence[Sequence[int]]) -> list[Judgement]:
        """What the reward model says of each item, its own score and the parts of it; arguments as in `scores`."""
        if not any(map(len, items)):
            return [Judgement(*np.zeros((6, 0))) for _ in contexts]
        output = self.model(self._inputs(contexts, items))
        parts = (self.model.score(output), *_probabilities(output))
        columns = torch.stack(parts, dim=1).double().cpu().numpy()  # [B, 5, X]
        found = [column[:, : len(row)] for column, row in zip(columns, items, strict=True)]
        return [Judgement(reward, reward, *probabilities) for reward, *probabilities in found]

    def rerank(self, contexts: Sequence[SearchContext], ranked: Sequence[Ranked], k: int) -> list[Ranked]:
        """Lists re-sorted and cut to `k` items, what was said of them beside them.

        Args:
            contexts: B searches.
            ranked: what the generator answers to each; ask it for `length(k)` items.
            k: length of the answers.
        """
        found = self.judge(contexts, [answer.items.tolist() for answer in ranked])
        return [self._sorted(answer, judgement, k) for answer, judgement in zip(ranked, found, strict=True)]

    def _sorted(self, ranked: Ranked, judgement: Judgement, k: int) -> Ranked:
        """What is alike keeps the generator's order."""
        score = np.asarray(judgement.score) + self.settings.generator_weight * ranked.scores
        order = np.argsort(-score, kind="stable")[:k]
        return ranked._replace(judgement=judgement._replace(score=score)).take(order)

    def _inputs(self, contexts: Sequence[SearchContext], items: Sequence[Sequence[int]]) -> RewardInput:
        self.khqe.learn(context.query for context in contexts)
        queries = torch.stack([self.khqe.embedding_of(context.query) for context in contexts])
        device = self.model.kept.device  # a buffer: popularity has no parameters
        return RewardInput(*(part.to(device) for part in self.features(contexts, items, queries)))


def _probabilities(output: RewardOutput) -> tuple[torch.Tensor, ...]:
    return (output.ctr.sigmoid(), output.cvr.sigmoid(), output.ctcvr.sigmoid(), output.relevance)


def _features(khqe: Khqe, log: Log, history: HistorySizes) -> RewardFeatures:
    """What the model reads of the items of `khqe`, with the counts of `log`."""
    catalogue = Catalogue.of(log.items.to_pydict(), khqe.item_embeddings, torch.from_numpy(khqe.item_codes))
    return RewardFeatures(catalogue, log.item_counts, log.pair_counts, history.short_size, history.long_size)


def doubt(run: Path) -> str | None:
    """Why the reward model of a run should not re-sort lists before `onesearch compare` says that it may, if at all."""
    facts = read_manifest(run / "reward").facts
    if facts.get("negatives") != "drawn":
        return None
    # One search without impressions makes a log one of drawn negatives: how many there are is the reader's to weigh.
    drawn, total = facts.get("num_drawn_searches"), facts.get("num_searches")
    share = f"{drawn / total:.1%} of " if drawn and total else ""
    return (
        f"The log behind {run / 'reward'} does not record what was shown in {share}its searches: its reward model "
        "knows negatives that were drawn, and may make lists worse. `onesearch compare` says whether it does "
        "(onesearch-reranked)."
    )


def has_learnt_validation(run: Path) -> bool:
    """Whether the reward model of a run has learnt from the validation split, so that its figures there are no test."""
    return str(read_manifest(run / "reward").facts.get("validation", "")).startswith("learnt from")
