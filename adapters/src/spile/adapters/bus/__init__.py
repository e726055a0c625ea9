"""The bus that applications hold, over any transport."""

from spile.adapters.bus._adapter import (
    BusAdapter,
)
from spile.adapters.bus._bus import (
    BROADCAST_TOPIC,
    GROUP_TOPIC,
    EventBus,
)

__all__ = [
    "BROADCAST_TOPIC",
    "GROUP_TOPIC",
    "BusAdapter",
    "EventBus",
]
