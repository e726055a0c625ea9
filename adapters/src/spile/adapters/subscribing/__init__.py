"""From records to handlers: lanes, commits after handling, retries, reading of events."""

from spile.adapters.subscribing._agreement import check_agreement, check_headers, check_version
from spile.adapters.subscribing._guard import FailureGuard
from spile.adapters.subscribing._observer import (
    SilentObserver,
    SubscriptionObserver,
)
from spile.adapters.subscribing._options import SubscriptionOptions
from spile.adapters.subscribing._reading import (
    EventReader,
    ReceivedEvent,
)
from spile.adapters.subscribing._retries import DEFAULT_TIERS_S, Parking, Retries
from spile.adapters.subscribing._subscription import (
    Subscription,
)

__all__ = [
    "DEFAULT_TIERS_S",
    "EventReader",
    "FailureGuard",
    "Parking",
    "ReceivedEvent",
    "Retries",
    "SilentObserver",
    "Subscription",
    "SubscriptionObserver",
    "SubscriptionOptions",
    "check_agreement",
    "check_headers",
    "check_version",
]
