"""The minute of an event: what all tiers are counted by."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

OTHER: Final = "other"
"""Stands for a minute that no calendar has."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STAMP: Final = re.compile(
    rb"(\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d)"
    rb"(?::[0-5]\d(?:\.\d{1,9})?)?(?:Z|\+00:00)"
)
_MINUTE_BYTES: Final = 16
_MINUTE_S: Final = 60


def minute_of(moment: datetime) -> str:
    """Return the minute of an aware moment, such as `2026-01-02T03:04Z`; minutes sort as texts."""
    return f"{moment.astimezone(UTC).isoformat()[:_MINUTE_BYTES]}Z"


def event_minute(stamp: bytes | None, record_ms: int) -> str:
    """
    Return the minute of an event: by its header, by record time where that is unreadable.

    It is what manifests of the archive are counted by.

    Args:
        stamp: Value of the header `timestamp`.
        record_ms: Record time in milliseconds.
    """
    if stamp and _STAMP.fullmatch(stamp):
        return f"{stamp[:_MINUTE_BYTES].decode()}Z"
    try:
        return minute_of(_EPOCH + timedelta(milliseconds=record_ms))
    except OverflowError:
        return OTHER


def minute_after(record_ms: int) -> str:
    """Return the minute after a record time; `OTHER`, which sorts last, beyond the calendar."""
    try:
        return minute_of(_EPOCH + timedelta(milliseconds=record_ms, seconds=_MINUTE_S))
    except OverflowError:
        return OTHER


def moment_of(minute: str) -> datetime:
    """Return the beginning of a minute."""
    return datetime.fromisoformat(minute)


def milliseconds(moment: datetime) -> int:
    """Return the milliseconds since 1970 UTC of an aware moment."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def epoch_minute(moment: datetime) -> int:
    """Return the whole minutes since 1970 UTC of an aware moment."""
    return (moment - _EPOCH) // timedelta(minutes=1)


def of_epoch_minute(number: int) -> str:
    """Return the minute of a number of minutes since 1970 UTC."""
    return minute_of(_EPOCH + timedelta(minutes=number))
