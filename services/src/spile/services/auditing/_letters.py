"""What stands in the dead letter queue of a topic, settled letters included."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from spile.adapters.dead_letters import DeadLetter
from spile.adapters.delivery import LogReader
from spile.services.auditing._minutes import event_minute
from spile.services.auditing._values import Window
from spile.services.auditing._walking import Span, walk

_PUBLISHER = "publisher."


@dataclass(slots=True)
class Letters:
    """
    The dead letters of one topic.

    Attributes:
        places: Partition and offset of the records that the store's worker gave up.
        minutes: Their number by minute.
        refused: Letters of publishers by minute and service.
        freed: Letters that are not kept any more and may have been of the window.
    """

    places: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    minutes: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    freed: int = 0


async def read_letters(reader: LogReader, span: Span, window: Window, *, group: str) -> Letters:
    """
    Read a dead letter queue.

    A letter whose headers say no event time counts for the minute of its record.

    Args:
        reader: Of the log.
        span: Which part of the queue; a letter is written after its event.
        window: Which minutes are counted.
        group: Whose letters account for events that are not stored.

    Raises:
        RetriableError: The broker is away.
    """
    found = Letters()
    found.freed = sum(n for key, n in span.beginnings.items() if span.starts[key] == n)
    async for records in walk(reader, span):
        for record in records:
            letter = DeadLetter.of(record)
            stamp = dict(record.headers).get("timestamp")
            minute = event_minute(stamp, letter.origin.timestamp)
            _count(found, letter, minute if window.holds(minute) else None, group)
    return found


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
