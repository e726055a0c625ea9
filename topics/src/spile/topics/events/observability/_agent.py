"""Events of an agent's life."""

from __future__ import annotations

from typing import Literal

from spile.topics._json import JsonArray, JsonObject
from spile.topics._strict import Milliseconds, Name, Share
from spile.topics._wire import Id
from spile.topics.events.observability._base import ObservabilityEvent


class _AgentEvent(ObservabilityEvent, frozen=True):
    event_category: Literal["agent"] = "agent"
    agent_id: Id  # pyright: ignore[reportGeneralTypeIssues] - keyword only


class AgentStateChangedEvent(_AgentEvent, frozen=True):
    """An agent went from one state to another."""

    event_type: Literal["AgentStateChanged"] = "AgentStateChanged"
    previous_state: Name
    new_state: Name
    state_transition_reason: str
    capabilities: JsonArray | None = None
    resource_allocation: JsonObject | None = None
    persona_data: JsonObject | None = None


class AgentCapabilityUtilizedEvent(_AgentEvent, frozen=True):
    """An agent used a capability."""

    event_type: Literal["AgentCapabilityUtilized"] = "AgentCapabilityUtilized"
    capability_name: Name
    utilization_context: str
    input_parameters: JsonObject | None = None
    capability_result: JsonObject | None = None
    efficiency_score: Share | None = None


class AgentStartedEvent(_AgentEvent, frozen=True):
    """An agent came up."""

    event_type: Literal["AgentStarted"] = "AgentStarted"
    agent_name: str | None = None
    agent_type: str | None = None
    capabilities: JsonArray | None = None
    persona_data: JsonObject | None = None


class AgentStoppedEvent(_AgentEvent, frozen=True):
    """An agent went down."""

    event_type: Literal["AgentStopped"] = "AgentStopped"
    stop_reason: str
    uptime_ms: Milliseconds | None = None
    cleanup: JsonObject | None = None


class AgentPausedEvent(_AgentEvent, frozen=True):
    """An agent waits."""

    event_type: Literal["AgentPaused"] = "AgentPaused"
    reason: str | None = None


class AgentResumedEvent(_AgentEvent, frozen=True):
    """An agent goes on."""

    event_type: Literal["AgentResumed"] = "AgentResumed"
    reason: str | None = None
