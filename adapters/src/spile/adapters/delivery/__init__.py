"""The engine of every transport: publishing, subscribing, breaker, retries, dead letters."""

from spile.adapters.delivery._backoff import (
    Backoff,
)
from spile.adapters.delivery._boundary import (
    Retries,
)
from spile.adapters.delivery._breaker import (
    BreakerState,
    CircuitBreaker,
)
from spile.adapters.delivery._dead_letters import (
    DLQ_SUFFIX,
    DeadLetterQueue,
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
from spile.adapters.delivery._message import (
    ReceivedMessage,
)
from spile.adapters.delivery._observer import (
    SilentObserver,
    SubscriptionObserver,
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
from spile.adapters.delivery._subscription import (
    Subscription,
    SubscriptionOptions,
)

__all__ = [
    "DLQ_SUFFIX",
    "Backoff",
    "BreakerState",
    "CircuitBreaker",
    "DeadLetterQueue",
    "EventHeaders",
    "OutgoingEvent",
    "OutgoingRecord",
    "Position",
    "RebalanceListener",
    "Receipt",
    "ReceivedMessage",
    "Record",
    "RecordSender",
    "RecordSource",
    "Retries",
    "SemVer",
    "SilentObserver",
    "SourceFactory",
    "Subscription",
    "SubscriptionObserver",
    "SubscriptionOptions",
    "WireHeaders",
    "check_required",
    "decode_headers",
    "encode_headers",
    "plain_headers",
    "utc_text",
]
