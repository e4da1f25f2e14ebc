"""Stages `dpo_hybrid` and `dpo_logged`: list-wise DPO from preference lists (PARS, OneSearch §4.4).

predict  builds the lists and the reference's log-probabilities, once; no second model sits in memory in training
fit      L = softplus(logsumexp_l(w_l·(r̂_l − r̂_w + δ))) − α·log π_θ(i_w|x),  r̂(i) = β·log(π_θ(i|x)/π_ref(i|x))
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from onesearch.artifacts import verify, writing
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.losses import LEVEL_WEIGHTS, adaptive_reward, listwise_dpo, reward_gap_weight
from onesearch.models.generator_folder import load_generator
from onesearch.models.reward import load_reward
from onesearch.models.reward_features import Catalogue, RewardFeatures, RewardInput, number_categories
from onesearch.stages.generation import GeneratorStage
from onesearch.stages.stage import Optimization
from onesearch.tasks.preference import Levels, PreferenceList, hybrid_list, logged_list
from onesearch.tasks.prompt import MARKERS, Views
from onesearch.tasks.template import Template
from onesearch.types import PreferenceBatch, SearchContext, UserError


@dataclass(frozen=True)
class Preference:
    """Of the preference lists and their loss; no value is published, these are ours.

    Args:
        beta: β, how firmly the policy is held to the reference.
        delta: δ, margin that the chosen item must keep.
        alpha: α, weight of the likelihood of the chosen item.
        max_weight: w_max, clip of the reward gap's weight.
        num_rejected: most rejected items of a list.
        list_size: items of a beam that the reward model re-sorts, in phase 1.
    """

    beta: float = 0.1
    delta: float = 0.0
    alpha: float = 0.1
    max_weight: float = 3.0
    num_rejected: int = 6
    list_size: int = 20


class DpoStage(GeneratorStage):
    """List-wise DPO; a subclass says where the lists come from.

    Args:
        run: the run folder.
        name: the stage's folder in it; the lists go to `run/NAME_lists`.
        init_from: the stage to start from, which is the reference too.
        preference: of the loss.
        num_beams: K, in validation and where beams make the lists.
        seed: of the drawn items.
        optimization: optimizer and schedule.
    """

    list_parents: tuple[str, ...] = ()

    def __init__(
        self,
        run: Path,
        name: str,
        init_from: str,
        preference: Preference = Preference(),
        num_beams: int = 20,
        seed: int = 0,
        optimization: Optimization = Optimization(lr=1e-5),
    ) -> None:
        super().__init__(run, name, optimization)
        self.init_from = init_from
        self.preference = preference
        self.num_beams = num_beams
        self.rng = np.random.default_rng(seed)
        self.parents = ("log", "quantizer", init_from, f"{name}_lists")

    def build(self) -> None:
        """Start from the reference."""
        self.khqe = Khqe.open(self.run)
        verify(self.run / self.init_from, "generator", [self.run / "quantizer"])
        self.generator, self.tokenizer, settings = load_generator(self.run / self.init_from, MARKERS)
        self.form, self.views = settings["form"], Views(**settings["views"])
        self.template = Template.of(settings)

    # predict: from searches to preference lists

    @abstractmethod
    def propose(self, contexts: Sequence[SearchContext]) -> list[PreferenceList]:
        """The preference lists of some searches."""

    def on_predict_start(self) -> None:
        """Read what the levels and the weights need."""
        log = Log.open(self.run / "log")
        self.item_ids = log.item_ids
        self.pair_counts = log.pair_counts
        self.item_counts = log.item_counts
        self.categories = number_categories(log.items["category"].to_pylist())
        self.levels = Levels(self.categories.numpy(), log.bought_outside)
        self.num_searches = 0
        self.rows: list[dict[str, object]] = []

    def predict_step(self, contexts: list[SearchContext], _: int) -> None:
        """Turn a batch of searches into lists with the reference's log-probabilities."""
        self.num_searches += len(contexts)
        lists = self.propose(contexts)
        if lists:
            self.rows += self._rows(lists, self._reference(lists))

    def on_predict_end(self) -> None:
        """Write the lists as an artefact; a list that teaches nothing is no list."""
        if not self.rows:
            raise UserError(
                f"{self.name}: none of {self.num_searches} searches gave a preference list: give more searches, or "
                "check that the reward model re-sorts anything at all."
            )
        facts: dict[str, float] = {"num_searches": self.num_searches, "num_lists": len(self.rows)}
        facts["share_of_searches"] = round(len(self.rows) / self.num_searches, 4)
        parents = [self.run / parent for parent in ("log", "quantizer", self.init_from, *self.list_parents)]
        with writing(self.run / f"{self.name}_lists", "preferences", parents, facts=facts) as folder:
            pq.write_table(pa.Table.from_pylist(self.rows), folder / "lists.parquet", write_page_checksum=True)

    def _reference(self, lists: Sequence[PreferenceList]) -> Tensor:
        """Log π_ref of the chosen and the rejected items, [B, 1 + X], 0 on padding."""
        width = max(len(one.rejected) for one in lists)
        items = np.array([[one.chosen, *one.rejected] + [one.chosen] * (width - len(one.rejected)) for one in lists])
        encoded = self.generator.encode(self.engine.batch([one.context for one in lists]))
        codes = torch.from_numpy(self.khqe.item_codes[items]).to(encoded.hidden.device)
        return self.generator.sid_log_probs(encoded, codes).sum(-1).cpu()

    def _rows(self, lists: Sequence[PreferenceList], reference: Tensor) -> list[dict[str, object]]:
        rows = []
        for one, logs in zip(lists, reference.tolist(), strict=True):
            weights = self._weights(one)
            rows.append(
                {
                    "search_id": one.context.search_id,
                    "chosen": self.item_ids[one.chosen],
                    "reference_chosen": logs[0],
                    "rejected": [self.item_ids[item] for item in one.rejected],
                    "reference_rejected": logs[1 : 1 + len(one.rejected)],
                    "weights": weights.tolist(),
                    "levels": list(one.levels),
                }
            )
        return rows

    def _weights(self, one: PreferenceList) -> Tensor:
        """w_l = clip(rw_Δ, 0, w_max) from the adaptive reward of chosen and rejected items, [X]."""
        items = np.array([one.chosen, *one.rejected])
        counts = torch.from_numpy(self.pair_counts.total([one.context.query] * len(items), items)).double()
        level = torch.tensor([LEVEL_WEIGHTS[level] for level in one.levels], dtype=torch.float64)
        reward = adaptive_reward(level, counts[:, 0], counts[:, 1], counts[:, 2])
        return reward_gap_weight(reward[0], reward[1:], self.preference.max_weight)

    # fit: from preference lists to a better generator

    def on_train_epoch_start(self) -> None:
        """No dropout: policy and reference must agree where the policy has not moved."""
        self.generator.eval()

    def training_step(self, batch: PreferenceBatch, _: int) -> Tensor:
        """The encoder reads each prompt once, whatever the number of candidates."""
        policy = self.generator.sid_log_probs(self.generator.encode(batch.prompt), batch.codes).sum(-1)
        chosen, rejected = policy[:, 0], policy[:, 1:]
        settings = self.preference
        loss = listwise_dpo(
            chosen,
            rejected,
            batch.reference[:, 0],
            batch.reference[:, 1:],
            batch.weights,
            batch.mask,
            settings.beta,
            settings.delta,
            settings.alpha,
        )
        gained = (chosen - batch.reference[:, 0]).unsqueeze(1) - (rejected - batch.reference[:, 1:])
        margin = gained[batch.mask]
        self.log("train/loss", loss, prog_bar=True, batch_size=len(chosen))
        self.log("train/chosen_log_prob", chosen.mean(), batch_size=len(chosen))
        self.log("train/rejected_log_prob", rejected[batch.mask].mean(), batch_size=len(chosen))
        self.log("train/reward_margin", settings.beta * margin.mean(), batch_size=len(chosen))
        self.log("train/reward_accuracy", (margin > 0).float().mean(), prog_bar=True, batch_size=len(chosen))
        return loss


class HybridDpo(DpoStage):
    """Phase 1: the generator's beams, re-sorted by the reward model."""

    list_parents = ("reward",)

    def on_predict_start(self) -> None:
        """Load the reward model beside the generator."""
        super().on_predict_start()
        verify(self.run / "reward", "reward", [self.run / "quantizer"])
        self.reward = load_reward(self.run / "reward").to(self.device)
        items = Log.open(self.run / "log").items.to_pydict()
        catalogue = Catalogue.of(items, self.khqe.item_embeddings, torch.from_numpy(self.khqe.item_codes))
        history = self.reward.history
        self.features = RewardFeatures(
            catalogue, self.item_counts, self.pair_counts, history.short_size, history.long_size
        )

    def propose(self, contexts: Sequence[SearchContext]) -> list[PreferenceList]:
        """Re-sort each beam; keep the lists whose order changed."""
        beams = [ranked.items.tolist() for ranked in self.engine.rank(contexts, self.preference.list_size)]
        queries = torch.stack([self.khqe.embedding_of(context.query) for context in contexts])
        inputs = RewardInput(*(part.to(self.device) for part in self.features(contexts, beams, queries)))
        scores = self.reward.score(self.reward(inputs)).cpu().numpy()
        lists = [
            hybrid_list(context, items, row[: len(items)], self.levels, self.preference.num_rejected)
            for context, items, row in zip(contexts, beams, scores, strict=True)
        ]
        return [one for one in lists if one is not None]


class LoggedDpo(DpoStage):
    """Phase 2: what shoppers really did, levels L1–L3 above levels L4–L6."""

    def propose(self, contexts: Sequence[SearchContext]) -> list[PreferenceList]:
        """One list a search that led to something."""
        count = self.preference.num_rejected
        lists = [logged_list(context, self.levels, count, self.rng) for context in contexts]
        return [one for one in lists if one is not None]
