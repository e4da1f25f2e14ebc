"""The handful's run, stage after stage through the real CLI, once a session. Read it; to write, copy it."""

from pathlib import Path

import pytest

from handful import launch, overlays, shop, write
from onesearch.main import main


@pytest.fixture(scope="session")
def shop_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """log"""
    run = tmp_path_factory.mktemp("handful") / "run"
    main(["prepare", "--config", str(write(run / "log.yaml", shop(run / "files"))), "--run", str(run)])
    return run


def fitted(run: Path, *stages: str) -> Path:
    """Fit stages, those of preferences after writing their lists."""
    for stage in stages:
        for verb in ("predict", "fit") if stage.startswith("dpo") else ("fit",):
            launch(run, verb, stage, overlays()[stage])
    return run


@pytest.fixture(scope="session")
def encoder_run(shop_run: Path) -> Path:
    """log, encoder"""
    return fitted(shop_run, "encoder")


@pytest.fixture(scope="session")
def tagger_run(shop_run: Path) -> Path:
    """log, tagger"""
    return fitted(shop_run, "tagger")


@pytest.fixture(scope="session")
def quantizer_run(encoder_run: Path) -> Path:
    """log, encoder, quantizer"""
    return fitted(encoder_run, "quantizer")


@pytest.fixture(scope="session")
def align_run(quantizer_run: Path) -> Path:
    """… and sft_align"""
    return fitted(quantizer_run, "sft_align")


@pytest.fixture(scope="session")
def cooccur_run(align_run: Path) -> Path:
    """… and sft_cooccur"""
    return fitted(align_run, "sft_cooccur")


@pytest.fixture(scope="session")
def personalize_run(cooccur_run: Path) -> Path:
    """… and sft_personalize"""
    return fitted(cooccur_run, "sft_personalize")


@pytest.fixture(scope="session")
def reward_run(quantizer_run: Path) -> Path:
    """… and reward"""
    return fitted(quantizer_run, "reward")


@pytest.fixture(scope="session")
def hybrid_run(personalize_run: Path, reward_run: Path) -> Path:
    """… and dpo_hybrid with its lists"""
    assert personalize_run == reward_run
    return fitted(personalize_run, "dpo_hybrid")


@pytest.fixture(scope="session")
def logged_run(hybrid_run: Path) -> Path:
    """… and dpo_logged with its lists: the whole of it"""
    return fitted(hybrid_run, "dpo_logged")
