"""
The observability events: what AI agents do, as strict models.

`ObservabilityEvent.parse(data)` reads any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from spile.topics.events.observability._agent import (
    AgentCapabilityUtilizedEvent,
    AgentPausedEvent,
    AgentResumedEvent,
    AgentStartedEvent,
    AgentStateChangedEvent,
    AgentStoppedEvent,
)
from spile.topics.events.observability._base import (
    EMBEDDING_LENGTH,
    EventCategory,
    EventMetadata,
    ObservabilityEvent,
    PerformanceMetrics,
    register_events,
)
from spile.topics.events.observability._communication import (
    BroadcastEvent,
    MessagePublishedEvent,
    MessageReceivedEvent,
)
from spile.topics.events.observability._memory import (
    MemoryConsolidationEvent,
    SemanticQueryEvent,
    SemanticUpdateEvent,
)
from spile.topics.events.observability._recovery import (
    FailureDetectedEvent,
    RecoveryCompletedEvent,
    RecoveryInitiatedEvent,
)
from spile.topics.events.observability._system import (
    ConfigurationChangeEvent,
    SystemHealthCheckEvent,
)
from spile.topics.events.observability._tool import (
    PostToolUseEvent,
    PreToolUseEvent,
    ToolRegisteredEvent,
    ToolUnregisteredEvent,
    ToolUpdatedEvent,
)
from spile.topics.events.observability._upcasting import (
    KNOWN_SCHEMA_VERSIONS,
    SCHEMA_VERSION,
    UPCASTS,
)
from spile.topics.events.observability._workflow import (
    NodeCompletedEvent,
    NodeExecutingEvent,
    NodeFailedEvent,
    WorkflowEndedEvent,
    WorkflowPausedEvent,
    WorkflowResumedEvent,
    WorkflowStartedEvent,
)

_MODELS: Final[tuple[type[ObservabilityEvent], ...]] = (
    WorkflowStartedEvent,
    WorkflowEndedEvent,
    WorkflowPausedEvent,
    WorkflowResumedEvent,
    NodeExecutingEvent,
    NodeCompletedEvent,
    NodeFailedEvent,
    AgentStateChangedEvent,
    AgentCapabilityUtilizedEvent,
    AgentStartedEvent,
    AgentStoppedEvent,
    AgentPausedEvent,
    AgentResumedEvent,
    PreToolUseEvent,
    PostToolUseEvent,
    ToolRegisteredEvent,
    ToolUpdatedEvent,
    ToolUnregisteredEvent,
    SemanticQueryEvent,
    SemanticUpdateEvent,
    MemoryConsolidationEvent,
    MessagePublishedEvent,
    MessageReceivedEvent,
    BroadcastEvent,
    FailureDetectedEvent,
    RecoveryInitiatedEvent,
    RecoveryCompletedEvent,
    SystemHealthCheckEvent,
    ConfigurationChangeEvent,
)

EVENT_MODELS: Final[Mapping[str, type[ObservabilityEvent]]] = MappingProxyType(
    {str(model.model_fields["event_type"].default): model for model in _MODELS}
)
"""Every observability event by its name, such as `PreToolUse`."""

register_events(EVENT_MODELS)

__all__ = [
    "EMBEDDING_LENGTH",
    "EVENT_MODELS",
    "KNOWN_SCHEMA_VERSIONS",
    "SCHEMA_VERSION",
    "UPCASTS",
    "AgentCapabilityUtilizedEvent",
    "AgentPausedEvent",
    "AgentResumedEvent",
    "AgentStartedEvent",
    "AgentStateChangedEvent",
    "AgentStoppedEvent",
    "BroadcastEvent",
    "ConfigurationChangeEvent",
    "EventCategory",
    "EventMetadata",
    "FailureDetectedEvent",
    "MemoryConsolidationEvent",
    "MessagePublishedEvent",
    "MessageReceivedEvent",
    "NodeCompletedEvent",
    "NodeExecutingEvent",
    "NodeFailedEvent",
    "ObservabilityEvent",
    "PerformanceMetrics",
    "PostToolUseEvent",
    "PreToolUseEvent",
    "RecoveryCompletedEvent",
    "RecoveryInitiatedEvent",
    "SemanticQueryEvent",
    "SemanticUpdateEvent",
    "SystemHealthCheckEvent",
    "ToolRegisteredEvent",
    "ToolUnregisteredEvent",
    "ToolUpdatedEvent",
    "WorkflowEndedEvent",
    "WorkflowPausedEvent",
    "WorkflowResumedEvent",
    "WorkflowStartedEvent",
]
