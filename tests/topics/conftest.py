"""Samples of every observability event."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from spile.topics import EventContract, upper_snake
from spile.topics.events import EVENT_MODELS

_ID = "0190c8a0-0000-7000-8000-00000000000"

_REQUIRED: dict[str, dict[str, Any]] = {
    "WorkflowStarted": {"workflow_name": "review", "workflow_definition": {"nodes": ["a"]}},
    "WorkflowEnded": {"status": "completed", "completion_reason": "done"},
    "WorkflowPaused": {"pause_reason": "lunch"},
    "WorkflowResumed": {},
    "NodeExecuting": {"node_id": "n1", "node_type": "task"},
    "NodeCompleted": {"node_id": "n1", "success": True},
    "NodeFailed": {"node_id": "n1", "error_type": "E", "error_message": "boom"},
    "AgentStateChanged": {
        "previous_state": "idle",
        "new_state": "busy",
        "state_transition_reason": "work",
    },
    "AgentCapabilityUtilized": {"capability_name": "search", "utilization_context": "task 1"},
    "AgentStarted": {},
    "AgentStopped": {"stop_reason": "done"},
    "AgentPaused": {},
    "AgentResumed": {},
    "PreToolUse": {"tool_name": "Read", "parameters": {"path": "/a", "deep": [{"x": None}]}},
    "PostToolUse": {"tool_name": "Read", "success": False},
    "ToolRegistered": {"tool_name": "Read"},
    "ToolUpdated": {"tool_name": "Read"},
    "ToolUnregistered": {"tool_name": "Read"},
    "SemanticQuery": {"query_text": "where"},
    "SemanticUpdate": {"operation_type": "insert", "content": {"text": "x"}},
    "MemoryConsolidation": {"consolidation_type": "nightly"},
    "MessagePublished": {
        "message_id": "m1",
        "from_agent": "a",
        "to_agent": "b",
        "message_type": "ask",
        "message_content": {},
    },
    "MessageReceived": {"message_id": "m1", "from_agent": "a", "processing_status": "deferred"},
    "BroadcastEvent": {"from_agent": "a", "message_type": "ask", "message_content": {"x": 1}},
    "FailureDetected": {
        "failure_type": "crash",
        "failure_description": "it fell over",
        "affected_component": "worker",
        "severity": "high",
        "error_details": {"code": 1},
    },
    "RecoveryInitiated": {
        "recovery_strategy": "restart",
        "trigger_failure": "crash",
        "recovery_steps": ["stop", "start"],
    },
    "RecoveryCompleted": {"recovery_strategy": "restart", "success": True},
    "SystemHealthCheck": {
        "health_status": "degraded",
        "check_type": "ping",
        "component_statuses": {"db": "up"},
        "performance_indicators": {"rps": 1.5},
    },
    "ConfigurationChange": {"component": "db", "changes": {"size": [1, 2]}},
}


@pytest.fixture(scope="session")
def samples() -> dict[str, dict[str, Any]]:
    """Every event by name: own required fields, and those ids that some events require."""
    ids = {"agent_id": UUID(f"{_ID}1"), "workflow_id": UUID(f"{_ID}2")}
    return {name: {**ids, **fields} for name, fields in _REQUIRED.items()}


@pytest.fixture(scope="session")
def contracts() -> dict[str, EventContract]:
    """Return the contract of every observability event by the event's name."""
    return {name: EventContract(upper_snake(name), model) for name, model in EVENT_MODELS.items()}
