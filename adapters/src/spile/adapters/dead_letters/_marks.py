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
_TAKEN_BACK: Final = "x-spile-dlq-mark"
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
        group: Consumer group that failed.
        origin: Where the record came from, `<partition>:<offset>` of the topic.
    """

    what: Outcome
    at: str
    timestamp: int
    by: str = ""
    reason: str = ""
    to: str = ""
    group: str = ""
    origin: str = ""


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
        group=(letter.group or "")[:_MAX_NOTE],
        origin=f"{letter.origin.partition}:{letter.origin.offset}",
    )
    topic = done_topic(letter.record.topic)
    return OutgoingRecord(topic, letter.place.encode(), _encode(mark), [])


def unmark(queue: str, place: str, mark: Mark) -> OutgoingRecord:
    """
    Return the tombstone that lets compaction take the mark of a letter that is gone.

    Its header repeats the mark: an audit asks whose letters went as long as the tombstone stays.
    """
    headers = [(_TAKEN_BACK, _encode(mark))]
    return OutgoingRecord(done_topic(queue), place.encode(), None, headers)


def mark_in(record: ProtocolRecord) -> Mark | None:
    """Return the mark that a record sets or takes back; None when it holds none."""
    content = dict(record.headers).get(_TAKEN_BACK) if record.value is None else record.value
    try:
        return _decode(content or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def read_marks(records: Iterable[ProtocolRecord], into: dict[str, Mark]) -> None:
    """Take marks over by place, in the order given; what makes no sense is left out."""
    for record in records:
        if record.key is None:
            continue
        place = record.key.decode("utf-8", "replace")
        mark = None if record.value is None else mark_in(record)
        if mark is None:
            into.pop(place, None)
        else:
            into[place] = mark


def is_settled(letter: DeadLetter, marks: Mapping[str, Mark]) -> bool:
    """Say whether a letter is done."""
    mark = marks.get(letter.place)
    return mark is not None and mark.timestamp == letter.record.timestamp
