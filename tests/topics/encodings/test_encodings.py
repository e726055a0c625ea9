"""Events in every encoding: written, read, cut, refused."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from itertools import islice
from uuid import uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from spile.spi import ConfigurationError, InvalidEventError, MessageTooLargeError, UndecodableError
from spile.testkit.scenarios import MockEventGenerator
from spile.topics import MAX_PAYLOAD_BYTES
from spile.topics.encodings import (
    DEFAULT_PAYLOAD_BYTES,
    EventSerializer,
    SerializationFormat,
    deserialize,
    deserialize_from_storage,
    deserialize_from_stream,
    serialize_for_storage,
    serialize_for_stream,
)
from spile.topics.events import (
    MODELS,
    PostToolUseEvent,
    PreToolUseEvent,
    TelemetryEvent,
    TelemetryPayload,
    parse,
    register_telemetry,
)
from spile.topics.payloads._codec import utc_text

FEW = settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
SERIALIZERS = [
    EventSerializer(given, compressed, MAX_PAYLOAD_BYTES)
    for given in SerializationFormat
    for compressed in (False, True)
]


def _post(result, **more):
    return PostToolUseEvent(agent_id=uuid4(), tool_name="Read", success=True, result=result, **more)


@pytest.mark.parametrize("kind", sorted(MODELS))
@given(data=st.data())
@FEW
def test_every_event_survives_every_encoding(kind, data, event_strategies):
    """What is written is read back equal, by its serializer and by any, and written the same."""
    event = data.draw(event_strategies[kind])
    for serializer in SERIALIZERS:
        written, metadata = serializer.serialize(event)
        read = serializer.deserialize(written, metadata)
        assert read == event == deserialize(written)
        assert serializer.serialize(read)[0] == written


def test_json_is_what_parse_reads():
    """The JSON of an event is its wire form, nested."""
    event = _post({"lines": 3})
    data, _ = EventSerializer(SerializationFormat.JSON).serialize(event)
    assert parse(data) == event
    assert json.loads(data) == json.loads(event.model_dump_json())


def test_message_pack_holds_what_json_holds():
    """Any MessagePack reader finds the wire form in it: texts, no binary."""
    event = PreToolUseEvent(agent_id=uuid4(), tool_name="Read", parameters={"a": [1, None]})
    data, _ = serialize_for_stream(event)
    assert msgspec.msgpack.decode(data) == json.loads(event.model_dump_json())


def test_the_metadata_say_what_the_bytes_are():
    """Format, compression, dictionary, sizes, type and version stand beside the bytes."""
    data, metadata = serialize_for_storage(_post("x" * 2000))
    crc32 = metadata.pop("crc32")
    assert isinstance(crc32, int)
    assert metadata.pop("original_size") > 2000
    assert metadata == {
        "format": "msgpack_zstd",
        "compressed": True,
        "dictionary_id": 84001,
        "event_type": "POST_TOOL_USE",
        "schema_version": "1.1.0",
        "encoded_size": len(data),
        "truncated": False,
    }
    plain = EventSerializer().serialize(_post(1))[1]
    assert plain["format"] == "msgpack"
    assert plain["dictionary_id"] is None
    assert plain["original_size"] == plain["encoded_size"]


def test_stream_and_storage_read_their_own():
    """What one wrote the other refuses; `deserialize` reads both."""
    event = _post([1])
    stream, _ = serialize_for_stream(event)
    storage, _ = serialize_for_storage(event)
    assert deserialize_from_stream(stream) == deserialize_from_storage(storage) == event
    with pytest.raises(UndecodableError):
        deserialize_from_stream(storage)
    with pytest.raises(UndecodableError):
        deserialize_from_storage(stream)


def test_metadata_of_other_bytes_are_noticed():
    """The checksum tells that bytes were changed which are a valid event still."""
    data, metadata = serialize_for_stream(_post("abc"))
    changed = data.replace(b"abc", b"abd")
    assert deserialize_from_stream(changed).result == "abd"
    for read in (deserialize_from_stream, deserialize):
        with pytest.raises(UndecodableError, match="crc32"):
            read(changed, metadata)
    with pytest.raises(UndecodableError, match="expected 'json'"):
        EventSerializer(SerializationFormat.JSON).deserialize(data, metadata)
    with pytest.raises(UndecodableError, match="no format"):
        deserialize(data, {"format": "pickle"})


RESULTS = ["ä€😀" * 40_000, '\x00\n"' * 60_000, {"lines": ["€ line"] * 30_000}, list(range(60_000))]


@pytest.mark.parametrize("result", RESULTS, ids=["text", "escapes", "object", "list"])
@pytest.mark.parametrize("given", SerializationFormat)
def test_a_large_result_is_cut_to_fit(given, result):
    """The beginning stays, no character is cut, and the event says how large the whole was."""
    text = result if isinstance(result, str) else msgspec.json.encode(result).decode()
    serializer = EventSerializer(given, max_payload_size=20_000)
    data, metadata = serializer.serialize(_post(result, error="kept"))
    event = serializer.deserialize(data)
    assert metadata["truncated"] is True
    assert metadata["original_size"] > 20_000
    assert event.result_truncated is True
    assert event.full_result_size == len(text.encode())
    assert text.startswith(event.result)
    assert event.error == "kept"
    plain = EventSerializer(serializer.format, max_payload_size=20_000)
    assert 19_950 <= plain.serialize(event)[1]["original_size"] <= 20_000


def test_what_was_cut_before_keeps_its_first_size():
    """Cut twice, an event still states the size of what the tool said."""
    once = deserialize_from_stream(serialize_for_stream(_post("x" * 90_000))[0])
    twice = EventSerializer(max_payload_size=1000)
    assert twice.deserialize(twice.serialize(once)[0]).full_result_size == 90_000


def test_a_result_beyond_the_payload_limit_is_cut_too():
    """A result of several megabytes is no reason to lose the event."""
    for serializer in (EventSerializer(), EventSerializer("avro"), EventSerializer("json")):
        data, metadata = serializer.serialize(_post("y" * 3_000_000))
        assert len(data) <= DEFAULT_PAYLOAD_BYTES
        assert metadata["truncated"] is True
        assert serializer.deserialize(data).full_result_size == 3_000_000


@pytest.mark.parametrize("given", SerializationFormat)
def test_no_limit_of_a_caller_writes_what_cannot_be_read(given):
    """Above the payload limit an event is cut or refused too, never written empty or unreadable."""
    serializer = EventSerializer(given, max_payload_size=5 * MAX_PAYLOAD_BYTES)
    event = _post("a" * 1_500_000)
    data, metadata = serializer.serialize(event)
    assert metadata["truncated"]
    assert serializer.deserialize(data, metadata).full_result_size == 1_500_000
    call = PreToolUseEvent(agent_id=uuid4(), tool_name="Read", parameters={"a": "b" * 1_500_000})
    with pytest.raises(MessageTooLargeError):
        serializer.serialize(call)


def test_storage_keeps_what_the_bus_accepts():
    """Nothing is cut for the store that Kafka would take whole."""
    event = _post("z" * 900_000)
    data, metadata = serialize_for_storage(event)
    assert metadata["truncated"] is False
    assert deserialize_from_storage(data) == event


@pytest.mark.parametrize("given", SerializationFormat)
def test_what_cannot_be_cut_is_refused(given):
    """A large event without a tool result, or with other large fields, is an error with sizes."""
    large = PreToolUseEvent(agent_id=uuid4(), tool_name="Write", parameters={"x": "y" * 60_000})
    for event in (large, _post("x", error="e" * 60_000)):
        with pytest.raises(MessageTooLargeError) as caught:
            EventSerializer(given).serialize(event)
        assert caught.value.size_bytes > caught.value.limit_bytes == DEFAULT_PAYLOAD_BYTES


@pytest.mark.parametrize(
    "change",
    [
        {"tool_name": 5},
        {"tool_name": None},
        {"timeout_ms": math.nan},
        {"timeout_ms": math.inf},
        {"parameters": {"x": math.nan}},
        {"parameters": {"x": object()}},
        {"agent_id": b"0" * 16},
        {"event_category": "agent"},
    ],
)
def test_an_event_that_breaks_its_model_is_not_written(change):
    """Objects that were made without validation are validated before they are bytes."""
    event = PreToolUseEvent(agent_id=uuid4(), tool_name="Read", parameters={})
    for serializer in SERIALIZERS:
        with pytest.raises(InvalidEventError):
            serializer.serialize(event.model_copy(update=change))


@pytest.mark.parametrize("value", [datetime(2026, 1, 1, tzinfo=UTC), uuid4(), (1, 2), b"x"])
def test_what_json_writes_as_text_is_written_the_same_everywhere(value):
    """A time, a UUID, a tuple or bytes in a caller's JSON become what JSON makes of them."""
    event = PreToolUseEvent(agent_id=uuid4(), tool_name="Read", parameters={})
    event = event.model_copy(update={"parameters": {"x": value}})
    read = [serializer.deserialize(serializer.serialize(event)[0]) for serializer in SERIALIZERS]
    assert all(other == read[0] for other in read)


def test_a_class_that_is_no_event_is_refused():
    """Only models of events are written."""

    class Other(BaseModel):
        x: int = 1

    with pytest.raises(InvalidEventError, match="Other is no model"):
        serialize_for_stream(Other())


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_nothing_keeps_is_refused(limit):
    """A size below 1 byte is a mistake in the settings, not in every event."""
    with pytest.raises(ConfigurationError, match=f"1 or more, got {limit}"):
        EventSerializer(max_payload_size=limit)


def test_registered_telemetry_is_written_too():
    """An event that a subsystem brings goes through every encoding that names itself."""

    class Stored(TelemetryPayload, frozen=True):
        key: str

    model = register_telemetry("cache.entry_encoded", Stored)
    event = model(source="memory", run_id="r/1", cycle=1, payload=Stored(key="k"))
    assert isinstance(event, TelemetryEvent)
    for serializer in SERIALIZERS:
        assert serializer.deserialize(serializer.serialize(event)[0]) == event


@given(
    st.datetimes(
        datetime(1, 1, 3),  # noqa: DTZ001 - hypothesis adds the zone
        datetime(9999, 12, 29),  # noqa: DTZ001
        timezones=st.timezones(),
    )
)
def test_a_time_is_written_in_utc_as_python_does(moment):
    """Whatever the zone, the text is that of `isoformat` in UTC, with Z for the offset."""
    assert utc_text(moment) == moment.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"


@pytest.mark.parametrize("given", SerializationFormat)
def test_a_batch_of_many_kinds_keeps_order(given):
    """A batch holds events of any kind, in order, and may be empty."""
    events = [made.event for made in islice(MockEventGenerator(seed=3).generate_traffic(), 200)]
    serializer = EventSerializer(given)
    data, metadata = serializer.serialize_batch(events)
    assert metadata["count"] == 200
    assert serializer.deserialize_batch(data, metadata) == events
    assert serializer.deserialize_batch(serializer.serialize_batch([])[0]) == []


def test_a_batch_has_a_limit():
    """A batch beyond its limit is refused by writer and reader."""
    event = _post("x" * 900_000)
    with pytest.raises(MessageTooLargeError, match="the batch"):
        EventSerializer(max_payload_size=MAX_PAYLOAD_BYTES).serialize_batch([event] * 20)
    with pytest.raises(UndecodableError, match="limit"):
        EventSerializer().deserialize_batch(bytes(16_000_001))


def test_stored_events_are_a_quarter_of_their_json():
    """With the trained dictionary a single event shrinks four times and more, a batch eight."""
    made = islice(MockEventGenerator(seed=424_242).generate_traffic(), 400)
    events = [item.event for item in made]
    plain = EventSerializer("json", max_payload_size=MAX_PAYLOAD_BYTES)
    size = sum(len(plain.serialize(event)[0]) for event in events)
    single = sum(len(serialize_for_storage(event)[0]) for event in events)
    batch = len(EventSerializer(SerializationFormat.MSGPACK_ZSTD).serialize_batch(events)[0])
    assert size / single >= 4
    assert size / batch >= 8
