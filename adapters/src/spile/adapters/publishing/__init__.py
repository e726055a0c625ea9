"""From an event to its record: validation, breaker, concurrent publishes gathered, metrics."""

from spile.adapters.publishing._auditing import PublishAudit
from spile.adapters.publishing._breaker import (
    BreakerState,
    CircuitBreaker,
)
from spile.adapters.publishing._encoding import (
    Encoded,
    EventEncoder,
)
from spile.adapters.publishing._publisher import (
    EventPublisher,
    RefusedKeeper,
)
from spile.adapters.publishing._settings import AuditSettings, RedactionSettings
from spile.adapters.publishing._together import Fate

__all__ = [
    "AuditSettings",
    "BreakerState",
    "CircuitBreaker",
    "Encoded",
    "EventEncoder",
    "EventPublisher",
    "Fate",
    "PublishAudit",
    "RedactionSettings",
    "RefusedKeeper",
]
