"""Which records of an archive are meant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from spile.adapters.delivery import Record
from spile.topics import TICK

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TICK = TICK.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """
    Which records to take; what is None or empty does not filter.

    Attributes:
        topics: Full names.
        partitions: Numbers.
        since_ms: Records of this record time, milliseconds since 1970 UTC, or later.
        until_ms: Records before this record time.
        event_types: As the header `event_type` has them.
        keys: Record keys, compared as bytes.
    """

    topics: frozenset[str] = frozenset()
    partitions: frozenset[int] = frozenset()
    since_ms: int | None = None
    until_ms: int | None = None
    event_types: frozenset[str] = frozenset()
    keys: frozenset[bytes] = frozenset()

    @property
    def filters_records(self) -> bool:
        """Whether it leaves out records of partitions that it takes."""
        return (
            self.since_ms is not None
            or self.until_ms is not None
            or bool(self.event_types or self.keys)
        )

    def takes_partition(self, topic: str, partition: int) -> bool:
        """Say whether records of a partition may be meant."""
        return (not self.topics or topic in self.topics) and (
            not self.partitions or partition in self.partitions
        )

    def meets(self, first_ms: int, last_ms: int) -> bool:
        """Say whether records of a time range, both ends in it, may be meant."""
        return (self.since_ms is None or last_ms >= self.since_ms) and (
            self.until_ms is None or first_ms < self.until_ms
        )

    def takes(self, record: Record) -> bool:
        """Say whether a record of a partition that is taken is meant."""
        if self.keys and record.key not in self.keys:
            return False
        if not self.meets(record.timestamp, record.timestamp):
            return False
        if not self.event_types:
            return True
        kind = header(record, "event_type")
        return kind is not None and kind.decode(errors="replace") in self.event_types


def milliseconds(moment: datetime | None) -> int | None:
    """Return the milliseconds since 1970 UTC of an aware moment, rounded up; None for None."""
    return None if moment is None else -((_EPOCH - moment) // _MILLISECOND)


def header(record: Record, name: str) -> bytes | None:
    """Return a header's value, the last one where there are several; None when there is none."""
    found: bytes | None = None
    for known, value in record.headers:
        if known == name:
            found = value
    return found


def is_tick(record: Record) -> bool:
    """Say whether a record only lets time pass for the archive."""
    return header(record, "event_type") == _TICK
