"""Events of messages between agents."""

from __future__ import annotations

from typing import Literal

from spile.topics._json import JsonArray, JsonObject
from spile.topics._strict import Milliseconds, Name
from spile.topics.events.observability._base import ObservabilityEvent


class _CommunicationEvent(ObservabilityEvent, frozen=True):
    event_category: Literal["communication"] = "communication"


class MessagePublishedEvent(_CommunicationEvent, frozen=True):
    """An agent sent a message."""

    event_type: Literal["MessagePublished"] = "MessagePublished"
    message_id: Name
    from_agent: Name
    to_agent: Name
    message_type: Name
    message_content: JsonObject
    priority: str | None = None
    delivery_method: str | None = None
    expected_response: bool | None = None


class MessageReceivedEvent(_CommunicationEvent, frozen=True):
    """An agent got a message."""

    event_type: Literal["MessageReceived"] = "MessageReceived"
    message_id: Name
    from_agent: Name
    processing_status: Literal["accepted", "rejected", "deferred"]
    processing_reason: str | None = None
    response_generated: bool | None = None
    delivery_latency_ms: Milliseconds | None = None


class BroadcastEvent(_CommunicationEvent, frozen=True):
    """An agent told many."""

    event_type: Literal["BroadcastEvent"] = "BroadcastEvent"
    from_agent: Name
    message_type: Name
    message_content: JsonObject
    target_agents: JsonArray | None = None
    priority: str | None = None
