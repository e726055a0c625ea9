"""MessagePack: the fast path refuses what pydantic refuses, and what JSON has not."""

from __future__ import annotations

import copy
import math
import struct
from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spile.spi import InvalidEventError, UndecodableError
from spile.topics.encodings import EventSerializer, deserialize_from_stream, serialize_for_stream
from spile.topics.encodings._forms import _BY_MODEL, form_of
from spile.topics.events import EVENT_MODELS, MODELS, ObservabilityEvent, PreToolUseEvent, parse

Ext = msgspec.msgpack.Ext
ID = "0190c8a0-0000-7000-8000-000000000001"
NOT_IN_JSON = [
    b"x", b"0" * 16, bytearray(b"1"), Ext(5, b"abc"), Ext(-1, b"\x00\x00\x00\x01"),
    datetime(2026, 1, 1, tzinfo=UTC), math.nan, math.inf, -math.inf, {1: 2}, {None: 1},
    {b"a": 1}, {1.5: 1}, {True: 1},
]  # fmt: skip
IN_JSON = [
    2**63, 2**64 - 1, -(2**63), -1, 0, 1, 1.0, 1.5, 5e-324, 1e308, 101, "", "x", "1.5", "new",
    "é\u0000", True, False, None, ID.upper(), ID.replace("-", ""), f"urn:uuid:{ID}",
    "2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01 00:00:00+02:00", "2026-01-01T00:00:00",
    "2026-01-01T00:00:00.1234567Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00",
    [], {}, [1], ["a"], {"a": 1}, [[[]]], "1.0.0", "2.0.0", "tool", [0.5] * 1536, [1] * 1536,
    [None] * 1536,
]  # fmt: skip


def _nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


odd_values = st.sampled_from([*NOT_IN_JSON, *IN_JSON, _nested(32), _nested(33), _nested(200)])


def _paths(value, prefix=()):
    found = []
    if isinstance(value, dict):
        for key, item in value.items():
            found += [(*prefix, key), *_paths(item, (*prefix, key))]
    return found


@st.composite
def changed(draw, event):
    """Draw the wire form of an event with odd values in up to two places."""
    tree = msgspec.json.decode(event.model_dump_json())
    for _ in range(draw(st.integers(0, 2))):
        path = draw(st.sampled_from([*_paths(tree), ("payload", "new"), ("new",)]))
        target = tree
        for part in path[:-1]:
            target = target.get(part) if isinstance(target, dict) else None
        if not isinstance(target, dict):
            continue
        made_anew = path[-1] in {"event_id", "timestamp"}
        if not made_anew and draw(st.booleans()) and draw(st.booleans()):
            target.pop(path[-1], None)
        else:
            target[path[-1]] = copy.deepcopy(draw(odd_values))
    return tree


def _as_json(value, depth=0):
    """Return the value when JSON has it; an independent judgement, not the package's."""
    if depth > 40:
        raise ValueError
    if value is None or type(value) in {str, bool, int}:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is list:
        return [_as_json(item, depth + 1) for item in value]
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: _as_json(item, depth + 1) for key, item in value.items()}
    raise ValueError


def _by_pydantic(tree):
    """Return what the model makes of the same as JSON; None when it refuses."""
    try:
        plain = _as_json(tree)
        return parse(msgspec.json.encode(plain))
    except (ValueError, RecursionError):
        return None


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@pytest.mark.parametrize("name", sorted(EVENT_MODELS))
@given(data=st.data())
def test_message_pack_is_judged_as_json(name, data, samples):
    """An event is read from MessagePack if and only if pydantic reads it from JSON, and equal."""
    event = EVENT_MODELS[name](**samples[name], event_id=uuid4(), session_id=uuid4())
    tree = data.draw(changed(event))
    try:
        packed = msgspec.msgpack.encode(tree)
    except RecursionError:
        return
    wanted = _by_pydantic(msgspec.msgpack.decode(packed))
    try:
        read = deserialize_from_stream(packed)
    except UndecodableError:
        read = None
    assert read == wanted
    if isinstance(read, ObservabilityEvent):
        assert [type(value) for value in read.__dict__.values()] == (
            [type(value) for value in wanted.__dict__.values()]
        )


@pytest.mark.parametrize("kind", sorted(MODELS))
@pytest.mark.parametrize("odd", NOT_IN_JSON, ids=lambda odd: repr(odd)[:20])
def test_what_json_has_not_is_refused_at_the_top(kind, odd):
    """Binary, extensions, times, NaN and keys that are no texts are no fields of any event."""
    form = _BY_MODEL[MODELS[kind]]
    tree = {"event_type": form.event_type, "odd": odd}
    with pytest.raises(UndecodableError):
        form.read_message_pack(msgspec.msgpack.encode(tree), tree)


@pytest.mark.parametrize(
    "odd", [b"0" * 16, Ext(-1, b"\x00\x00\x00\x01"), datetime(2026, 1, 1, tzinfo=UTC), UUID(ID)]
)
@pytest.mark.parametrize("field", ["agent_id", "event_id", "timestamp"])
def test_an_id_is_a_text(odd, field):
    """A UUID of 16 bytes or a time as an extension is not what JSON would hold."""
    event = PreToolUseEvent(agent_id=uuid4(), tool_name="Read", parameters={})
    tree = {**msgspec.json.decode(event.model_dump_json()), field: odd}
    packed = msgspec.msgpack.encode(tree)
    if field != "timestamp" and isinstance(odd, UUID):
        assert str(getattr(deserialize_from_stream(packed), field)) == ID
        return
    with pytest.raises(UndecodableError):
        deserialize_from_stream(packed)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("form", [">d", ">f"])
@pytest.mark.parametrize("place", ["timeout_ms", "parameters", "semantic_embedding"])
def test_a_number_that_is_none_is_refused(number, form, place):
    """NaN and infinities, of 64 bits and of 32, are found wherever numbers may stand."""
    event = PreToolUseEvent(
        agent_id=uuid4(),
        tool_name="Read",
        parameters={"x": 1.5},
        timeout_ms=2.5,
        semantic_embedding=[*[0.25] * 1535, 3.5],
    )
    good = {"timeout_ms": 2.5, "parameters": 1.5, "semantic_embedding": 3.5}[place]
    odd = (b"\xcb" if form == ">d" else b"\xca") + struct.pack(form, number)
    packed = serialize_for_stream(event)[0]
    stands = b"\xcb" + struct.pack(">d", good)
    assert packed.count(stands) == 1
    with pytest.raises(UndecodableError):
        deserialize_from_stream(packed.replace(stands, odd))
    if form == ">f":
        same = b"\xca" + struct.pack(form, good)
        assert deserialize_from_stream(packed.replace(stands, same)) == event


def test_flat_and_old_events_are_read():
    """What the fast path does not know goes the slow way: flat fields, version 1.0.0."""
    event = PreToolUseEvent(agent_id=uuid4(), tool_name="Read", parameters={"a": 1})
    tree = msgspec.json.decode(event.model_dump_json())
    flat = {**tree, **tree["payload"]}
    del flat["payload"]
    assert deserialize_from_stream(msgspec.msgpack.encode(flat)) == event
    tree["metadata"]["schema_version"] = "1.0.0"
    assert deserialize_from_stream(msgspec.msgpack.encode(tree)) == event


def test_our_own_events_take_the_fast_path(samples):
    """Every event that we write is read without pydantic, embeddings too."""
    for name, fields in samples.items():
        event = EVENT_MODELS[name](**fields, semantic_embedding=[0.25, -1.5] * 768)
        fast = form_of(event).fast
        data = fast.write(event)
        assert data is not None
        assert fast.read(data, msgspec.msgpack.decode(data)) == event


def test_a_number_of_more_than_64_bits_is_refused():
    """MessagePack ends at 64 bits; JSON and Avro, which keeps a caller's JSON as text, do not."""
    event = PreToolUseEvent(agent_id=uuid4(), tool_name="Read", parameters={"x": 2**70})
    with pytest.raises(InvalidEventError, match="64 bits"):
        serialize_for_stream(event)
    for serializer in (EventSerializer("json"), EventSerializer("avro")):
        assert serializer.deserialize(serializer.serialize(event)[0]) == event
