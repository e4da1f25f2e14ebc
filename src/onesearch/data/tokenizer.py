"""The run's own text tokenizer: trained once on the log, shared by encoder and generator."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from onesearch.artifacts import MANIFEST, verify, writing
from onesearch.bpe_dropout import set_bpe_dropout
from onesearch.log.prepared import Log
from onesearch.log.text import item_texts
from onesearch.models.text_tokenizer import load_tokenizer, train_tokenizer


def ensure_tokenizer(run: Path, vocab_size: int) -> None:
    """Train `run/tokenizer` on titles and queries of `run/log`, unless it stands there for this very log."""
    folder = run / "tokenizer"
    if (folder / MANIFEST).is_file():
        manifest = verify(folder, "tokenizer")
        if manifest.config == {"vocab_size": vocab_size} and manifest.parents == {
            "log": verify(run / "log", "log").fingerprint
        }:
            return
    log = Log.open(run / "log")
    texts = item_texts(log.items) + log.queries["query"].to_pylist()
    with writing(folder, "tokenizer", [run / "log"], {"vocab_size": vocab_size}) as temporary:
        train_tokenizer(texts, vocab_size).save_pretrained(temporary)


def open_tokenizer(run: Path, name: str | None, bpe_dropout: float = 0.0) -> PreTrainedTokenizerBase:
    """The pretrained tokenizer `name`, or the run's own one when there is no name.

    With dropout it cuts a text as `draw_segmentation` last said: whoever writes an example names its chance first.
    """
    tokenizer = load_tokenizer(name or run / "tokenizer")
    set_bpe_dropout(tokenizer, bpe_dropout)
    return tokenizer
