"""What stands in the dead letter queue of a topic, settled letters included."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from spile.adapters.dead_letters import DeadLetter, Mark, mark_in
from spile.adapters.delivery import LogReader
from spile.services.auditing._minutes import event_minute
from spile.services.auditing._values import Window
from spile.services.auditing._walking import Span, walk

_PUBLISHER = "publisher."
_PLACE: Final = re.compile(r"([0-9]{1,10}):([0-9]{1,19})")
_MARKS_STAY: Final = timedelta(hours=23)


@dataclass(slots=True)
class Letters:
    """
    The dead letters of one topic.

    Attributes:
        places: Partition and offset of the records that the store's worker gave up, purged ones
            too as far as their marks tell.
        minutes: Their number by minute.
        refused: Letters of publishers by minute and service.
        freed: How many letters are not kept any more, may have been of the window, and have no
            mark that says whose they were.
        freed_refused: Letters of publishers that are not kept any more, by service.
    """

    places: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    minutes: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    freed: int = 0
    freed_refused: Counter[str] = field(default_factory=Counter[str])

    def explain_refused(self, service: str, missing: int) -> bool:
        """Say whether purged letters may be those that a publisher's count lacks; takes them."""
        if self.freed_refused[service] + self.freed < missing:
            return False
        own = min(missing, self.freed_refused[service])
        self.freed_refused[service] -= own
        self.freed -= missing - own
        return True


async def read_letters(
    reader: LogReader, span: Span, marks: Span, window: Window, *, group: str
) -> Letters:
    """
    Read a dead letter queue.

    A letter whose headers say no event time counts for the minute of its record.

    Args:
        reader: Of the log.
        span: Which part of the queue; a letter is written after its event.
        marks: Which part of the marks of its settled letters; a purge writes some.
        window: Which minutes are counted.
        group: Whose letters account for events that are not stored.

    Raises:
        RetriableError: The broker is away.
    """
    found = Letters()
    await _add_purged(found, reader, span, marks, window, group)
    async for records in walk(reader, span):
        for record in records:
            letter = DeadLetter.of(record)
            stamp = dict(record.headers).get("timestamp")
            minute = event_minute(stamp, letter.origin.timestamp)
            _count(found, letter, minute if window.holds(minute) else None, group)
    return found


async def _add_purged(
    found: Letters, reader: LogReader, span: Span, marks: Span, window: Window, group: str
) -> None:
    """
    Add what is known of letters that were deleted and may have been of the window.

    Those that a purge freed before the window began were not, nor were those that retention took
    from a queue that keeps longer than the window is. A purge leaves marks or tombstones, which
    compaction takes after a day (`delete.retention.ms`); beyond that all that was deleted may.
    """
    first = {key[1]: n for key, n in span.beginnings.items() if span.starts[key] == n}
    most = sum(first.values())
    if not most:
        return
    gone: dict[str, Mark | None] = {}
    async for records in walk(reader, marks):
        for record in records:
            key = (record.key or b"").decode("utf-8", "replace")
            place = _PLACE.fullmatch(key)
            if place and int(place[2]) < first.get(int(place[1]), 0):
                gone[key] = mark_in(record) or gone.get(key)
    told = 0
    for mark in gone.values():
        origin = None if mark is None else _PLACE.fullmatch(mark.origin)
        if mark is None or origin is None:
            continue
        told += 1
        if mark.group == group:
            found.places.add((int(origin[1]), int(origin[2])))
        elif mark.group.startswith(_PUBLISHER):
            found.freed_refused[mark.group.removeprefix(_PUBLISHER)] += 1
    is_all = window.now - window.since <= _MARKS_STAY
    found.freed = max(0, min(len(gone), most) - told if is_all else most - told)


def _count(found: Letters, letter: DeadLetter, minute: str | None, group: str) -> None:
    who = letter.group or ""
    if who.startswith(_PUBLISHER):
        if minute is not None:
            found.refused[minute, who.removeprefix(_PUBLISHER)] += 1
        return
    place = (letter.origin.partition, letter.origin.offset)
    if who == group and place not in found.places:
        found.places.add(place)
        if minute is not None:
            found.minutes[minute] += 1
