"""Stages `sft_align`, `sft_cooccur`, `sft_personalize`: one class, three task lists, each starting from the one before.

L = −(1/C)·Σ_l log π(c_l | c_<l, x) for SID answers, token cross-entropy for text answers.
"""

from pathlib import Path
from typing import Literal

from torch import Tensor

from onesearch.artifacts import verify
from onesearch.khqe import Khqe
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
from onesearch.types import GeneratorBatch, UserError


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
        views: what a search prompt shows; linked from the DataModule.
        template: the words of the prompts: `markers`, `en`, `zh` or a YAML file's path; linked from the DataModule.
        copying: whether a `Copier` repeats listed items; it needs `views.fold_sids`.
        text_weight: weight of a text batch's loss.
        num_beams: K in validation.
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
        views: Views = Views(),
        template: str = "markers",
        copying: bool = False,
        text_weight: float = 0.5,
        num_beams: int = 20,
        optimization: Optimization = Optimization(),
    ) -> None:
        super().__init__(run, name, optimization)
        self.form = form
        self.init_from = init_from
        self.backbone = backbone
        self.tokenizer_name = tokenizer
        self.views = views
        self.template_name = template
        self.copying = copying
        self.text_weight = text_weight
        self.num_beams = num_beams
        self.parents = ("log", "quantizer") + ((init_from,) if init_from else ())

    def configure_model(self) -> None:
        """Build the generator, with a copier where it is asked for."""
        if hasattr(self, "generator"):
            return
        if self.copying and not self.views.fold_sids:
            raise UserError(
                f"{self.name}: 'copying' needs folded items: set 'views.fold_sids' of the data to true, or 'copying' "
                "to false."
            )
        self.template = Template.load(self.template_name)
        self._build_generator()
        if not self.copying:
            self.generator.copier = None
        elif self.generator.copier is None:
            self.generator.copier = Copier(self.generator.backbone.config.d_model, NUM_PLACES)

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
        backbone = self.backbone.build(vocabulary.size)
        adapter = HistoryAdapter(self.khqe.history_centroids, backbone.config.d_model, self.views.num_slots)
        self.generator = Generator(backbone, vocabulary, adapter)
        self.generator.init_sid_embeddings(self.khqe.centroids)

    def training_step(self, batch: GeneratorBatch, _: int) -> Tensor:
        """One batch of one kind of answer."""
        encoded = self.generator.encode(batch.prompt)
        if batch.codes is not None:
            loss = -self.generator.sid_log_probs(encoded, batch.codes.unsqueeze(1)).mean()
            self.log("train/sid_loss", loss, prog_bar=True, batch_size=len(batch.codes))
            return loss
        assert batch.labels is not None
        loss = self.generator.text_loss(encoded, batch.labels)
        self.log("train/text_loss", loss, prog_bar=True, batch_size=len(batch.labels))
        return self.text_weight * loss
