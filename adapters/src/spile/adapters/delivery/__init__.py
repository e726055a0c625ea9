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
from spile.adapters.delivery._bus import (
    BROADCAST_TOPIC,
    GROUP_TOPIC,
    EventBus,
)
from spile.adapters.delivery._bus_adapter import (
    BusAdapter,
)
from spile.adapters.delivery._dead_letters import (
    DLQ_SUFFIX,
    DeadLetterQueue,
)
from spile.adapters.delivery._encoding import (
    Encoded,
    EventEncoder,
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
    Settled,
    SourceFactory,
)
from spile.adapters.delivery._publisher import (
    EventPublisher,
    RefusedKeeper,
)
from spile.adapters.delivery._reading import (
    EventReader,
    ReceivedEvent,
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
    "BROADCAST_TOPIC",
    "DLQ_SUFFIX",
    "GROUP_TOPIC",
    "Backoff",
    "BreakerState",
    "BusAdapter",
    "CircuitBreaker",
    "DeadLetterQueue",
    "Encoded",
    "EventBus",
    "EventEncoder",
    "EventHeaders",
    "EventPublisher",
    "EventReader",
    "OutgoingEvent",
    "OutgoingRecord",
    "Position",
    "RebalanceListener",
    "Receipt",
    "ReceivedEvent",
    "ReceivedMessage",
    "Record",
    "RecordSender",
    "RecordSource",
    "RefusedKeeper",
    "Retries",
    "SemVer",
    "Settled",
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
