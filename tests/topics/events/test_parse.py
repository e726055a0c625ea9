"""Reading any event: found by what the data says, refused with the reason."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from spile.spi import InvalidEventError
from spile.topics import MAX_RECORD_BYTES, EventContract, encode_envelope
from spile.topics.encodings import EventSerializer, SerializationFormat
from spile.topics.events import (
    MODELS,
    ObservabilityEvent,
    PlanGeneratedEvent,
    PreToolUseEvent,
    SessionEndEvent,
    parse,
)

QUICK = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    deadline=None,
    max_examples=6,
)


def _says_its_type(name: str) -> bool:
    return bool({"event_type", "event"} & MODELS[name].model_fields.keys())


def _enveloped(name: str, payload: bytes) -> bytes:
    return encode_envelope(
        event_id=str(uuid4()),
        event_type=name,
        correlation_id=str(uuid4()),
        causation_id=None,
        timestamp="2026-01-01T00:00:00Z",
        service_json=b'"tests"',
        payload_json=payload,
    )


def test_every_family_is_there():
    """29 observability events, 2 of sessions, 10 telemetry, 2 episodes, 2 trios, DLQ, audit."""
    assert len(MODELS) == 29 + 2 + 10 + 2 + 6 + 1 + 1
    assert [name for name in MODELS if not _says_its_type(name)] == [
        *(
            f"{stem}_{step}"
            for stem in ("CODE_ANALYSIS", "AGENT_ROUTING")
            for step in ("REQUESTED", "COMPLETED", "FAILED")
        ),
        "AUDIT_COUNTED",
    ]


@QUICK
@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
def test_every_event_survives_json(name, data, event_strategies):
    """What is written is read back equal: by its model, by `parse`, bare and in an envelope."""
    event = data.draw(event_strategies[name])
    raw = event.model_dump_json().encode()
    assert type(event).model_validate_json(raw) == event
    assert parse(_enveloped(name, raw)) == event
    if _says_its_type(name):
        assert parse(raw) == parse(raw.decode()) == parse(json.loads(raw)) == event


@QUICK
@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
def test_every_event_survives_its_contract(name, data, event_strategies):
    """What the bus writes of an event, or of its mapping, is read back equal."""
    event = data.draw(event_strategies[name])
    contract = EventContract(name, type(event))
    prepared = contract.prepare(event)
    assert contract.decode(prepared.payload_json) == event
    mapping = contract.prepare(event.model_dump(mode="json"))
    assert contract.decode(mapping.payload_json) == event
    assert msgspec.json.decode(mapping.payload_json) == msgspec.json.decode(prepared.payload_json)
    assert contract.view(msgspec.Raw(prepared.payload_json)) is not None


def test_flat_and_nested_observability_events_are_read():
    """Own fields may stand beside the common ones or under `payload`."""
    agent = str(uuid4())
    own = {"tool_name": "Read", "parameters": {}}
    nested = parse({"event_type": "PreToolUse", "agent_id": agent, "payload": own})
    flat = parse({"event_type": "PreToolUse", "agent_id": agent, **own})
    assert isinstance(nested, PreToolUseEvent)
    assert isinstance(flat, PreToolUseEvent)
    assert nested.payload == flat.payload == own


@pytest.mark.parametrize("name", [name for name in MODELS if not _says_its_type(name)])
@given(data=st.data())
@QUICK
def test_requests_stand_beside_their_type(name, data, event_strategies):
    """A request's fields stand under `payload`, as the serializer writes them, and nowhere else."""
    event = data.draw(event_strategies[name])
    written, _ = EventSerializer(SerializationFormat.JSON, max_payload_size=10**6).serialize(event)
    assert parse(written) == event
    for wrong in (
        {"event_type": name, **event.model_dump(mode="json")},
        {**json.loads(written), "surprise": 1},
    ):
        with pytest.raises(InvalidEventError, match="stand under it") as caught:
            parse(wrong)
        assert caught.value.field == "payload"


def test_values_of_python_are_read():
    """A mapping may hold ids and times as Python has them."""
    event = parse(
        {"event_type": "PreToolUse", "agent_id": uuid4(), "tool_name": "x", "parameters": {}}
    )
    assert isinstance(event, ObservabilityEvent)
    assert isinstance(event.agent_id, UUID)


def test_the_last_of_equal_keys_counts():
    """A key that stands twice is read as every reader on the bus reads it."""
    raw = b'{"event_type":"session_end","session_id":"a","session_id":"b",%s}'
    event = parse(raw % b'"timestamp":"2026-01-01T00:00:00Z"')
    assert event == SessionEndEvent(session_id="b", timestamp="2026-01-01T00:00:00Z")


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("data", "field", "reason"),
    [
        (b"", None, "no JSON"),
        (b"{", None, "no JSON"),
        (b"\xff", None, "no JSON"),
        ("\ud800", None, "no JSON"),
        (b'{"a":NaN}', None, "no JSON"),
        (b"[" * 100_000, None, "no JSON"),
        (b"[]", None, "must be an object"),
        ([], None, "must be an object"),
        (None, None, "must be an object"),
        ({"a": object()}, None, "no JSON value"),
        ({"a": [math.inf]}, "a.0", "Infinity"),
        ({1: 2}, "event_type", "missing"),
        ({}, "event_type", "missing"),
        ({"run_id": "x"}, "event_type", "missing"),
        ({"event_type": None}, "event_type", "missing"),
        ({"event_type": 5}, "event_type", "expected a text"),
        ({"event_type": "PreToolUsed"}, "event_type", "did you mean PreToolUse"),
        ({"event_type": "sesion_start"}, "event_type", "did you mean session_start"),
        ({"event_type": "CODE_ANALYSIS_REQUEST"}, "event_type", "CODE_ANALYSIS_REQUESTED"),
        ({"event_type": "x" * 10_000}, "event_type", "known are WorkflowStarted"),
        ({"event_type": "PRE_TOOL_USE", "agent_id": str(uuid4())}, "event_type", "PreToolUse"),
        ({"event": "plan.step_startet", "run_id": "x"}, "event", "did you mean plan.step_started"),
        ({"event": "memory.stored", "run_id": "x"}, "event", "known are plan.*register_tel"),
        ({"event_type": "session_end", "metadata": _deep(40)}, None, "deeper than"),
        ({"event_type": "session_end", "session_id": "x" * MAX_RECORD_BYTES}, None, "limit"),
    ],
)  # fmt: skip
def test_what_is_no_known_event_is_refused(data, field, reason):
    """The reason names what is wrong, the field, and what comes close."""
    with pytest.raises(InvalidEventError, match=reason) as caught:
        parse(data)
    assert caught.value.field == field
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 2000


def test_an_unbounded_mapping_is_refused():
    """A mapping that holds itself ends in the same error."""
    circle: dict[str, Any] = {"event_type": "session_end"}
    circle["metadata"] = circle
    with pytest.raises(InvalidEventError):
        parse(circle)


def test_an_envelope_is_checked():
    """The envelope of an event is read as on the bus, and an unknown type in it is refused."""
    payload = b'{"event_type":"session_end","session_id":"a","timestamp":"2026-01-01T00:00:00Z"}'
    assert parse(_enveloped("SESSION_END", payload)).session_id == "a"
    with pytest.raises(
        InvalidEventError, match="_STARTET' is no event type, did you mean PLAN_STEP_START"
    ):
        parse(_enveloped("PLAN_STEP_STARTET", payload))
    broken = _enveloped("SESSION_END", payload).replace(b'"version":"v1"', b'"version":5')
    with pytest.raises(InvalidEventError, match="version") as caught:
        parse(broken)
    assert caught.value.field == "version"


def test_no_value_is_quoted():
    """What stands in a field may be secret: errors name the field only."""
    event = PlanGeneratedEvent(source="planner", run_id="r", cycle=1, payload={"steps": 1})
    broken = event.model_dump(mode="json")
    broken["payload"]["steps"] = "s3cret"
    with pytest.raises(InvalidEventError, match=r"payload\.steps") as caught:
        parse(broken)
    assert "s3cret" not in str(caught.value)


_keys = st.sampled_from(
    ["event_type", "event", "run_id", "payload", "service", "event_id", "correlation_id", "step"]
)
_things = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=4) | st.sampled_from([*MODELS]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_keys, inner, max_size=6),
)


@settings(deadline=None, max_examples=150)
@given(st.binary() | st.text() | st.dictionaries(_keys, _things | st.just(b"x")))
def test_whatever_comes_there_is_one_error(data):
    """Any bytes, text or object is an event or an InvalidEventError, nothing else."""
    with contextlib.suppress(InvalidEventError):
        assert isinstance(parse(data), BaseModel)
