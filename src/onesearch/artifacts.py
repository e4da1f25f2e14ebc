"""The one place that writes, reads and verifies what a stage hands on.

An artefact is a folder: safetensors, Parquet and JSON files beside a `manifest.json` that holds the SHA-256 of each
file, the configuration it came from and the fingerprints of its parents. It appears whole or not at all: files are
written to a temporary sibling that is renamed into place. No pickle anywhere.

    >>> with writing(run / "quantizer", kind="quantizer", parents=[encoder], config={...}) as folder:
    ...     save_file(tensors, folder / "codebook.safetensors")
    >>> manifest = verify(run / "quantizer", kind="quantizer")
"""

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onesearch.types import UserError

FORMAT = 1
"""Version of the manifest; a reader refuses a newer one."""

MANIFEST = "manifest.json"


class ArtifactError(UserError):
    """A folder that is missing, broken, of another kind or lineage; the message says which and the way out."""


@dataclass(frozen=True)
class Manifest:
    """What a finished artefact says of itself."""

    kind: str
    fingerprint: str  # hash over kind, files and parents: two equal fingerprints are the same artefact
    files: dict[str, str]  # path inside the folder -> SHA-256
    parents: dict[str, str]  # kind of the parent -> its fingerprint
    config: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # counts, boundaries, figures: for people and for checks
    format: int = FORMAT


@contextlib.contextmanager
def writing(
    folder: Path,
    kind: str,
    parents: Sequence[Path] = (),
    config: Mapping[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
) -> Iterator[Path]:
    """Write an artefact: yields an empty folder to fill, hashes it and moves it to `folder` in place of an older one.

    `facts` may be filled inside the `with` block: it is read when the block ends. If the block raises, nothing changes.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}"
    temporary.mkdir()
    try:
        yield temporary
        files = {
            str(path.relative_to(temporary)): _sha256(path) for path in sorted(temporary.rglob("*")) if path.is_file()
        }
        lineage = {manifest.kind: manifest.fingerprint for manifest in map(read_manifest, parents)}
        content = json.dumps([kind, files, lineage], sort_keys=True).encode()
        manifest = Manifest(
            kind, hashlib.sha256(content).hexdigest()[:16], files, lineage, dict(config or {}), dict(facts or {})
        )
        write_json(temporary / MANIFEST, asdict(manifest))
        _move_into_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of `folder`, without hashing its files."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise ArtifactError(
            f"{folder} holds no finished artefact ({MANIFEST} is missing): run the stage that writes it."
        )
    try:
        manifest = Manifest(**json.loads(path.read_text("utf-8")))
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is not a manifest ({error}): run the stage that writes {folder} again.") from error
    if manifest.format > FORMAT:
        raise ArtifactError(f"{path} has format {manifest.format}, newer than {FORMAT}: upgrade onesearch to read it.")
    return manifest


def verify(folder: Path, kind: str, parents: Sequence[Path] = ()) -> Manifest:
    """Check that `folder` is an intact artefact of `kind`, made from `parents`; return its manifest.

    Raises:
        ArtifactError: a file is missing or changed, the kind differs, or it was made from another parent.
    """
    manifest = read_manifest(folder)
    if manifest.kind != kind:
        raise ArtifactError(f"{folder} holds '{manifest.kind}', but '{kind}' is needed here.")
    for name, expected in manifest.files.items():
        path = Path(folder) / name
        if not path.is_file():
            raise ArtifactError(f"{path} is missing, but the manifest lists it: run the '{kind}' stage again.")
        if _sha256(path) != expected:
            raise ArtifactError(f"{path} was changed or damaged after it was written: run the '{kind}' stage again.")
    for parent in map(read_manifest, parents):
        made_from = manifest.parents.get(parent.kind)
        if made_from != parent.fingerprint:
            raise ArtifactError(
                f"{folder} was made from {parent.kind} {made_from}, but {parent.kind} {parent.fingerprint} is given: "
                f"train it again on this {parent.kind}, or pass the {parent.kind} it was made from."
            )
    return manifest


def write_json(path: Path, value: object) -> None:
    """Write `value` as readable JSON with sorted keys; the file appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
    os.replace(temporary, path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _move_into_place(temporary: Path, folder: Path) -> None:
    """Rename over `folder`; the older one is kept beside it until the new one stands.

    Where the older one is a link, the link goes and what it leads to stays.
    """
    if os.path.lexists(folder):
        old = temporary.with_name(temporary.name + ".old")
        os.replace(folder, old)
        os.replace(temporary, folder)
        if old.is_symlink():
            old.unlink()
        else:
            shutil.rmtree(old)
    else:
        os.replace(temporary, folder)
