"""Stages `dpo_hybrid` and `dpo_logged`: list-wise DPO from preference lists (PARS, OneSearch §4.4).

predict  builds the lists and the reference's log-probabilities, once; no second model sits in memory in training
gate     what the lists are worth, in figures; below a threshold nothing learns from them (`metrics.preference_gate`)
fit      L = softplus(logsumexp_l(w_l·(r̂_l − r̂_w + δ))) − α·log π_θ(i_w|x),  r̂(i) = β·log(π_θ(i|x)/π_ref(i|x))
         of soft lists: L = −Σ_i p_i·log softmax_i(r̂) − α·log Σ_i π_θ(i|x)
"""

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor

from onesearch.artifacts import verify, write_json, writing
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.losses import list_kl, listwise_preference, log_mass, soft_preference
from onesearch.metrics.chosen_fall import Alarm, ChosenFall
from onesearch.metrics.preference_gate import Gate, JudgedBeam, beam_figures, list_figures
from onesearch.models.generator_folder import load_generator
from onesearch.models.reward_features import number_categories
from onesearch.report.preferences import show_gate
from onesearch.serve.reranker import Reranker
from onesearch.stages.generation import GeneratorStage
from onesearch.stages.stage import Optimization
from onesearch.tasks.preference import Levels, PreferenceList, logged_list, risen_list, soft_list
from onesearch.tasks.preference_table import list_table, pair_columns
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
        labels: what phase 1 makes of a re-sorted beam: the chance of each item to be the best (soft), or one that rose
            or was clicked above those that fell or are low (risen, as published). See `tasks.preference`.
        sharpness: γ of the soft ones.
    """

    beta: float = 0.1
    delta: float = 0.0
    alpha: float = 0.1
    max_weight: float = 3.0
    num_rejected: int = 6
    list_size: int = 20
    labels: Literal["soft", "risen"] = "soft"
    sharpness: float = 1.0


class DpoStage(GeneratorStage):
    """List-wise DPO; a subclass says where the lists come from.

    Args:
        run: the run folder.
        name: the stage's folder in it; the lists go to `run/NAME_lists`.
        init_from: the stage to start from, which is the reference too.
        preference: of the loss.
        num_beams: K, in validation and where beams make the lists.
        seed: of the drawn items.
        gate: what the lists must reach before anything learns from them.
        alarm: when to speak up about chosen items that become less likely.
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
        gate: Gate = Gate(),
        alarm: Alarm = Alarm(),
        optimization: Optimization = Optimization(lr=1e-5),
    ) -> None:
        super().__init__(run, name, optimization)
        self.init_from = init_from
        self.preference = preference
        self.num_beams = num_beams
        self.rng = np.random.default_rng(seed)
        self.gate = gate
        self.alarm = alarm
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
        """The preference lists of some searches, those without rejected items among them."""

    def on_predict_start(self) -> None:
        """Read what the levels and the weights need.

        Raises:
            UserError: there is more than one process, each of which would write its own lists in the same place.
        """
        if self.trainer.world_size > 1:
            raise UserError(f"{self.name}: lists are written by one process: set '--trainer.devices 1' for `predict`.")
        log = self.log_tables = Log.open(self.run / "log")
        categories = number_categories(log.items["category"].to_pylist())
        self.levels = Levels(categories.numpy(), log.bought_outside)
        self.held_out = set(log.contexts("validation").search_ids)
        self.num_searches = self.num_degenerate = self.num_repeated = 0
        self.beams: list[JudgedBeam] = []
        self.tables: list[pa.Table] = []

    def predict_step(self, contexts: list[SearchContext], _: int, dataloader_idx: int = 0) -> None:
        """Turn a batch of searches into lists with the reference's log-probabilities; a second loader's judge alone."""
        is_for_lists = dataloader_idx == 0
        if not (is_for_lists or self.list_parents):
            return  # no beam is re-sorted here
        proposed = self.propose(contexts)
        self.beams += [self._judged(one) for one in proposed if one.judgement is not None]
        if not is_for_lists:
            return
        self.num_searches += len(contexts)
        told_apart = [one.of_distinct_sids(self.khqe.item_codes) for one in proposed]
        lists = [one for one in told_apart if one.rejected]
        self.num_degenerate += sum(bool(one.rejected) for one in proposed) - len(lists)
        self.num_repeated += sum(
            len(one.rejected) - len(other.rejected) for one, other in zip(proposed, told_apart, strict=True)
        )
        if lists:
            log, most = self.log_tables, self.preference.max_weight
            self.tables.append(list_table(lists, self._reference(lists), log.pair_counts, log.item_ids, most))

    def on_predict_end(self) -> None:
        """Write the lists as an artefact, show what they are worth, and stop where that is too little."""
        if not self.tables:
            raise UserError(
                f"{self.name}: none of {self.num_searches} searches gave a preference list ({self.num_degenerate} had "
                "only items of one SID): give more searches, or check that the reward model re-sorts anything at all."
            )
        table = pa.concat_tables(self.tables)
        figures: dict[str, Any] = {"num_searches": self.num_searches, "num_repeated_sids": self.num_repeated}
        figures |= list_figures(pair_columns(table), self.num_degenerate, self.preference.max_weight)
        figures["share_of_searches"] = round(len(table) / self.num_searches, 4)
        figures |= beam_figures(self.beams) if self.beams else {}
        parents = [self.run / parent for parent in ("log", "quantizer", self.init_from, *self.list_parents)]
        with writing(self.run / f"{self.name}_lists", "preferences", parents, facts=figures) as folder:
            pq.write_table(table, folder / "lists.parquet", write_page_checksum=True)
            write_json(folder / "gate.json", figures)
        show_gate(figures, self.gate.problems(figures))
        self.gate.check(self.name, figures)

    def _judged(self, one: PreferenceList) -> JudgedBeam:
        assert one.judgement is not None
        split = "validation" if one.context.search_id in self.held_out else "train"
        return JudgedBeam(split, one.context.user_id, one.judgement)

    def _reference(self, lists: Sequence[PreferenceList]) -> Tensor:
        """Log π_ref of the chosen and the rejected items, [B, 1 + X], of the chosen one again on padding."""
        width = max(len(one.rejected) for one in lists)
        items = np.array([[one.chosen, *one.rejected] + [one.chosen] * (width - len(one.rejected)) for one in lists])
        encoded = self.generator.encode(self.engine.batch([one.context for one in lists]))
        codes = torch.from_numpy(self.khqe.item_codes[items]).to(encoded.hidden.device)
        return self.generator.sid_log_probs(encoded, codes).sum(-1).cpu()

    # fit: from preference lists to a better generator

    def on_fit_start(self) -> None:
        """Lists that did not pass the gate when they were written do not pass it now, unless its demands changed."""
        self.gate.check(self.name, json.loads((self.run / f"{self.name}_lists" / "gate.json").read_text("utf-8")))
        self.chosen_fall, self.has_warned = ChosenFall(self.alarm), False

    def on_train_start(self) -> None:
        """No dropout: policy and reference must agree where the policy has not moved."""
        self.generator.eval()

    def training_step(self, batch: PreferenceBatch, _: int) -> Tensor:
        """The encoder reads each prompt once, whatever the number of candidates."""
        policy = self.generator.sid_log_probs(self.generator.encode(batch.prompt), batch.codes).sum(-1)
        preference, nll = (part.mean() for part in self._losses(policy, batch))
        loss = preference + self.preference.alpha * nll
        parts = {"train/loss": loss, "train/preference_loss": preference, "train/nll_loss": nll}
        self.log_dict(parts, batch_size=len(policy))
        self._log_rewards(policy.detach(), batch)
        self._watch(policy[:, 0], batch.reference[:, 0])
        return loss

    def _losses(self, policy: Tensor, batch: PreferenceBatch) -> tuple[Tensor, Tensor]:
        """The loss of each list, and its anchor: −log π of the chosen item or of a whole soft list; [B] each."""
        settings = self.preference
        if batch.shares is not None:
            exists = _exists(batch)
            lists = (policy, batch.reference, batch.shares, exists)
            return soft_preference(*lists, settings.beta), -log_mass(policy, exists)
        pairs = (policy[:, 0], policy[:, 1:], batch.reference[:, 0], batch.reference[:, 1:], batch.weights, batch.mask)
        return listwise_preference(*pairs, settings.beta, settings.delta), -policy[:, 0]

    def _log_rewards(self, policy: Tensor, batch: PreferenceBatch) -> None:
        """What preference trainers log, under TRL's names; a pair counts as one, however many its list has."""
        rewards = self.preference.beta * (policy - batch.reference)  # r̂, [B, 1 + X]
        margins = (rewards[:, :1] - rewards[:, 1:])[batch.mask]
        is_weightless = ~((batch.weights > 0) & batch.mask).any(1)
        figures = {
            "rewards/chosen": rewards[:, 0].mean(),
            "rewards/rejected": rewards[:, 1:][batch.mask].mean(),
            "rewards/margins": margins.mean(),
            "logps/chosen": policy[:, 0].mean(),
            "logps/rejected": policy[:, 1:][batch.mask].mean(),
            "kl": list_kl(policy, batch.reference, _exists(batch)).mean().float(),
            "zero_weight": is_weightless.float().mean(),
        }
        self.log_dict({f"train/{name}": figure for name, figure in figures.items()}, batch_size=len(policy))
        accuracy = (margins > 0).float().mean()
        self.log("train/rewards/accuracies", accuracy, prog_bar=True, batch_size=len(policy))

    def _watch(self, chosen: Tensor, reference: Tensor) -> None:
        """Say once, or stop, when chosen items become less likely than they were."""
        fall = self.trainer.strategy.reduce((reference - chosen).detach().mean(), reduce_op="mean")
        sentence = self.chosen_fall.add(fall)
        if sentence is None or self.has_warned:
            return
        if self.alarm.stop:
            raise UserError(f"{self.name}: {sentence} Or set 'alarm.stop' to false.")
        self.has_warned = True
        rank_zero_warn(f"{self.name}: {sentence}")


def _exists(batch: PreferenceBatch) -> Tensor:
    """Candidates that exist, the chosen one among them, [B, 1 + X]."""
    return torch.cat([torch.ones_like(batch.mask[:, :1]), batch.mask], 1)


class HybridDpo(DpoStage):
    """Phase 1: the generator's beams, re-sorted by the reward model."""

    list_parents = ("reward",)

    def on_predict_start(self) -> None:
        """Load the reward model beside the generator."""
        super().on_predict_start()
        self.reranker = Reranker.open(self.run, self.khqe, self.log_tables).to(self.device)

    def propose(self, contexts: Sequence[SearchContext]) -> list[PreferenceList]:
        """A list of each beam by the rewards alone: what the generator thinks is the reference's part of the loss."""
        ranked = self.engine.rank(contexts, self.preference.list_size)
        beams = [answer.items.tolist() for answer in ranked]
        found = zip(contexts, beams, self.reranker.scores(contexts, beams), strict=True)
        lists = [self._list(*one) for one in found]
        return [one for one in lists if one is not None]

    def _list(self, context: SearchContext, items: Sequence[int], scores: NDArray[np.float64]) -> PreferenceList | None:
        settings = self.preference
        if settings.labels == "soft":
            return soft_list(context, items, scores, self.levels, settings.sharpness)
        return risen_list(context, items, scores, self.levels, settings.num_rejected)


class LoggedDpo(DpoStage):
    """Phase 2: what shoppers really did, levels L1–L3 above levels L4–L6."""

    def propose(self, contexts: Sequence[SearchContext]) -> list[PreferenceList]:
        """One list a search that led to something."""
        count = self.preference.num_rejected
        lists = [logged_list(context, self.levels, count, self.rng) for context in contexts]
        return [one for one in lists if one is not None]
