"""Plans of a fit of `tiny_run`, without printing them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handful import CONFIGS, write

TINY = {"hidden": 32, "encoder_layers": 1, "decoder_layers": 1, "heads": 2, "max_length": 512}
BACKBONE = {"class_path": "onesearch.models.generator.FreshGenerator", "init_args": TINY}
SMALL = {
    "sft_align": {
        "model": {"init_args": {"backbone": BACKBONE, "optimization": {"lr": 3e-3}}},
        "data": {"init_args": {"vocab_size": 400, "batch_size": 32}},
        "trainer": {"max_epochs": 2, "accumulate_grad_batches": 3},
    },
    "encoder": {
        "model": {
            "init_args": {
                "dim": 16,
                "backbone": {
                    "class_path": "onesearch.models.text_encoder.FreshEncoder",
                    "init_args": {"hidden": 32, "layers": 1, "heads": 2},
                },
            }
        },
        "data": {"init_args": {"vocab_size": 400, "batch_size": 32}},
    },
}


@pytest.fixture
def planned(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """`planned(stage, *options)`: the plan of a stage of `tiny_run`, with a small overlay where there is one."""
    from onesearch.planning import work
    from onesearch.planning.plan import plan

    monkeypatch.setattr(work, "PROBED", 0)  # the longest batch of each kind alone

    def plan_it(stage: str, *options: str, run: Path = tiny_run) -> dict[str, Any]:
        files = ["-c", str(CONFIGS / f"{stage}.yaml")]
        if stage in SMALL:
            files += ["-c", str(write(tmp_path / f"{stage}.yaml", SMALL[stage]))]
        return plan([*files, "--run", str(run), *options])

    return plan_it
