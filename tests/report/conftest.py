from pathlib import Path

import pytest
from leftovers import INPUTS


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A run with every input."""
    run = tmp_path / "a <run>"
    run.mkdir()
    for add in INPUTS.values():
        add(run)
    return run
