"""Reading events: every value is bound, every column is one of ours."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID

from spile.services.persistence._schema import COLUMNS
from spile.services.persistence._values import EventFilter, GroupColumn, StoredEvent

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EQUAL = ("event_type", "service", "session_id", "tool_name")


def microseconds(moment: datetime) -> int:
    """Return the microseconds since 1970 UTC of an aware moment."""
    return (moment - _EPOCH) // _MICROSECOND


def select(database: sqlite3.Connection, which: EventFilter) -> list[StoredEvent]:
    """Return what fits."""
    where, values = _where(which)
    order = "happened_us DESC, seq DESC" if which.after_seq is None else "seq"
    sql = f"SELECT seq, {COLUMNS} FROM events{where} ORDER BY {order} LIMIT ?"  # noqa: S608 - names of our own
    found = [_stored(row) for row in database.execute(sql, (*values, which.limit))]
    if which.after_seq is None:
        found.reverse()
    return found


def count(database: sqlite3.Connection, which: EventFilter) -> int:
    """Count what fits."""
    where, values = _where(which)
    return int(database.execute(f"SELECT count(*) FROM events{where}", values).fetchone()[0])  # noqa: S608 - the same


def count_by(
    database: sqlite3.Connection, which: EventFilter, column: GroupColumn
) -> dict[str, int]:
    """
    Count what fits per value of a column.

    Raises:
        ValueError: The column is none of those that can be counted by.
    """
    if column not in get_args(GroupColumn):
        raise ValueError(f"cannot count by {column!r}, only by {', '.join(get_args(GroupColumn))}")
    where, values = _where(which)
    sql = (
        f"SELECT coalesce({column}, '-'), count(*) AS n FROM events{where}"  # noqa: S608 - the same
        " GROUP BY 1 ORDER BY n DESC, 1"
    )
    return {str(name): int(n) for name, n in database.execute(sql, values)}


def _where(which: EventFilter) -> tuple[str, list[Any]]:
    terms: list[str] = []
    values: list[Any] = []

    def add(term: str, value: Any) -> None:
        terms.append(term)
        values.append(value)

    for name in _EQUAL:
        if (value := getattr(which, name)) is not None:
            add(f"{name} = ?", value)
    if which.correlation_id is not None:
        add("correlation_id = ?", which.correlation_id.bytes)
    if which.since is not None:
        add("happened_us >= ?", microseconds(which.since))
    if which.until is not None:
        add("happened_us < ?", microseconds(which.until))
    if which.after_seq is not None:
        add("seq > ?", which.after_seq)
    return (f" WHERE {' AND '.join(terms)}" if terms else ""), values


def _stored(row: tuple[Any, ...]) -> StoredEvent:
    return StoredEvent(
        seq=row[0],
        event_id=UUID(bytes=row[1]),
        topic=row[2],
        partition=row[3],
        offset=row[4],
        recorded_at=_recorded(row[5]),
        happened_at=_EPOCH + timedelta(microseconds=row[6]),
        event_type=row[7],
        service=row[8],
        correlation_id=UUID(bytes=row[9]),
        causation_id=UUID(bytes=row[10]) if row[10] is not None else None,
        session_id=row[11],
        agent_id=row[12],
        tool_name=row[13],
        key=row[14],
        envelope=row[15],
        headers=row[16],
    )


def _recorded(milliseconds: int) -> datetime:
    """Return the record time; beyond the calendar, as a producer may set it, its nearer end."""
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return _LAST if milliseconds > 0 else _FIRST
