"""What the stages that train the generator share: validation by beams, and the export."""

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from onesearch.khqe import Khqe
from onesearch.metrics.ranking import hit_rate, hits, pad, reciprocal_rank
from onesearch.models.generator import Generator
from onesearch.models.generator_folder import save_generator
from onesearch.serve.engine import SearchEngine
from onesearch.stages.stage import Stage
from onesearch.tasks.prompt import Views
from onesearch.tasks.template import Template
from onesearch.types import SearchContext


class GeneratorStage(Stage):
    """A stage whose artefact is a generator. `configure_model` of a subclass sets the attributes below."""

    kind = "generator"
    khqe: Khqe
    generator: Generator
    tokenizer: PreTrainedTokenizerBase
    form: str
    views: Views
    template: Template
    num_beams: int

    @cached_property
    def engine(self) -> SearchEngine:
        """A search engine, built once: it reads the weights as they are at each answer."""
        parts = (self.khqe, self.generator, self.tokenizer, self.form, self.views, self.num_beams)
        return SearchEngine(*parts, template=self.template)

    def validation_step(self, contexts: list[SearchContext], _: int) -> None:
        """Answer searches with beams: HR and MRR over items."""
        answers = pad([ranked.items.tolist() for ranked in self.engine.rank(contexts, 10)], 10)
        found = hits(answers, [context.clicked for context in contexts])
        for name, metric in (("hr@10", hit_rate), ("mrr@10", reciprocal_rank)):
            value = torch.tensor(float(metric(found, 10).mean()))
            self.log(f"val/{name}", value, prog_bar=True, batch_size=len(contexts), sync_dist=True)

    def export(self, folder: Path) -> dict[str, Any]:
        """The generator, with the form, views and template that its prompts need."""
        settings = {"form": self.form, "views": asdict(self.views), "template": self.template.plain()}
        save_generator(folder, self.generator, self.tokenizer, settings)
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        return {"num_steps": self.global_step, "form": self.form, "metrics": metrics}
