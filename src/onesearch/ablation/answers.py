"""What a trial answers to the test searches, kept beside its generator: judging again costs no beams."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from onesearch.artifacts import ArtifactError, verify, writing
from onesearch.evaluate.compare import without_answer
from onesearch.evaluate.onesearch import OneSearch
from onesearch.khqe import Khqe
from onesearch.metrics.ranking import pad
from onesearch.pipeline import code_version, console
from onesearch.serve.engine import SearchEngine
from onesearch.types import SearchContext

DEPTH = 10
"""Length of the lists that are judged."""

KIND, FILE = "answers", "answers.safetensors"

ASKED_BY = ("ablation/answers.py", "evaluate/compare.py", "evaluate/onesearch.py")
"""Code beside the stages that answers depend on: what is kept from a generator, and how it is asked."""


def answers(folder: Path, stage: str, searches: Sequence[SearchContext], num_beams: int) -> NDArray[np.int64]:
    """The items with which a generator answers searches, [S, DEPTH].

    Args:
        folder: the run folder of the trial.
        stage: whose generator.
        searches: the log's test searches that can be judged; what was clicked is kept from the generator.
        num_beams: K of the beam search.
    """
    kept, parents = folder / KIND, [folder / name for name in ("log", "quantizer", stage)]
    facts = {"num_beams": num_beams, "depth": DEPTH, "code": code_version(ASKED_BY)}
    if not _is_made_so(kept, parents, facts):
        console.print(f"{folder.parent.name}/{folder.name}: {len(searches):,} searches to be answered")
        system = OneSearch(stage, SearchEngine.open(folder, stage, Khqe.open(folder), num_beams))
        found = pad(system.rank([without_answer(search) for search in searches], DEPTH), DEPTH)
        with writing(kept, KIND, parents, facts=facts) as writable:
            save_file({"items": found}, writable / FILE)
    return np.asarray(load_file(kept / FILE)["items"], dtype=np.int64)


def _is_made_so(kept: Path, parents: Sequence[Path], facts: dict[str, object]) -> bool:
    try:
        return verify(kept, KIND, parents).facts == facts
    except ArtifactError:
        return False
