"""Whether a run folder holds what a stage reads, and made from one another."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from onesearch.artifacts import ArtifactError, Manifest, read_manifest


def missing(run: Path, parents: Sequence[str]) -> list[str]:
    """A sentence for each folder that the stage reads and the run lacks."""
    found = []
    for name in parents:
        try:
            read_manifest(run / name)
        except ArtifactError as error:
            found.append(str(error))
    return found


def stale(run: Path, parents: Sequence[str]) -> Iterator[str]:
    """A sentence for each folder that was made from another one than the run holds; files are not hashed."""
    present: dict[str, Manifest] = {}
    for name in (*parents, "encoder"):
        if (run / name / "manifest.json").is_file():
            present[name] = read_manifest(run / name)
    for name, manifest in present.items():
        for other, parent in present.items():
            made_from = manifest.parents.get(parent.kind)
            if other != name and made_from not in (None, parent.fingerprint) and not _is_another(manifest, parent):
                yield (
                    f"{run / name} was made from {parent.kind} {made_from}, but {run / other} is now "
                    f"{parent.fingerprint}: run the stage that writes {name} again."
                )


def _is_another(manifest: Manifest, parent: Manifest) -> bool:
    """A generator names the generator and the lists that it learnt from, which are none of this stage's."""
    return manifest.kind == "generator" and parent.kind in ("generator", "preferences")
