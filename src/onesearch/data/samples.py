"""What `onesearch samples` reads: the corpus of a run, and a writer of the prompts that a stage of it answers."""

from pathlib import Path

from onesearch.artifacts import verify
from onesearch.data.corpus import build_corpus
from onesearch.data.tokenizer import open_tokenizer
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.models.generator_folder import load_settings
from onesearch.tasks.prompt import Views
from onesearch.tasks.prompt_writer import PromptWriter
from onesearch.tasks.task import Corpus
from onesearch.tasks.template import Template
from onesearch.types import UserError

MOST_SEARCHES = 2000
"""The latest searches that samples are chosen from."""


def open_samples(
    run: Path, stage: str | None, views: Views, template: str, tokenizer: str | None
) -> tuple[Corpus, PromptWriter]:
    """The corpus of a run and a prompt writer; the arguments are those of `commands.samples`."""
    words, name = Template.load(template), tokenizer
    if stage is not None:
        verify(run / stage, "generator", [run / "quantizer"])
        settings = load_settings(run / stage)
        views, words, name = Views(**settings["views"]), Template.of(settings), str(run / stage)
    elif tokenizer is None:
        verify(run / "tokenizer", "tokenizer", [run / "log"])
    log, khqe = Log.open(run / "log"), Khqe.open(run)
    searches = log.contexts("train").answered[-MOST_SEARCHES:]
    if not searches:
        raise UserError(f"{run / 'log'}: no search of the training split led to a click, so there is nothing to show.")
    corpus = build_corpus(log, khqe, searches, num_typos=0, num_fragments=1, seed=0)
    return corpus, khqe.writer(open_tokenizer(run, name), views, words)
