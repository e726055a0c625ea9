"""The engine of every transport: publishing, subscribing, breaker, retries, dead letters."""

from spile.adapters.delivery._backoff import (
    Backoff,
)
from spile.adapters.delivery._breaker import (
    BreakerState,
    CircuitBreaker,
)
from spile.adapters.delivery._headers import (
    EventHeaders,
    SemVer,
    check_required,
    decode_headers,
    encode_headers,
    plain_headers,
    utc_text,
)
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
    "Backoff",
    "BreakerState",
    "CircuitBreaker",
    "EventHeaders",
    "OutgoingEvent",
    "OutgoingRecord",
    "Position",
    "RebalanceListener",
    "Receipt",
    "Record",
    "RecordSender",
    "RecordSource",
    "SemVer",
    "SourceFactory",
    "WireHeaders",
    "check_required",
    "decode_headers",
    "encode_headers",
    "plain_headers",
    "utc_text",
]
