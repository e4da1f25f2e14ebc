"""What `prepare` tells of a log: what was read, refused, repaired and kept, for people and for the manifest."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
from rich.console import Group, RenderableType
from rich.table import Table

from onesearch.types import UserError


class LogError(UserError):
    """A log that cannot be prepared; the message says which file, row or field is at fault and the way out."""


class Rejected(NamedTuple):
    """A record that was refused, kept so that nothing is lost."""

    file: str
    line: int  # of the file, from 1; of the table where the source is no text file
    reason: str
    content: bytes  # as it was read


REJECTED = pa.schema([("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("content", pa.binary())])


def rejected_table(rejected: list[Rejected]) -> pa.Table:
    """The refused records as Arrow, for `rejected.parquet`."""
    return pa.Table.from_pylist([record._asdict() for record in rejected], schema=REJECTED)


@dataclass
class FileCount:
    """Records of one raw file: accepted + rejected = read, always."""

    accepted: int = 0
    rejected: int = 0

    @property
    def read(self) -> int:
        """All records of the file that are not blank."""
        return self.accepted + self.rejected


@dataclass
class Report:
    """The one account of a preparation."""

    files: dict[str, FileCount] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)  # why records were refused
    findings: dict[str, int] = field(default_factory=dict)  # a sentence -> how many rows or entries it concerns
    rows: dict[str, int] = field(default_factory=dict)  # table -> rows kept
    split: dict[str, Any] = field(default_factory=dict)  # boundaries and sizes
    notes: list[str] = field(default_factory=list)  # what a reader of the figures must know

    def find(self, sentence: str, count: int) -> None:
        """Count something that was repaired or dropped; nothing is said of what did not happen."""
        if count:
            self.findings[sentence] = self.findings.get(sentence, 0) + int(count)

    def facts(self) -> dict[str, Any]:
        """The account as plain values, for the manifest."""
        files = {
            name: {"read": count.read, "accepted": count.accepted, "rejected": count.rejected}
            for name, count in self.files.items()
        }
        return {
            "files": files,
            "rejected": dict(self.reasons),
            "findings": self.findings,
            "rows": self.rows,
            "split": self.split,
            "notes": self.notes,
        }

    def __rich__(self) -> RenderableType:
        """The account as tables for the terminal: `rich.print(report)`."""
        parts: list[RenderableType] = []
        if self.files:
            rows = [(name, count.read, count.accepted, count.rejected) for name, count in self.files.items()]
            parts.append(_table("Files", ("file", "read", "accepted", "rejected"), rows))
        if self.reasons:
            parts.append(
                _table("Rejected (kept in rejected.parquet)", ("reason", "records"), self.reasons.most_common())
            )
        if self.findings:
            parts.append(_table("Found and repaired", ("what", "count"), list(self.findings.items())))
        parts.append(_table("Log", ("table", "rows"), list(self.rows.items())))
        parts.append(_table("Split", ("part", "value"), list(self.split.items())))
        return Group(*parts, *self.notes)


def _table(title: str, header: tuple[str, ...], rows: list[Any]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    return table
