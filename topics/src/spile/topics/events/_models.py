"""Every event type of every family, and its model."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec
from pydantic import BaseModel

from spile.topics._event_names import upper_snake
from spile.topics.events.audit import AuditCounted
from spile.topics.events.dead_letters import DeadLetterRecord
from spile.topics.events.episodes import EpisodeStatusChangedEvent, StepRecordedEvent
from spile.topics.events.observability import EVENT_MODELS
from spile.topics.events.requests import (
    AgentRoutingCompleted,
    AgentRoutingFailed,
    AgentRoutingRequested,
    CodeAnalysisCompleted,
    CodeAnalysisFailed,
    CodeAnalysisRequested,
)
from spile.topics.events.telemetry import TELEMETRY_MODELS
from spile.topics.events.telemetry._registry import reserve_event_types
from spile.topics.sessions import SessionEndEvent, SessionStartEvent

MODELS: Final[Mapping[str, type[BaseModel]]] = MappingProxyType(
    {
        **{upper_snake(name): model for name, model in EVENT_MODELS.items()},
        "SESSION_START": SessionStartEvent,
        "SESSION_END": SessionEndEvent,
        **{upper_snake(name): model for name, model in TELEMETRY_MODELS.items()},
        "EPISODE_STATUS_CHANGED": EpisodeStatusChangedEvent,
        "STEP_RECORDED": StepRecordedEvent,
        "CODE_ANALYSIS_REQUESTED": CodeAnalysisRequested,
        "CODE_ANALYSIS_COMPLETED": CodeAnalysisCompleted,
        "CODE_ANALYSIS_FAILED": CodeAnalysisFailed,
        "AGENT_ROUTING_REQUESTED": AgentRoutingRequested,
        "AGENT_ROUTING_COMPLETED": AgentRoutingCompleted,
        "AGENT_ROUTING_FAILED": AgentRoutingFailed,
        "DEAD_LETTER": DeadLetterRecord,
        "AUDIT_COUNTED": AuditCounted,
    }
)
"""The model of every event type, in the form of the envelope, such as `PRE_TOOL_USE`.

Telemetry that subsystems register is not in it: `telemetry_model` knows that.
"""

reserve_event_types(MODELS)


class Wrapped(msgspec.Struct, forbid_unknown_fields=True):
    """What stands around a payload that does not say what it is, outside of an envelope."""

    event_type: str
    payload: msgspec.Raw


def wire_name(model: type[BaseModel]) -> str | None:
    """Return what an event of this model calls itself, `PreToolUse`; None when it does not."""
    for field in ("event_type", "event"):
        if field in model.model_fields:
            stated = model.model_fields[field].default
            return stated if isinstance(stated, str) else None
    return None
