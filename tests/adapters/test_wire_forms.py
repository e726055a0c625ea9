"""Values in MessagePack, Avro and JSON behind a schema id: written, read, refused, waited for."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from spile.adapters.delivery import OutgoingEvent, Record
from spile.adapters.memory import MemoryCluster
from spile.adapters.publishing import EventPublisher
from spile.adapters.registry import FileSchemaRegistry, SchemaFraming, SchemaRegistry, SchemaType
from spile.adapters.subscribing import EventReader
from spile.adapters.wire import (
    AvroForm,
    JsonSchemaForm,
    MessagePackForm,
    Opener,
    WireForm,
    WireFormat,
    wire_form,
)
from spile.spi import (
    BrokerUnavailableError,
    ClosedError,
    ConfigurationError,
    InvalidEventError,
    MessageTooLargeError,
    RegistryUnavailableError,
    SchemaError,
    SpileError,
    UndecodableError,
)
from spile.testkit.scenarios import generate_sample_events
from spile.topics import Route, default_catalogue, upper_snake
from spile.topics.events import PlanStepStartedEvent, PreToolUseEvent, SessionStartEvent

CATALOGUE = default_catalogue(services=("shop", "planner"))
TOPIC = "dev.shop.tool.recorded.v1"
FORMS = {
    "msgpack": lambda registry: MessagePackForm(),
    "avro": AvroForm,
    "json-schema": JsonSchemaForm,
}


@pytest.fixture
def registry(tmp_path: Path) -> SchemaRegistry:
    return FileSchemaRegistry(tmp_path / "schemas")


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(dict.fromkeys(CATALOGUE.topics("dev"), 1))


@pytest.fixture
def publish(cluster: MemoryCluster) -> Callable[..., Any]:
    """Publish events in a form and return their records."""

    async def run(form: WireForm | None, *events: tuple[str, Any], service: str = "shop"):
        publisher = EventPublisher(
            cluster.sender(), CATALOGUE, environment="dev", service=service, form=form
        )
        batch = [OutgoingEvent(event_type=kind, payload=payload) for kind, payload in events]
        assert all(await publisher.publish_many(batch))
        return [r for topic in CATALOGUE.topics("dev") for r in cluster.records(topic)]

    return run


def _tool_call(**fields: Any) -> PreToolUseEvent:
    return PreToolUseEvent(agent_id=uuid4(), tool_name="Read", parameters={"path": "/a"}, **fields)


@pytest.mark.parametrize("name", FORMS)
async def test_every_form_is_read_back(name, registry, publish):
    """Publisher and reader agree on every event that the generator makes, and on telemetry."""
    events = generate_sample_events(60, seed=3)
    batch = [(upper_snake(event.event_type), event) for event in events]
    records = await publish(FORMS[name](registry), *batch)
    opener = Opener(SchemaFraming(registry))
    await opener.prepare(records)
    reader = EventReader(CATALOGUE, opener)
    read = {received.event_id: received for received in map(reader.read, records)}
    assert {event.event_id: read[event.event_id].payload for event in events} == {
        event.event_id: event for event in events
    }


@pytest.mark.parametrize("name", FORMS)
async def test_other_families_are_read_back(name, registry, publish):
    """Sessions and telemetry too."""
    start = SessionStartEvent.create("planner", "Shell")
    step = PlanStepStartedEvent(
        source="planner",
        run_id="a/b:c",
        cycle=1,
        payload={"step_index": 0, "tool": "t", "description": "d"},
    )
    records = await publish(
        FORMS[name](registry),
        ("SESSION_START", start),
        ("PLAN_STEP_STARTED", step),
        service="planner",
    )
    opener = Opener(SchemaFraming(registry))
    await opener.prepare(records)
    reader = EventReader(CATALOGUE, opener)
    assert {type(p): p for p in (reader.read(r).payload for r in records)} == {
        type(start): start,
        type(step): step,
    }


async def test_headers_say_the_content_type(registry, publish):
    """Each form has its own, and the framed ones share one."""
    for form in FORMS.values():
        (record, *_) = await publish(form(registry), ("PRE_TOOL_USE", _tool_call()))
        del record
    records = await publish(None, ("PRE_TOOL_USE", _tool_call()))
    assert [dict(r.headers)["content_type"] for r in records] == [
        b"application/msgpack",
        b"application/vnd.confluent.avro",
        b"application/vnd.confluent.avro",
        b"application/json",
    ]
    assert [r.value[0] for r in records] == [records[0].value[0], 0, 0, ord("{")]


async def test_one_subject_for_each_type_on_each_topic(registry, publish):
    """The schemas of one topic's types do not stand in each other's way."""
    await publish(AvroForm(registry), ("PRE_TOOL_USE", _tool_call()))
    await publish(JsonSchemaForm(registry), ("PRE_TOOL_USE", _tool_call()))
    assert await registry.subjects() == [
        f"{TOPIC}-PRE_TOOL_USE",
        f"{TOPIC}-spile.envelopes.PreToolUseEnvelope",
    ]


async def test_an_integer_that_the_form_has_not_is_refused(registry, publish):
    """Nothing is sent, and the error says what is wrong."""
    with pytest.raises(InvalidEventError, match="64 bits"):
        await publish(
            MessagePackForm(),
            ("PRE_TOOL_USE", _tool_call().model_copy(update={"parameters": {"n": 2**64}})),
        )


@pytest.mark.parametrize("name", FORMS)
async def test_too_large_is_one_error_in_every_form(name, registry):
    """An envelope beyond the record's limit is refused as too large, whatever the form."""
    publisher = EventPublisher(
        MemoryCluster({TOPIC: 1}).sender(),
        CATALOGUE,
        environment="dev",
        service="shop",
        form=FORMS[name](registry),
    )
    call = PreToolUseEvent(agent_id=uuid4(), tool_name="Read", parameters={"x": "a" * 900_000})
    with pytest.raises(MessageTooLargeError):
        await publisher.publish("PRE_TOOL_USE", call, metadata={"x": "b" * 900_000})


async def test_the_registry_is_closed_although_the_sender_fails(registry, cluster):
    """A broker that is away at the end leaves no connection to the registry open."""

    class Failing:
        def __getattr__(self, name: str) -> Any:
            return getattr(cluster.sender(), name)

        async def close(self) -> None:
            raise BrokerUnavailableError("away")

    publisher = EventPublisher(
        Failing(), CATALOGUE, environment="dev", service="shop", form=AvroForm(registry)
    )
    with pytest.raises(BrokerUnavailableError):
        await publisher.close()
    with pytest.raises(ClosedError):
        await registry.get_schema(1)


@pytest.fixture
async def avro_record(registry, publish):
    (record,) = await publish(AvroForm(registry), ("PRE_TOOL_USE", _tool_call()))
    return record


async def test_a_schema_that_was_not_prepared_is_no_poison(registry, avro_record):
    """Reading without `prepare` can be tried again: the record is not to blame."""
    reader = EventReader(CATALOGUE, Opener(SchemaFraming(registry)))
    with pytest.raises(RegistryUnavailableError):
        reader.read(avro_record)


async def test_an_unknown_id_is_poison(registry, avro_record):
    """No later attempt reads it; the reason names the id."""
    forged = _with(avro_record, struct.pack(">bI", 0, 4711) + avro_record.value[5:])
    opener = Opener(SchemaFraming(registry))
    await opener.prepare([forged])
    with pytest.raises(UndecodableError, match="4711"):
        EventReader(CATALOGUE, opener).read(forged)


async def test_without_a_registry_framed_values_wait_and_name_the_setting(avro_record):
    """A missing setting is no fault of the event: it is no poison."""
    opener = Opener()
    await opener.prepare([avro_record])
    with pytest.raises(RegistryUnavailableError, match="SPILE_REGISTRY_URL"):
        EventReader(CATALOGUE, opener).read(avro_record)


async def test_a_schema_of_another_language_is_refused(registry, avro_record):
    """Protobuf is passed through, not read."""
    made = await registry.register_schema(
        "p", {"proto": 'syntax = "proto3"; message A { string a = 1; }'}, SchemaType.PROTOBUF
    )
    opener = Opener(SchemaFraming(registry))
    forged = _with(avro_record, struct.pack(">bI", 0, made) + b"\0\0")
    await opener.prepare([forged])
    with pytest.raises(UndecodableError, match="PROTOBUF"):
        EventReader(CATALOGUE, opener).read(forged)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda value: value[:-1],
        lambda value: value + b"\0",
        lambda value: value[:4],
        lambda value: b"\x01" + value[1:],
        lambda value: value[:5] + b"\xff" * 40,
    ],
    ids=["cut", "longer", "no frame", "magic", "noise"],
)
async def test_corrupt_frames_are_poison(registry, avro_record, spoil):
    """One clear error, whatever the bytes are."""
    opener = Opener(SchemaFraming(registry))
    await opener.prepare([avro_record])
    broken = _with(avro_record, spoil(avro_record.value))
    with pytest.raises(UndecodableError):
        EventReader(CATALOGUE, opener).read(broken)


@pytest.mark.parametrize(
    "value",
    [
        b"", b"\xc0", b"\x93\x01\x02\x03", b"\x81\x01\x02", b"\x81\xa1a\xc4\x01b", b"\x81\xa1a",
        b"\x81\xa1a\xcb\x7f\xf8\0\0\0\0\0\0", b"\x81\xa1a" * 500 + b"\xc0",
        b"\xdf\xff\xff\xff\xff", msgspec.msgpack.encode({"a": 1}) + b"\xc0",
    ],
)  # fmt: skip
def test_message_pack_that_is_no_json_object_is_poison(value):
    """Binary, odd keys, NaN, depth, bombs and trailing bytes all end in one error."""
    with pytest.raises(UndecodableError):
        EventReader(CATALOGUE).read(_record(value, b"application/msgpack"))


async def test_parsed_schemas_are_bounded_by_their_size(registry, avro_record):
    """Parsed, a schema takes up to 75 times its size: many large ones must not fill the memory."""
    symbols = [f"S{number:0254}" for number in range(200)]
    large = [{"type": "enum", "name": f"E{number}", "symbols": symbols} for number in range(50)]
    ids = [await registry.register_schema(s["name"], s, "AVRO") for s in large]
    values = [struct.pack(">bI", 0, schema_id) + b"\0" for schema_id in ids]
    opener = Opener(SchemaFraming(registry))
    await opener.prepare([_with(avro_record, value) for value in values])
    name = b"application/vnd.confluent.avro"
    for _ in range(2):
        assert {opener.open(name, value) for value in values} == {b'"%b"' % symbols[0].encode()}
    size = len(msgspec.json.encode(large[0]))
    assert len(opener._avro) == 2 * 1024 * 1024 // size < len(large)


@pytest.mark.parametrize(
    "items",
    [
        {
            "type": "record",
            "name": "Small",
            "fields": [{"name": "n" * 60_000, "type": "boolean"}],
        },
        {"type": "enum", "name": "Small", "symbols": ["s" * 60_000]},
    ],
    ids=["field", "symbol"],
)
async def test_long_names_do_not_multiply(registry, tmp_path, items):
    """Avro writes no names, JSON one for each value: a small record must not become gigabytes."""
    foreign = {"type": "array", "items": items}
    with pytest.raises(SchemaError, match="60000 characters, limit 256"):
        await registry.register_schema("s", foreign, "AVRO")
    schema_id = await registry.register_schema("s", {"type": "string"}, "AVRO")
    (file,) = (tmp_path / "schemas" / "schemas").iterdir()
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": foreign}))
    count = 3_000
    value = struct.pack(">bI", 0, schema_id) + b"\xf0\x2e" + bytes(count + 1)
    record = _record(value, b"application/vnd.confluent.avro")
    opener = Opener(SchemaFraming(registry))
    await opener.prepare([record])
    with pytest.raises(UndecodableError, match="60000 characters, limit 256"):
        EventReader(CATALOGUE, opener).read(record)


def test_an_unknown_content_type_is_refused():
    """Nothing is guessed; the error lists what is readable."""
    with pytest.raises(UndecodableError, match=r"readable here are .*msgpack") as caught:
        EventReader(CATALOGUE).read(_record(b"{}", b"text/plain"))
    assert caught.value.field == "content_type"


@pytest.mark.parametrize(
    "name",
    [
        b"Application/JSON",
        b"application/json; charset=utf-8",
        b'application/json;charset="UTF-8";x=y',
        b" APPLICATION/json ;",
    ],
)
def test_capitals_and_parameters_do_not_make_another_type(name):
    """Other producers write a charset; their events are no poison for it."""
    assert Opener().open(name, b"{}") == b"{}"
    with pytest.raises(UndecodableError):
        Opener().open(name.lower().replace(b"json", b"msgpack"), b"{}")


@pytest.mark.parametrize("charset", [b"latin-1", b"utf-16", b"", b"; charset"])
def test_another_charset_is_refused(charset):
    """Text of another charset is never read as UTF-8."""
    with pytest.raises(UndecodableError, match="readable here are"):
        Opener().open(b"application/json; charset=" + charset, b"{}")


def _with(record: Any, value: bytes) -> Record:
    return Record(record.topic, 0, record.offset, 0, record.key, value, tuple(record.headers))


def _record(value: bytes, content_type: bytes) -> Record:
    headers = (
        ("content_type", content_type),
        ("correlation_id", str(uuid4()).encode()),
        ("message_id", str(uuid4()).encode()),
        ("timestamp", b"2026-01-01T00:00:00Z"),
        ("source", b"shop"),
        ("event_type", b"PRE_TOOL_USE"),
        ("schema_version", b"1.1.0"),
    )
    return Record(TOPIC, 0, 0, 0, b"k", value, headers)


class _Away(FileSchemaRegistry):
    """A registry that is away until it is told."""

    is_away = True

    async def _call(self, *args: Any) -> None:
        if self.is_away:
            raise RegistryUnavailableError("the registry is away")

    async def register_schema(self, *args: Any, **kwargs: Any) -> int:
        await self._call()
        return await super().register_schema(*args, **kwargs)


async def test_a_registry_that_is_away_stops_nothing_but_this_event(tmp_path, publish):
    """Nothing is sent, the error says so, and the next attempt works."""
    registry = _Away(tmp_path)
    form = AvroForm(registry)
    with pytest.raises(RegistryUnavailableError):
        await publish(form, ("PRE_TOOL_USE", _tool_call()))
    registry.is_away = False
    assert len(await publish(form, ("PRE_TOOL_USE", _tool_call()))) == 1


class _Slow(FileSchemaRegistry):
    """A registry that counts what is registered, and answers when it is told."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.registered = 0
        self.came = asyncio.Event()
        self.go = asyncio.Event()
        self.error: SpileError | None = None

    async def register_schema(self, *args: Any, **kwargs: Any) -> int:
        self.registered += 1
        self.came.set()
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return await super().register_schema(*args, **kwargs)


@pytest.fixture
def slow(tmp_path) -> _Slow:
    return _Slow(tmp_path)


@pytest.fixture
def route() -> Route:
    return CATALOGUE.resolve("PRE_TOOL_USE", environment="dev", service="shop")


@pytest.mark.parametrize("form", [AvroForm, JsonSchemaForm])
async def test_first_events_at_once_register_once(slow, route, form):
    """Fifty publishers of one event type are one request to the registry."""
    made = form(slow)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(50):
            tasks.create_task(made.prepare(route))
        await slow.came.wait()
        slow.go.set()
    await made.prepare(route)
    assert slow.registered == 1


async def test_calls_that_share_an_attempt_share_its_error(slow, route):
    """Each gets one of its own, to add notes to; the next call is a new attempt."""
    slow.error = RegistryUnavailableError("away")
    form = AvroForm(slow)
    calls = asyncio.gather(*(form.prepare(route) for _ in range(50)), return_exceptions=True)
    await slow.came.wait()
    slow.go.set()
    errors = await calls
    assert slow.registered == 1
    assert {(type(error), str(error)) for error in errors} == {(RegistryUnavailableError, "away")}
    assert len({id(error) for error in errors}) == 50
    slow.error = None
    await form.prepare(route)
    assert slow.registered == 2


@pytest.mark.parametrize("cancelled", [0, 1])
async def test_a_cancelled_call_takes_no_other_along(slow, route, cancelled):
    """Be it the one that registers or one that waits, the rest go on."""
    form = AvroForm(slow)
    calls = [asyncio.ensure_future(form.prepare(route)) for _ in range(3)]
    await slow.came.wait()
    calls.pop(cancelled).cancel()
    slow.go.set()
    await asyncio.gather(*calls)
    assert slow.registered == 2 - cancelled


def test_a_form_that_needs_a_registry_says_what_to_set(registry):
    """And the others need none."""
    with pytest.raises(ConfigurationError, match="SPILE_REGISTRY_URL"):
        wire_form(WireFormat.AVRO, lambda: None)
    assert wire_form(WireFormat.JSON, lambda: None) is None
    assert isinstance(wire_form(WireFormat.MESSAGE_PACK, lambda: None), MessagePackForm)
    assert isinstance(wire_form(WireFormat.AVRO, lambda: registry), AvroForm)
    assert isinstance(wire_form(WireFormat.JSON_SCHEMA, lambda: registry), JsonSchemaForm)


async def test_a_message_waits_while_the_registry_is_away(bench):
    """Retries do not run out, and nothing goes to the dead letter queue."""
    calls = 0
    done = asyncio.Event()

    async def handler(message):
        nonlocal calls
        calls += 1
        if calls < 12:
            raise RegistryUnavailableError("the registry is away")
        done.set()

    await bench.send(b"1")
    await bench.messages(handler)
    async with asyncio.timeout(5):
        await done.wait()
    assert bench.cluster.records(f"{bench.topic}.dlq") == []


async def test_a_schema_error_of_the_registry_is_told_to_the_publisher(tmp_path, publish):
    """Nothing is sent."""

    class _Refusing(FileSchemaRegistry):
        async def register_schema(self, *args: Any, **kwargs: Any) -> int:
            raise SchemaError("too large")

    with pytest.raises(SchemaError, match="too large"):
        await publish(AvroForm(_Refusing(tmp_path)), ("PRE_TOOL_USE", _tool_call()))
