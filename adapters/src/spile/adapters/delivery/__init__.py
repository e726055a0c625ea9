"""The engine of every transport: publishing, subscribing, breaker, retries, dead letters."""

from spile.adapters.delivery._ports import (
    RebalanceListener,
    RecordSender,
    RecordSource,
    SourceFactory,
)
from spile.adapters.delivery._records import (
    OutgoingEvent,
    OutgoingRecord,
    Position,
    Receipt,
    Record,
    WireHeaders,
)

__all__ = [
    "OutgoingEvent",
    "OutgoingRecord",
    "Position",
    "RebalanceListener",
    "Receipt",
    "Record",
    "RecordSender",
    "RecordSource",
    "SourceFactory",
    "WireHeaders",
]
