"""Marks of settled dead letters: one record per letter in the compacted `<topic>.dlq.done`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, Literal, TypeAlias

import msgspec

from spile.adapters.dead_letters._letter import DeadLetter
from spile.adapters.delivery._headers import utc_text
from spile.adapters.delivery._records import OutgoingRecord
from spile.spi import ProtocolRecord

DONE_SUFFIX: Final = ".done"
_MAX_NOTE: Final = 500

Outcome: TypeAlias = Literal["reprocessed", "handled", "put back", "edited", "purged"]
"""What became of a letter."""


class Mark(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    What became of one letter.

    Attributes:
        what: What was done.
        at: When, ISO 8601 in UTC.
        timestamp: Record time of the letter in milliseconds. A mark counts only for a letter of
            this time: in a queue that was deleted and made anew the offsets begin again.
        by: Who did it.
        reason: Why.
        to: Topic that it was written to.
    """

    what: Outcome
    at: str
    timestamp: int
    by: str = ""
    reason: str = ""
    to: str = ""


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Mark).decode


def done_topic(queue: str) -> str:
    """Return where the marks of a queue are."""
    return queue + DONE_SUFFIX


def mark_of(
    letter: DeadLetter,
    what: Outcome,
    *,
    now: datetime,
    by: str = "",
    reason: str = "",
    to: str = "",
) -> OutgoingRecord:
    """Return the record that settles a letter."""
    mark = Mark(
        what=what,
        at=utc_text(now),
        timestamp=letter.record.timestamp,
        by=by[:_MAX_NOTE],
        reason=reason[:_MAX_NOTE],
        to=to,
    )
    topic = done_topic(letter.record.topic)
    return OutgoingRecord(topic, letter.place.encode(), _encode(mark), [])


def unmark(queue: str, place: str) -> OutgoingRecord:
    """Return the tombstone that lets compaction take the mark of a letter that is gone."""
    return OutgoingRecord(done_topic(queue), place.encode(), None, [])


def read_marks(records: Iterable[ProtocolRecord], into: dict[str, Mark]) -> None:
    """Take marks over by place, in the order given; what makes no sense is left out."""
    for record in records:
        if record.key is None:
            continue
        place = record.key.decode("utf-8", "replace")
        if record.value is None:
            into.pop(place, None)
            continue
        try:
            into[place] = _decode(record.value)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            into.pop(place, None)


def is_settled(letter: DeadLetter, marks: Mapping[str, Mark]) -> bool:
    """Say whether a letter is done."""
    mark = marks.get(letter.place)
    return mark is not None and mark.timestamp == letter.record.timestamp
