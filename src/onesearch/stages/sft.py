"""Stages `sft_align`, `sft_cooccur`, `sft_personalize`: one class, three task lists, each starting from the one before.

L = −(1/C)·Σ_l log π(c_l | c_<l, x) for SID answers, token cross-entropy for text answers.
"""

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from onesearch.artifacts import verify
from onesearch.khqe import Khqe
from onesearch.metrics.task_losses import TaskLosses
from onesearch.models.copier import Copier
from onesearch.models.generator import FreshGenerator, Generator, GeneratorBackbone
from onesearch.models.generator_folder import load_generator
from onesearch.models.history_adapter import HistoryAdapter
from onesearch.models.text_tokenizer import load_tokenizer
from onesearch.sid.vocabulary import Vocabulary
from onesearch.stages.generation import GeneratorStage
from onesearch.stages.stage import Optimization
from onesearch.tasks.prompt import MARKERS, NUM_PLACES, Views
from onesearch.tasks.template import Template
from onesearch.types import GeneratorBatch, SearchContext, UserError


class SftStage(GeneratorStage):
    """Supervised fine-tuning of the generator.

    Args:
        run: the run folder.
        name: the stage's folder in it.
        form: the prompt that the stage answers best: query text → SID (`sid`), SID_q → item (`cooccur`), the whole
            prompt of a search → item (`search`). Validation, and comparison, ask in this form.
        init_from: the stage to start from; None builds `backbone`.
        backbone: the encoder-decoder of the first stage.
        tokenizer: a pretrained tokenizer by name; None: the run's own one.
        sid_init: where the SID embeddings of a new generator start: half in their `centroids`, or as `fresh` as any
            added token's.
        views: what a search prompt shows; linked from the DataModule.
        template: the words of the prompts: `markers`, `en`, `zh` or a YAML file's path; linked from the DataModule.
        copying: whether a `Copier` repeats listed items; it needs `views.fold_sids`.
        text_weight: weight of a text batch's loss.
        num_beams: K in validation.
        gradient_checkpointing: whether a layer's states are computed again for its gradients in place of being kept:
            less memory, a third more time.
        compile_backend: of `torch.compile`, such as `inductor`, for the backbone's layers in training; None compiles
            nothing.
        optimization: optimizer and schedule.
    """

    def __init__(
        self,
        run: Path,
        name: str,
        form: Literal["sid", "cooccur", "search"],
        init_from: str | None = None,
        backbone: GeneratorBackbone = FreshGenerator(),
        tokenizer: str | None = None,
        sid_init: Literal["centroids", "fresh"] = "centroids",
        views: Views = Views(),
        template: str = "markers",
        copying: bool = False,
        text_weight: float = 0.5,
        num_beams: int = 20,
        gradient_checkpointing: bool = False,
        compile_backend: str | None = None,
        optimization: Optimization = Optimization(),
    ) -> None:
        super().__init__(run, name, optimization)
        self.form = form
        self.init_from = init_from
        self.backbone = backbone
        self.tokenizer_name = tokenizer
        self.sid_init = sid_init
        self.views = views
        self.template_name = template
        self.copying = copying
        self.text_weight = text_weight
        self.num_beams = num_beams
        self.gradient_checkpointing = gradient_checkpointing
        self.compile_backend = compile_backend
        self.parents = ("log", "quantizer") + ((init_from,) if init_from else ())
        self.train_losses, self.val_losses = TaskLosses(), TaskLosses()
        self.losses_read_at = 0  # step

    def build(self) -> None:
        """Build the generator, with a copier where it is asked for."""
        if self.copying and not self.views.fold_sids:
            raise UserError(
                f"{self.name}: 'copying' needs folded items: set 'views.fold_sids' of the data to true, or 'copying' "
                "to false."
            )
        self.template = Template.load(self.template_name)
        self._build_generator()
        self._check_views()
        if self.gradient_checkpointing:
            self.generator.architecture.checkpoint_activations()
        if self.compile_backend:
            self.generator.architecture.compile_layers(self.compile_backend)
        if not self.copying:
            self.generator.copier = None
        elif self.generator.copier is None:
            self.generator.copier = Copier(self.generator.backbone.config.hidden_size, NUM_PLACES)

    def _build_generator(self) -> None:
        """Start from the stage before, or from the backbone with SID embeddings drawn from the codebook."""
        self.khqe = Khqe.open(self.run)
        if self.init_from:
            verify(self.run / self.init_from, "generator", [self.run / "quantizer"])
            self.generator, self.tokenizer, _ = load_generator(self.run / self.init_from, MARKERS)
            self.generator.train()  # what is loaded comes ready for inference, without dropout
            return
        self.tokenizer = load_tokenizer(self.tokenizer_name or self.run / "tokenizer")
        vocabulary = Vocabulary(len(self.tokenizer), self.khqe.spec, MARKERS)
        backbone = self.backbone.build(vocabulary.size, vocabulary.num_text_tokens)
        adapter = HistoryAdapter(self.khqe.history_centroids, backbone.config.hidden_size, self.views.num_slots)
        self.generator = Generator(backbone, vocabulary, adapter)
        if self.sid_init == "centroids":
            self.generator.init_sid_embeddings(self.khqe.centroids)

    def _check_views(self) -> None:
        """Refuse what the generator cannot read: slots that its adapter does not fill, prompts beyond its positions."""
        trained, positions = self.generator.adapter.num_queries, self.generator.max_length
        if self.views.num_slots not in (0, trained):
            raise UserError(
                f"{self.name}: 'views.num_slots' is {self.views.num_slots}, but the history adapter of "
                f"'{self.init_from}' fills {trained}: set it to {trained}, or to 0 to show no long history."
            )
        lengths = self.views.lengths(self.khqe.spec.num_layers)
        longest = sum(lengths.values()) + self.khqe.writer(self.tokenizer, self.views, self.template).num_words()
        if self.form == "search" and positions is not None and longest > positions:
            most = max(lengths, key=lambda name: lengths[name])
            raise UserError(
                f"{self.name}: a search prompt may have {longest} tokens, but the backbone reads {positions}: "
                f"lower 'views.{most}' of the data, whose part may have {lengths[most]}, or take a "
                "backbone with more positions."
            )

    def on_fit_start(self) -> None:
        """Refuse prompts that are written in another tokenizer's tokens; Lightning knows of no data in a bare loop."""
        writes = getattr(getattr(self.trainer, "datamodule", None), "tokenizer", None)
        if writes is not None and writes.get_vocab() != self.tokenizer.get_vocab():
            raise UserError(
                f"{self.name}: prompts are written with a tokenizer of {len(writes)} tokens, but the generator reads "
                f"{len(self.tokenizer)} other ones: give the data the same 'init_from' and 'tokenizer' as the stage."
            )

    def training_step(self, batch: GeneratorBatch, _: int) -> Tensor:
        """One batch of one kind of answer."""
        losses, lengths = self.answer_losses(batch)
        loss = losses.sum() / lengths.sum()
        self._add(self.train_losses, batch, losses / lengths)
        kind = "text" if batch.codes is None else "sid"
        self.latest = {f"train/{kind}_loss": loss.detach()}
        self.log_dict(self.latest, prog_bar=True, logger=False, batch_size=len(losses))
        padding = 1 - batch.prompt.attention_mask.float().mean()
        self.log("train/padding", padding, on_step=False, on_epoch=True, batch_size=len(losses))
        return loss if kind == "sid" else self.text_weight * loss

    def answer_losses(self, batch: GeneratorBatch) -> tuple[Tensor, Tensor]:
        """−log π of each answer [B], and their lengths [B] in tokens."""
        encoded = self.generator.encode(batch.prompt)
        if batch.codes is not None:
            losses = -self.generator.sid_log_probs(encoded, batch.codes.unsqueeze(1)).flatten(1)
            return losses.sum(1), torch.full_like(losses[:, 0], losses.shape[1])
        assert batch.labels is not None
        return self.generator.text_losses(encoded, batch.labels).sum(1), (batch.labels != -100).sum(1)

    def on_train_batch_end(self, *_: Any) -> None:
        """Write the batch's loss and each task's since the last time, as seldom as any figure: it waits for the device.

        Not by `self.log`, which repeats a figure until the epoch ends: the loss of a kind or task that did not come.
        """
        seldom = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # set outside of the class
        if seldom and self.global_step > self.losses_read_at and self.global_step % seldom == 0:
            self.losses_read_at = self.global_step
            figures = {name: float(loss) for name, loss in self.latest.items()} | self._read("train", self.train_losses)
            for logger in self.loggers:
                logger.log_metrics(figures, step=self.global_step - 1)  # steps count from 0 there

    def validation_step(self, batch: GeneratorBatch | list[SearchContext], *_: int) -> None:
        """Searches are answered with beams; the tasks' own examples are read together with their answers."""
        if isinstance(batch, GeneratorBatch):
            losses, lengths = self.answer_losses(batch)
            self._add(self.val_losses, batch, losses / lengths)
            return
        # Beams hand a cache from layer to layer, whose every length would be compiled anew.
        with torch.compiler.set_stance("force_eager") if self.compile_backend else nullcontext():
            super().validation_step(batch)

    def on_validation_epoch_end(self) -> None:
        """Log each task's loss over all its examples."""
        self.log_dict(self._read("val", self.val_losses))

    def _add(self, to: TaskLosses, batch: GeneratorBatch, losses: Tensor) -> None:
        if batch.tasks is not None:
            to.add(losses, batch.tasks, batch.task_names)

    def _read(self, split: str, losses: TaskLosses) -> dict[str, float]:
        means = losses.means(partial(self.trainer.strategy.reduce, reduce_op="sum"))
        losses.clear()
        return {f"{split}/loss/{name}": mean for name, mean in means.items()}
