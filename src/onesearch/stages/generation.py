"""What the stages that train the generator share: validation by beams, and the export."""

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from onesearch.decoding.free import EverySid
from onesearch.khqe import Khqe
from onesearch.metrics.ranking import hit_rate, hits, pad, reciprocal_rank
from onesearch.metrics.sid import prefix_matches
from onesearch.models.generator import Generator
from onesearch.models.generator_folder import save_generator
from onesearch.serve.engine import SearchEngine
from onesearch.stages.stage import Stage
from onesearch.tasks.prompt import Views
from onesearch.tasks.template import Template
from onesearch.types import SearchContext


class GeneratorStage(Stage):
    """A stage whose artefact is a generator. `build` of a subclass sets the attributes below."""

    kind = "generator"
    khqe: Khqe
    generator: Generator
    tokenizer: PreTrainedTokenizerBase
    form: str
    views: Views
    template: Template
    num_beams: int
    cutoffs: tuple[int, ...] = (1, 5, 10)
    """K of HR@K and MRR@K in validation."""

    @property
    def validated(self) -> str:
        """What the figures of validation are called: `val`, or `seen` where the stage learns from its searches."""
        return "val"

    @cached_property
    def engine(self) -> SearchEngine:
        """A search engine, built once: it reads the weights as they are at each answer."""
        parts = (self.khqe, self.generator, self.tokenizer, self.form, self.views, self.num_beams)
        return SearchEngine(*parts, template=self.template)

    def validation_step(self, contexts: list[SearchContext], *_: int) -> None:
        """Answer searches with beams."""
        for name, values in self._figures(contexts).items():
            self.log(
                f"{self.validated}/{name}",
                torch.tensor(float(values.mean())),
                prog_bar=name.endswith(f"@{max(self.cutoffs)}"),
                batch_size=len(contexts),
                sync_dist=True,
                add_dataloader_idx=False,  # the name is the same whatever is validated beside it
            )

    def _figures(self, contexts: list[SearchContext]) -> dict[str, NDArray[Any]]:
        """HR and MRR over items, right prefixes of the best beam, and which of the free beams' SIDs exist.

        The best beam is the served one, inside the trie; it is right as far as it goes with the SID of a clicked item.
        """
        depth, clicked = max(self.cutoffs), [context.clicked for context in contexts]
        beams, free = self.engine.beams_within(contexts, self.engine.trie, EverySid(self.khqe.spec.sizes))
        found = hits(pad([ranked.items.tolist() for ranked in self.engine.ranked(beams, depth)], depth), clicked)
        wanted = [self.khqe.item_codes[list(items)] for items in clicked]
        matches = prefix_matches(beams.codes[:, 0].cpu().numpy(), wanted)
        return {
            **{f"hr@{k}": hit_rate(found, k) for k in self.cutoffs},
            **{f"mrr@{k}": reciprocal_rank(found, k) for k in self.cutoffs},
            **{f"match_l{level + 1}": column for level, column in enumerate(matches.T)},
            "valid_sids": self.khqe.table.sid_rows(free.codes.flatten(0, 1).cpu().numpy()) >= 0,
        }

    def export(self, folder: Path) -> dict[str, Any]:
        """The generator, with the form, views and template that its prompts need."""
        settings = {"form": self.form, "views": asdict(self.views), "template": self.template.plain()}
        save_generator(folder, self.generator, self.tokenizer, settings)
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        return {"num_steps": self.global_step, "form": self.form, "metrics": metrics}
