"""What stands in the dead letter queue of a topic, settled letters included."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from spile.adapters.dead_letters import DeadLetter
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
        places: Partition and offset of the records that the store's worker gave up.
        minutes: Their number by minute.
        refused: Letters of publishers by minute and service.
        freed: How many letters are not kept any more and may have been of the window.
    """

    places: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    minutes: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    freed: int = 0


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
    found.freed = await _freed(reader, span, marks, window)
    async for records in walk(reader, span):
        for record in records:
            letter = DeadLetter.of(record)
            stamp = dict(record.headers).get("timestamp")
            minute = event_minute(stamp, letter.origin.timestamp)
            _count(found, letter, minute if window.holds(minute) else None, group)
    return found


async def _freed(reader: LogReader, span: Span, marks: Span, window: Window) -> int:
    """
    Return how many letters that were deleted may have been of the window.

    Those that a purge freed before the window began were not, nor were those that retention took
    from a queue that keeps longer than the window is. A purge leaves marks or tombstones, which
    compaction takes after a day (`delete.retention.ms`); beyond that all that was deleted may.
    """
    first = {number: n for (_, number), n in span.beginnings.items()}
    most = sum(n for key, n in span.beginnings.items() if span.starts[key] == n)
    if not most or window.now - window.since > _MARKS_STAY:
        return most
    gone: set[str] = set()
    async for records in walk(reader, marks):
        for record in records:
            place = (record.key or b"").decode("utf-8", "replace")
            found = _PLACE.fullmatch(place)
            if found and int(found[2]) < first.get(int(found[1]), 0):
                gone.add(place)
    return min(len(gone), most)


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
