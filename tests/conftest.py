"""A tiny shop, prepared once, and a run folder trained on it once, through the real stages.

`tiny_run` holds log, tokenizer, encoder, quantizer, sft_align and sft_personalize. It is shared by the whole session:
read it; to write, take `tiny_run_copy`.
"""

import datetime
import logging
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onesearch.log.prepare import prepare
from onesearch.log.prepared import Log
from onesearch.log.schema import table_of
from onesearch.log.sources.source import Raw, Source
from onesearch.log.split import Split

COLOURS = ("red", "blue", "green", "black", "white", "yellow")
KINDS = {"boots": "Shoes", "sandals": "Shoes", "kettle": "Kitchen", "teapot": "Kitchen", "lamp": "Home", "rug": "Home"}
BRANDS = ("Acme", "Nordwind", "Kestrel")
NUM_USERS, NUM_SEARCHES = 24, 240


def pytest_addoption(parser: pytest.Parser) -> None:
    """See `tests/stages/test_golden.py`."""
    parser.addoption("--record-golden", action="store_true", help="write tests/golden anew before comparing with it")


class TinyShop(Source):
    """36 items, one a colour and kind; 24 shoppers, each of one favourite colour; 240 searches in 40 days.

    A search shows five items and the wanted one among them is clicked, by every other shopper bought too. Six shoppers
    also buy in the recommendation feed. Every tenth search is anonymous; every seventh records no impressions.
    """

    def read(self) -> Raw:
        rng = np.random.default_rng(0)
        rows = {
            "items": [self.item(number) for number in range(len(COLOURS) * len(KINDS))],
            "users": [{"user_id": f"u{user}", "gender": "FM"[user % 2], "province": "Zhejiang"} for user in range(20)],
            "searches": [self.search(number, rng) for number in range(NUM_SEARCHES)],
            "events": [self.event(number, rng) for number in range(60)],
            "judgments": [
                {"query": query, "item_id": f"i{number:02d}", "grade": 3 if COLOURS[number % 6] in query else 1}
                for query in ("red boots", "Blue  Kettle!")
                for number in range(6)
            ],
        }
        return Raw({name: table_of(name, found) for name, found in rows.items()})

    def item(self, number: int) -> dict[str, object]:
        colour, kind = COLOURS[number % 6], list(KINDS)[number // 6]
        brand = BRANDS[number % len(BRANDS)]
        return {
            "item_id": f"i{number:02d}",
            "title": f"{colour.title()} {kind} by {brand}",
            "brand": brand,
            "category": [KINDS[kind], kind.title()],
            "price": 10.0 + number,
            "attributes": [("Entity", [kind]), ("Color", [colour]), ("Brand", [brand])],
            "available": number != 5,
        }

    def search(self, number: int, rng: np.random.Generator) -> dict[str, object]:
        user, kind = number % NUM_USERS, int(rng.integers(6))
        colour = user % 6 if rng.random() < 0.7 else int(rng.integers(6))
        wanted = f"i{kind * 6 + colour:02d}"
        others = [f"i{item:02d}" for item in rng.permutation(36)[:5] if item != kind * 6 + colour]
        query = list(KINDS)[kind] if rng.random() < 0.3 else f"{COLOURS[colour]} {list(KINDS)[kind]}"
        return {
            "search_id": f"s{number:04d}",
            "user_id": f"u{user}" if number % 10 else None,
            "time": at(4 * number),
            "query": query.upper() if number % 5 == 0 else query,
            "impressed": [*others[:2], wanted, *others[2:4]] if number % 7 else None,
            "clicked": [wanted] if number % 11 else [],
            "purchased": [wanted] if user % 2 and number % 11 else [],
        }

    def event(self, number: int, rng: np.random.Generator) -> dict[str, object]:
        action = "purchase" if number % 3 == 0 else "click"
        item = f"i{int(rng.integers(36)):02d}"
        return {
            "user_id": f"u{number % 6}",
            "item_id": item,
            "time": at(15 * number + 1),
            "scene": "recommend",
            "action": action,
        }


def at(hours: float) -> datetime.datetime:
    return datetime.datetime(2024, 3, 1, tzinfo=datetime.UTC) + datetime.timedelta(hours=hours)


@pytest.fixture(scope="session")
def tiny_shop() -> Source:
    """A raw source of about 36 items and 240 searches."""
    return TinyShop()


@pytest.fixture(scope="session")
def _log_only(tiny_shop: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "tiny"
    prepare(tiny_shop, run / "log", Split(test_share=0.2, validation_share=0.2))
    return run


@pytest.fixture(scope="session")
def tiny_log(_log_only: Path) -> Log:
    """The prepared log of `tiny_shop`; does not train anything."""
    return Log.open(_log_only / "log")


@pytest.fixture(scope="session")
def fit_stage() -> Callable[..., object]:
    """`fit_stage(stage, data, epochs=1)` trains a stage with a silent Trainer, and returns the Trainer."""
    import lightning
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    def fit(stage, data, epochs=1, **options):
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        lightning.seed_everything(0, verbose=False)
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        trainer = lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", default_root_dir=stage.run, num_sanity_val_steps=0, **quiet, **options
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.fit(stage, data)
        return trainer

    return fit


@pytest.fixture(scope="session")
def tiny_run(_log_only: Path, fit_stage: Callable[..., object]) -> Path:
    """log, tokenizer, encoder, quantizer, sft_align (form `sid`) and sft_personalize (form `search`); read only."""
    from onesearch.data.alignment import AlignmentData
    from onesearch.data.catalogue import CatalogueData
    from onesearch.data.sft import SftData
    from onesearch.models.generator import FreshGenerator
    from onesearch.models.text_encoder import FreshEncoder
    from onesearch.quantize.rq_opq import RqOpqRecipe
    from onesearch.stages.encoder import EncoderStage
    from onesearch.stages.quantizer import QuantizerStage
    from onesearch.stages.sft import SftStage
    from onesearch.stages.stage import Optimization
    from onesearch.tasks.align import QueryToSid
    from onesearch.tasks.personalize import SearchToItem

    run, fast = _log_only, Optimization(lr=3e-3)
    encoder = EncoderStage(run, FreshEncoder(hidden=32, layers=1, heads=2), dim=16, optimization=fast)
    fit_stage(encoder, AlignmentData(run, batch_size=32, vocab_size=400), epochs=4)
    quantizer = QuantizerStage(run, RqOpqRecipe((8, 6, 4), (4, 4)), min_pv=1)
    fit_stage(quantizer, CatalogueData(run))
    backbone = FreshGenerator(hidden=32, encoder_layers=1, decoder_layers=1, heads=2, max_length=512)
    align = SftStage(run, "sft_align", "sid", backbone=backbone, num_beams=10, optimization=fast)
    fit_stage(align, SftData(run, [QueryToSid()], batch_size=32, vocab_size=400), epochs=4)
    personalize = SftStage(run, "sft_personalize", "search", init_from="sft_align", num_beams=10, optimization=fast)
    fit_stage(personalize, SftData(run, [SearchToItem()], batch_size=32, vocab_size=400), epochs=4)
    return run


@pytest.fixture
def tiny_run_copy(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of `tiny_run` to write into."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


@pytest.fixture(scope="session")
def tiny_khqe(tiny_run: Path):
    """The catalogue's SIDs of `tiny_run`."""
    from onesearch.khqe import Khqe

    return Khqe.open(tiny_run)


@pytest.fixture(scope="session")
def tiny_engine(tiny_run: Path, tiny_khqe):
    """The search engine over `tiny_run/sft_personalize`."""
    from onesearch.serve.engine import SearchEngine

    return SearchEngine.open(tiny_run, khqe=tiny_khqe)


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all stages by `onesearch pipeline`, hardly trained; its recipe lies in `recipes/handful` beside it."""
    from handful import in_this_process, recipe
    from onesearch.main import main

    folder = tmp_path_factory.mktemp("whole")
    with in_this_process():
        main(["pipeline", "--run", str(folder / "run"), "--recipe", str(recipe(folder / "recipes" / "handful"))])
    return folder / "run"
