"""Raw values → canonical values. What cannot be converted is refused with a reason; an empty text is null."""

import json
import math
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from onesearch.log.records import RefusedError
from onesearch.log.report import LogError

NULL_WORDS = frozenset({"", "UNKNOWN", "NULL", "null", "None", "NaN", "nan", r"\N"})
"""Words that stand for "not recorded" in exports."""

TIME_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
"""Microseconds of one unit of an epoch time."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 (datetime.UTC reads as a type here)
_MAX_MICROSECONDS = 253_402_300_800_000_000  # the year 10000: beyond it no datetime
_TRUE, _FALSE = frozenset({"1", "true", "t", "yes", "y"}), frozenset({"0", "false", "f", "no", "n"})


def text(value: Any, nulls: frozenset[str] = NULL_WORDS) -> str | None:
    """A trimmed string; whole numbers lose a ".0", so that an ID read as a float still joins."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    trimmed = str(value).strip()
    return None if trimmed in nulls else trimmed


def identity(value: Any, name: str) -> str:
    """A string that must be there.

    Raises:
        RefusedError: it is null or empty.
    """
    found = text(value)
    if found is None:
        raise RefusedError(f"no {name}")
    return found


def number(value: Any, name: str) -> float | None:
    """A finite number, or null where nothing is recorded."""
    found = text(value)
    if found is None:
        return None
    try:
        parsed = float(found)
    except ValueError:
        raise RefusedError(f"{name} is not a number") from None
    if not math.isfinite(parsed):
        raise RefusedError(f"{name} is not a number")
    return parsed


def flag(value: Any, name: str) -> bool | None:
    """Yes or no in the words of exports, or null where nothing is recorded."""
    found = text(value)
    if found is None:
        return None
    word = found.casefold()
    if word not in _TRUE | _FALSE:
        raise RefusedError(f"{name} is not yes or no")
    return word in _TRUE


def strings(value: Any, separator: str | None = None, nulls: frozenset[str] = NULL_WORDS) -> list[str] | None:
    """A list of strings from a list, a JSON list, or a text cut at `separator`; null stays null, [] stays []."""
    if value is None or (isinstance(value, str) and value.strip() in nulls - {""}):
        return None
    if isinstance(value, str):
        value = _cut(value, separator)
    if not isinstance(value, Iterable):
        value = [value]
    return [found for part in value if (found := text(part, nulls)) is not None]


def _cut(value: str, separator: str | None) -> list[Any]:
    if value.lstrip().startswith("["):
        try:
            parsed = json.loads(value)
        except ValueError:
            raise RefusedError("a list is not JSON") from None
        return list(parsed)
    return value.split(separator) if separator else [value]


def time(value: Any, form: str = "iso", zone: tzinfo | None = None) -> datetime:
    """A UTC time.

    Args:
        value: what was read.
        form: "iso"; "s", "ms" or "us" since 1970; or a strptime format.
        zone: of times that name none; UTC if left out.

    Raises:
        RefusedError: there is none, or it does not read as `form`.
    """
    if isinstance(value, datetime):
        return _in_utc(value, zone)
    found = identity(value, "time")
    try:
        if form in TIME_UNITS:
            return from_microseconds(round(float(found) * TIME_UNITS[form]))
        parsed = datetime.fromisoformat(found) if form == "iso" else datetime.strptime(found, form)
        return _in_utc(parsed, zone)
    except (ValueError, OverflowError):
        raise RefusedError("unparsable time") from None


def from_microseconds(count: int) -> datetime:
    """The UTC time `count` microseconds after 1970-01-01.

    Raises:
        RefusedError: it lies before 1970 or after the year 9999, so the unit must be wrong.
    """
    if not 0 <= count < _MAX_MICROSECONDS:
        raise RefusedError("unparsable time")
    return _EPOCH + timedelta(microseconds=count)


def _in_utc(value: datetime, zone: tzinfo | None) -> datetime:
    aware = value if value.tzinfo else value.replace(tzinfo=zone or _EPOCH.tzinfo)
    return aware.astimezone(_EPOCH.tzinfo)


def zone_named(name: str) -> tzinfo:
    """The time zone called `name`, such as UTC or Asia/Shanghai.

    Raises:
        LogError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise LogError(f"'{name}' is no time zone: use a name such as UTC or Asia/Shanghai.") from error
