"""Samples of every observability event, and strategies that make events of every family."""

from __future__ import annotations

import types
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

import pytest
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from spile.topics import EventContract, Wire, upper_snake
from spile.topics.events import EVENT_MODELS, MODELS, Artifact, StepRecordedEvent

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


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
_moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
_floats = st.floats(allow_nan=False, allow_infinity=False)
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    Any: json_values,
    UUID: st.uuids(),
    bool: st.booleans(),
    datetime: _moments,
    type(None): st.none(),
    dict[str, Any]: st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    list[Any]: st.lists(json_values, max_size=3),
}


def _values_of(  # noqa: PLR0911 - one return a kind
    type_: Any, metadata: tuple[Any, ...] = ()
) -> st.SearchStrategy[Any]:
    """Make values of a field's type as the models declare it, or as msgspec would."""
    for item in metadata:
        if isinstance(item, Wire):
            return _values_of(item.type)
    origin, arguments = get_origin(type_), get_args(type_)
    if origin is Annotated:
        return _values_of(arguments[0], (*metadata, *_flat(arguments[1:])))
    if type_ in _PLAIN:
        return _PLAIN[type_]
    if origin in {Union, types.UnionType}:
        return st.one_of(*(_values_of(item) for item in arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if isinstance(type_, type) and issubclass(type_, BaseModel):
        return events_of(type_)
    return _sized(type_, arguments, _bounds(metadata))


def _flat(metadata: tuple[Any, ...]) -> list[Any]:
    return [
        part
        for item in metadata
        for part in (item.metadata if isinstance(item, FieldInfo) else [item])
    ]


def _bounds(metadata: tuple[Any, ...]) -> dict[str, Any]:
    names = ("ge", "le", "min_length", "max_length", "pattern")
    return {
        name: value
        for item in metadata
        for name in names
        if (value := getattr(item, name, None)) is not None
    }


def _sized(  # noqa: PLR0911 - one return a kind
    type_: Any, arguments: Any, bounds: dict[str, Any]
) -> st.SearchStrategy[Any]:
    least, most = bounds.get("min_length", 0), bounds.get("max_length")
    if type_ is str and "pattern" in bounds:
        return st.from_regex(bounds["pattern"].replace("$", r"\Z"), alphabet=st.characters())
    if type_ is str:
        return st.text(min_size=least, max_size=min(most or 20, 20))
    if type_ is int:
        return st.integers(bounds.get("ge", -(2**63)), bounds.get("le", 2**63 - 1))
    if type_ is float:
        return st.floats(bounds.get("ge"), bounds.get("le"), allow_nan=False, allow_infinity=False)
    if get_origin(type_) is list and least > 10:
        return st.lists(_floats, min_size=1, max_size=2).map(lambda x: (x * most)[:most])
    if get_origin(type_) is list:
        return st.lists(_values_of(arguments[0]), min_size=least, max_size=3)
    assert get_origin(type_) is dict, type_
    return st.dictionaries(st.text(max_size=5), _values_of(arguments[1]), max_size=3)


def events_of(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Make instances of a model, every field drawn."""
    fields = {
        name: _values_of(field.annotation, tuple(_flat(tuple(field.metadata))))
        for name, field in model.model_fields.items()
    }
    made = st.builds(model, **fields)
    if model is not StepRecordedEvent:
        return made
    loose = st.builds(model, **{**fields, "artifacts": st.just([])})
    artifacts = fields["artifacts"]
    return st.builds(_with_artifacts, loose, artifacts)


def _with_artifacts(event: StepRecordedEvent, artifacts: list[Artifact]) -> StepRecordedEvent:
    own = [item.model_copy(update={"step_id": event.step.step_id}) for item in artifacts]
    return event.model_copy(update={"artifacts": own})


@pytest.fixture(scope="session")
def event_strategies() -> dict[str, st.SearchStrategy[BaseModel]]:
    """Every event of every family by its event type: strategies that make instances."""
    return {name: events_of(model) for name, model in MODELS.items()}
