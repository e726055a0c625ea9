"""Records that only let time pass."""

from __future__ import annotations

from spile.spi import ProtocolRecord
from spile.topics import TICK

_TICK = TICK.encode()
_PLACE = 5


def is_tick(record: ProtocolRecord) -> bool:
    """Say whether a record is a tick, which no handler of events is to see."""
    headers = record.headers
    if len(headers) > _PLACE and headers[_PLACE][0] == "event_type":
        return headers[_PLACE][1] == _TICK
    return any(name == "event_type" and value == _TICK for name, value in headers)
