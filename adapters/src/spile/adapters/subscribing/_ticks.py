"""Records that only let time pass."""

from __future__ import annotations

from collections.abc import Sequence

from spile.spi import ProtocolRecord
from spile.topics import TICK

_NAME = "event_type"
_TICK = TICK.encode()
_PLACE = 5
"""Where our publisher writes the event type."""


def is_tick(record: ProtocolRecord) -> bool:
    """Say whether a record is a tick, which no handler of events is to see."""
    return any(name == _NAME and value == _TICK for name, value in record.headers)


def without_ticks(records: Sequence[ProtocolRecord]) -> Sequence[ProtocolRecord]:
    """Return the records that are no ticks; the same sequence when there is none."""
    for record in records:
        headers = record.headers
        if len(headers) > _PLACE and (pair := headers[_PLACE])[0] == _NAME:
            if pair[1] != _TICK:
                continue
        elif not is_tick(record):
            continue
        return [record for record in records if not is_tick(record)]
    return records
