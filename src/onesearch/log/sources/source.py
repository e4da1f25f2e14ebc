"""What every source of a log gives: canonical tables that may still be dirty, and the records that it refused."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from onesearch.log.report import FileCount, Rejected
from onesearch.log.schema import Tables


class Raw(NamedTuple):
    """A log as read. Missing tables and columns count as not recorded; `query_key` and `split` may be left out."""

    tables: Tables
    rejected: tuple[Rejected, ...] = ()
    files: dict[str, FileCount] = {}  # noqa: RUF012 (never changed)
    findings: dict[str, int] = {}  # noqa: RUF012
    notes: tuple[str, ...] = ()


class Source(ABC):
    """A place where a log comes from."""

    @property
    def settings(self) -> dict[str, Any]:
        """What the log was made from where no file holds it, as plain values for its manifest."""
        return {}

    @abstractmethod
    def read(self) -> Raw:
        """Read everything once."""
