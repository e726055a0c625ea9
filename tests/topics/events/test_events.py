"""Observability events: made, written, read, refused."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from spile.spi import InvalidEventError
from spile.topics.events import (
    EVENT_MODELS,
    EventCategory,
    ObservabilityEvent,
    PerformanceMetrics,
    PostToolUseEvent,
    PreToolUseEvent,
    SemanticQueryEvent,
)

NAMES = sorted(EVENT_MODELS)


def _pre(**more):
    return PreToolUseEvent(agent_id=uuid4(), tool_name="Read", parameters={"a": 1}, **more)


def test_there_are_29_events_in_seven_categories():
    """The models cover the whole table, and every category has events."""
    assert len(EVENT_MODELS) == 29
    found = {model.model_fields["event_category"].default for model in EVENT_MODELS.values()}
    assert found == set(EventCategory)


@pytest.mark.parametrize("name", NAMES)
def test_every_event_survives_the_wire(name, samples):
    """What is written as JSON is read back equal, by the base class and by its own."""
    event = EVENT_MODELS[name](**samples[name])
    data = event.model_dump_json().encode()
    assert ObservabilityEvent.parse(data) == event
    assert EVENT_MODELS[name].parse(data) == event
    assert EVENT_MODELS[name].model_validate_json(data) == event
    assert ObservabilityEvent.parse(data.decode()) == event


@pytest.mark.parametrize("name", NAMES)
def test_flat_and_nested_are_the_same_event(name, samples):
    """Own fields beside the common ones read like own fields under `payload`."""
    event = EVENT_MODELS[name](**samples[name])
    nested = event.model_dump(mode="json")
    flat = {key: value for key, value in nested.items() if key != "payload"}
    flat.update(nested["payload"])
    assert ObservabilityEvent.parse(flat) == event == ObservabilityEvent.parse(nested)


@pytest.mark.parametrize("name", NAMES)
def test_every_missing_required_field_is_named(name, samples):
    """Without one of its required fields an event is refused, and the field is named."""
    model = EVENT_MODELS[name]
    for field, info in model.model_fields.items():
        if not info.is_required():
            continue
        given = {key: value for key, value in samples[name].items() if key != field}
        with pytest.raises(InvalidEventError) as caught:
            ObservabilityEvent.parse({"event_type": name, **given})
        wanted = field if field in model.COMMON else f"payload.{field}"
        assert caught.value.field == wanted


def test_own_fields_stand_under_payload():
    """One form is written: own fields nested, unset ones left out."""
    event = _pre(performance_metrics=PerformanceMetrics(execution_time_ms=2.5))
    written = json.loads(event.model_dump_json())
    assert written["payload"] == {"tool_name": "Read", "parameters": {"a": 1}} == event.payload
    assert written["performance_metrics"] == {"execution_time_ms": 2.5}
    assert written["metadata"] == {"schema_version": "1.1.0"}
    assert "workflow_id" not in written


def test_an_event_gets_id_and_time_by_itself():
    """The id is a UUIDv7, the time is now, in UTC."""
    before = datetime.now(UTC)
    event = _pre()
    assert event.event_id.version == 7
    assert before <= event.timestamp <= datetime.now(UTC)


def test_a_time_becomes_utc():
    """An offset is turned into UTC; the instant stays the same."""
    moment = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    event = _pre(timestamp=moment)
    assert event.timestamp == moment
    assert event.timestamp.utcoffset() == timedelta(0)


def test_events_are_frozen():
    """An event that is made cannot be changed."""
    event = _pre()
    with pytest.raises(ValidationError):
        event.tool_name = "Write"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"event_type": "NoSuchThing"}, "event_type"),
        ({"event_type": None}, "event_type"),
        ({"event_type": ["PreToolUse"]}, "event_type"),
        ({"event_category": "agent"}, "event_category"),
        ({"tool_name": 5}, "payload.tool_name"),
        ({"tool_name": ""}, "payload.tool_name"),
        ({"timeout_ms": "5"}, "payload.timeout_ms"),
        ({"timeout_ms": True}, "payload.timeout_ms"),
        ({"timeout_ms": -1}, "payload.timeout_ms"),
        ({"timeout_ms": math.inf}, "payload.timeout_ms"),
        ({"parameters": []}, "payload.parameters"),
        ({"parameters": {"x": math.nan}}, "payload.parameters"),
        ({"parameters": {"x": {1, 2}}}, "payload.parameters"),
        ({"parameters": {1: 2}}, "payload.parameters"),
        ({"surprise": 1}, "payload.surprise"),
        ({"agent_id": "abc-123"}, "agent_id"),
        ({"agent_id": 5}, "agent_id"),
        ({"timestamp": "2026-01-01T00:00:00"}, "timestamp"),
        ({"timestamp": 1767225600}, "timestamp"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"timestamp": "0001-01-01T00:00:00+01:00"}, "timestamp"),
        ({"semantic_embedding": [0.5] * 1535}, "semantic_embedding"),
        ({"semantic_embedding": [0.5] * 1537}, "semantic_embedding"),
        ({"semantic_embedding": [math.nan] * 1536}, "semantic_embedding.0"),
        ({"performance_metrics": {"cpu_usage_percent": 101}}, "performance_metrics"),
        ({"metadata": {"schema_version": "9.0.0"}}, "metadata.schema_version"),
        ({"metadata": {"sampling_probability": 1.5}}, "metadata.sampling_probability"),
    ],
)
def test_a_wrong_field_is_named(change, field):
    """Unknown type, wrong category, wrong type, wrong length: the error names the field."""
    event = {
        "event_type": "PreToolUse",
        "agent_id": str(uuid4()),
        "tool_name": "Read",
        "parameters": {},
        **change,
    }
    with pytest.raises(InvalidEventError) as caught:
        ObservabilityEvent.parse(event)
    assert caught.value.field is not None
    assert caught.value.field.startswith(field)


def test_an_error_shows_no_value():
    """What a caller sent may be secret: errors name fields, they never quote values."""
    event = {"event_type": "PreToolUse", "agent_id": str(uuid4()), "parameters": "s3cret"}
    with pytest.raises(InvalidEventError) as caught:
        ObservabilityEvent.parse(event)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"{", b"\xff", "nonsense", b"[" * 100_000, b'{"a":NaN}']
)
def test_what_is_no_event_is_refused(data):
    """Broken, foreign and hostile input ends in InvalidEventError."""
    with pytest.raises(InvalidEventError):
        ObservabilityEvent.parse(data)


def test_a_field_may_not_stand_twice():
    """A field both beside and under `payload`, or a common field under it, is ambiguous."""
    base = {"event_type": "PreToolUse", "agent_id": str(uuid4()), "parameters": {}}
    with pytest.raises(InvalidEventError, match="Event: payload: tool_name stands twice"):
        ObservabilityEvent.parse({**base, "tool_name": "a", "payload": {"tool_name": "b"}})
    with pytest.raises(InvalidEventError, match="session_id is a common field"):
        ObservabilityEvent.parse({**base, "payload": {"tool_name": "b", "session_id": "x"}})


def test_json_of_32_levels_is_the_deepest():
    """A caller's JSON may be nested 32 deep, not 33."""

    def nested(depth):
        value = 1
        for _ in range(depth):
            value = {"x": value}
        return value

    assert PreToolUseEvent(agent_id=uuid4(), tool_name="a", parameters=nested(32))
    with pytest.raises(ValidationError, match="deeper than 32"):
        PreToolUseEvent(agent_id=uuid4(), tool_name="a", parameters=nested(33))


def test_an_embedding_of_1536_floats_is_kept():
    """The right length is accepted, whole numbers count as floats."""
    event = SemanticQueryEvent(query_text="q", query_embedding=[0.25] * 1535 + [1])
    assert len(ObservabilityEvent.parse(event.model_dump_json()).query_embedding) == 1536


def test_ids_are_read_as_text_and_as_uuid():
    """A UUID's text is as good as the UUID."""
    agent = uuid4()
    event = PostToolUseEvent(agent_id=str(agent), tool_name="Read", success=True, result=[1, None])
    assert event.agent_id == agent
    assert isinstance(event.agent_id, UUID)


def test_counts_have_64_bits():
    """A larger count would not survive every encoding."""
    event = {"event_type": "PostToolUse", "agent_id": uuid4(), "tool_name": "a", "success": True}
    assert ObservabilityEvent.parse({**event, "retry_count": 2**63 - 1}).retry_count == 2**63 - 1
    with pytest.raises(InvalidEventError) as caught:
        ObservabilityEvent.parse({**event, "retry_count": 2**63})
    assert caught.value.field == "payload.retry_count"
