"""SIDs that no item has and that a generator would write all the same: nothing forbids its beams to leave the trie."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onesearch.decoding.beam import beam_search
from onesearch.decoding.free import EverySid
from onesearch.khqe import Khqe
from onesearch.models.generator import Generator
from onesearch.models.scorer import GeneratorScorer
from onesearch.models.writing import Encoded
from onesearch.sid.spec import SidSpec
from onesearch.sid.table import Codes, SidTable
from onesearch.sid.versions import read_added


class InvalidSids:
    """Finds them among beams that nothing forbids.

    Args:
        item_codes: SIDs of all items, [N, C].
        spec: of the SIDs.
    """

    def __init__(self, item_codes: Codes, spec: SidSpec) -> None:
        self.taken = SidTable(item_codes, np.zeros(len(item_codes)))
        self.every = EverySid(spec.sizes)

    @classmethod
    def open(cls, run: Path, khqe: Khqe) -> "InvalidSids":
        """Of a run, where items that came after the fit have their SIDs, too."""
        added = read_added(run)
        codes = [khqe.item_codes] if added is None or not len(added.items) else [khqe.item_codes, added.item_codes]
        return cls(np.concatenate(codes), khqe.spec)

    def most_probable(self, generator: Generator, encoded: Encoded, num_beams: int, most: int) -> list[Codes]:
        """At most `most` of each prompt, the most probable first: B times [Y, C].

        Args:
            generator: in evaluation mode.
            encoded: what it made of B prompts.
            num_beams: of an answer; two more are looked through for each SID that is wanted, since the best ones exist.
            most: 0: nothing is searched.
        """
        if most == 0:
            return [np.empty((0, len(self.every.sizes)), np.int64)] * len(encoded.hidden)
        beams = beam_search(GeneratorScorer(generator, encoded), self.every, num_beams + 2 * most)
        codes = beams.codes.cpu().numpy()
        return [sids[~self.are_taken(sids)][:most] for sids in codes]

    def are_taken(self, sids: Codes) -> NDArray[np.bool_]:
        """Which of [K, C] SIDs some item has, [K]."""
        return self.taken.sid_rows(sids) >= 0
