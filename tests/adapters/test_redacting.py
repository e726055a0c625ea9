"""Events lose their secrets on the way into a record."""

import base64
import json

import pytest
from pydantic import BaseModel, ConfigDict

from spile.adapters.delivery import OutgoingEvent
from spile.adapters.memory import MemoryCluster
from spile.adapters.publishing import EventEncoder, EventPublisher, RedactionSettings
from spile.spi import RedactionError
from spile.topics import TopicSpec, default_catalogue
from spile.topics.redaction import RedactionRules, Redactor

SECRET = "AKIAIOSFODNN7EXAMPLE"
AGENT = "0190c8a0-0000-7000-8000-000000000001"
KEY = b"0123456789abcdef"


def free_catalogue(model=None, key=""):
    """Return a catalogue with one type whose payload is free, or a model's."""
    return default_catalogue(services=("shop",)).with_topics(
        TopicSpec(name="shop.things.made.v1", owner="shop", key=key, models={"THING": model})
    )


@pytest.fixture
def encode():
    """Encode one event; returns the record and its envelope."""

    def run(event_type, payload, *, redactor=True, catalogue=None, **more):
        encoder = EventEncoder(
            catalogue or default_catalogue(services=("shop",)),
            environment="dev",
            service="shop",
            redactor=redactor,
        )
        record = encoder.encode(
            OutgoingEvent(event_type=event_type, payload=payload, **more)
        ).record
        return record, json.loads(record.value)

    return run


@pytest.fixture
def tool_call():
    """Make the fields of a tool call."""

    def make(**parameters):
        return {"agent_id": AGENT, "tool_name": "Bash", "parameters": parameters}

    return make


def test_a_clean_event_is_written_as_it_is(encode, tool_call):
    """Nothing is added, no metadata, no list."""
    _, envelope = encode("PRE_TOOL_USE", tool_call(command="ls"))

    assert envelope["payload"]["payload"]["parameters"] == {"command": "ls"}
    assert "metadata" not in envelope


def test_secrets_go_and_the_metadata_say_where(encode, tool_call):
    """The envelope lists the places, from its root."""
    payload = tool_call(command=f"aws --key {SECRET}", env={"TOKEN": "x1", "PATH": "/bin"})

    record, envelope = encode("PRE_TOOL_USE", payload, metadata={"operation_name": "run"})

    assert SECRET.encode() not in record.value
    assert envelope["payload"]["payload"]["parameters"] == {
        "command": "aws --key REDACTED",
        "env": {"TOKEN": "REDACTED", "PATH": "/bin"},
    }
    assert envelope["metadata"] == {
        "operation_name": "run",
        "redacted_fields": [
            "payload.payload.parameters.command",
            "payload.payload.parameters.env.TOKEN",
        ],
    }


def test_metadata_and_headers_lose_theirs(encode, tool_call):
    """A header that is lifted from metadata holds no secret, nor does a name."""
    metadata = {"routing_key": SECRET, f"x-{SECRET}": "1", "note": {"password": "hunter2"}}

    record, envelope = encode("PRE_TOOL_USE", tool_call(), metadata=metadata)

    assert dict(record.headers)["routing_key"] == b"REDACTED"
    assert SECRET not in str(record)
    assert "hunter2" not in str(record)
    assert set(envelope["metadata"]["redacted_fields"]) == {
        "metadata.routing_key",
        "metadata.x-REDACTED",
        "metadata.note.password",
    }


def test_telemetry_lists_its_fields_in_its_payload(encode):
    """As its contract says; places elsewhere go to the metadata."""
    payload = {
        "timestamp": "2026-01-02T03:04:05Z",
        "source": "executor",
        "run_id": "run-1",
        "cycle": 1,
        "event": "executor.command_started",
        "payload": {"command": "psql", "arguments": ["--password", "hunter2"]},
        "tags": {"api_key": "abc"},
    }

    _, envelope = encode("EXECUTOR_COMMAND_STARTED", payload)

    assert envelope["payload"]["payload"]["arguments"] == ["--password", "REDACTED"]
    assert envelope["payload"]["payload"]["redacted_fields"] == ["arguments.1"]
    assert envelope["metadata"]["redacted_fields"] == ["payload.tags.api_key"]


def test_a_key_with_a_secret_is_hashed(encode, tool_call):
    """The same key gives the same hash; the header agrees; without a key it is refused."""
    given = {"event_type": "PRE_TOOL_USE", "payload": tool_call(), "partition_key": "c@example.com"}

    record, envelope = encode(**given, redactor=Redactor(key=KEY))
    again, _ = encode(**given, redactor=Redactor(key=KEY))

    assert record.key.startswith(b"redacted:")
    assert record.key == again.key == dict(record.headers)["partition_key"]
    assert envelope["metadata"]["redacted_fields"] == ["key"]
    with pytest.raises(RedactionError, match="SPILE_REDACTION_KEY"):
        encode(**given)


def test_the_key_is_that_of_the_payload_as_it_was(encode):
    """A masked field that keys the record does not put all records on one partition."""
    catalogue = free_catalogue(key="user")
    keys = set()
    for user in ("ann@example.com", "ben@example.com"):
        record, envelope = encode(
            "THING", {"user": user}, catalogue=catalogue, redactor=Redactor(key=KEY)
        )
        keys.add(record.key)
        assert envelope["payload"]["user"] == record.key.decode()

    assert len(keys) == 2


class Odd(BaseModel):
    """A payload whose fields cannot all hold a replacement."""

    model_config = ConfigDict(extra="forbid")

    number: int = 0
    note: str = ""


class Named(BaseModel):
    """A payload with a number under a name that announces a secret."""

    password: int


def test_a_typed_number_that_looks_like_a_card_stays(encode):
    """It must be a number, and it only looks like a secret."""
    catalogue = free_catalogue(Odd)

    _, envelope = encode(
        "THING", {"number": 4111111111111111, "note": f"a {SECRET}"}, catalogue=catalogue
    )
    _, alone = encode("THING", {"number": 4111111111111111}, catalogue=catalogue)

    assert envelope["payload"] == {"number": 4111111111111111, "note": "a REDACTED"}
    assert envelope["metadata"]["redacted_fields"] == ["payload.note"]
    assert alone["payload"]["number"] == 4111111111111111
    assert "metadata" not in alone


def test_a_named_field_that_cannot_hold_a_replacement_is_refused(encode):
    """The error names field and type, and no value."""
    with pytest.raises(RedactionError, match="THING: password") as caught:
        encode("THING", {"password": 123456}, catalogue=free_catalogue(Named))

    assert caught.value.field == "password"
    assert "123456" not in str(caught.value)


def test_what_cannot_be_inspected_is_refused_or_replaced(encode):
    """Closed by default; open replaces the free payload as a whole."""
    slow = RedactionRules(limit_s=-1.0)
    payload = {"text": f"a {SECRET}"}

    with pytest.raises(RedactionError, match="THING"):
        encode("THING", payload, catalogue=free_catalogue(), redactor=Redactor(slow))
    opened = RedactionRules(limit_s=-1.0, fail_closed=False)
    _, envelope = encode("THING", payload, catalogue=free_catalogue(), redactor=Redactor(opened))

    assert envelope["payload"] == {"redacted": "REDACTED"}
    assert envelope["metadata"] == {"redacted_fields": ["payload"]}


@pytest.mark.parametrize("place", range(5))
def test_a_secret_is_found_wherever_an_event_has_room(place, tool_call):
    """In own fields and in metadata, whatever the order; also after many alike clean events."""
    encoder = EventEncoder(default_catalogue(services=("shop",)), environment="dev", service="shop")

    def encode(payload):
        return encoder.encode(OutgoingEvent(event_type="PRE_TOOL_USE", payload=payload)).record

    clean = {"event_id": AGENT, "agent_id": AGENT, "session_id": AGENT}
    own = {"tool_name": "Read", "parameters": {"a": 1}}
    for _ in range(3):
        record = encode({**clean, "payload": own})
    offset = record.value.index(b'"payload":{"tool_name"') - record.value.index(b'{"event_id"', 1)
    dirty = {
        0: {**clean, "payload": {**own, "parameters": {"a": SECRET}}},
        1: {"payload": {**own, "parameters": {"a": SECRET}}, **clean},
        2: {"metadata": {"schema_version": "1.1.0", "source_service": SECRET}, **clean}
        | {"payload": own},
        3: {**clean, "metadata": {"schema_version": "1.1.0", "trace_id": SECRET}, "payload": own},
        4: {"payload": {"parameters": {"a": SECRET, "b": "x" * (offset - 70), "payload": {}}}}
        | {"agent_id": AGENT},
    }[place]
    dirty["payload"].setdefault("tool_name", "Read")

    assert SECRET.encode() not in encode(dirty).value


def test_off_writes_events_as_they_are(encode, tool_call):
    """Only where somebody asked for it."""
    record, _ = encode("PRE_TOOL_USE", tool_call(command=SECRET), redactor=False)

    assert SECRET.encode() in record.value


def test_no_local_error_quotes_a_value(encode, tool_call):
    """Neither a wrong id nor a wrong field shows up in the text."""
    wrong = [
        {"payload": tool_call(), "correlation_id": SECRET},
        {"payload": tool_call(), "causation_id": SECRET},
        {"payload": {**tool_call(), "agent_id": SECRET}},
        {"payload": {**tool_call(), "timeout_ms": SECRET}},
        {"payload": tool_call(), "metadata": {"a": {"b": {"c": SECRET}}}},
    ]
    for event in wrong:
        with pytest.raises(ValueError, match=r"PRE_TOOL_USE|correlation_id|causation_id") as caught:
            encode("PRE_TOOL_USE", **event)
        assert SECRET not in str(caught.value)


def test_settings_make_the_redactor(monkeypatch):
    """Paths and names come with commas between; a short key is refused."""
    monkeypatch.setenv("SPILE_REDACTION_PATHS", "payload.parameters.env.*, payload.note")
    monkeypatch.setenv("SPILE_REDACTION_FIELDS", "iban")
    monkeypatch.setenv("SPILE_REDACTION_KEY", base64.b64encode(KEY).decode())

    redactor = RedactionSettings().redactor()

    assert redactor is not None
    assert redactor.has_key
    assert redactor.rules.paths == ("payload.parameters.env.*", "payload.note")
    assert redactor.redact({"iban": "x"}).fields == ("iban",)
    monkeypatch.setenv("SPILE_REDACTION", "off")
    assert RedactionSettings().redactor() is None
    monkeypatch.setenv("SPILE_REDACTION_KEY", "short")
    with pytest.raises(ValueError, match="16"):
        RedactionSettings()


@pytest.mark.parametrize("place", [0, 49, 50, 119])
async def test_one_secret_among_many_events_is_found(place, tool_call):
    """Events are looked at together; only what holds a secret is changed, and order stays."""
    catalogue = default_catalogue(services=("shop",))
    cluster = MemoryCluster.of_catalogue(catalogue, "dev")
    publisher = EventPublisher(cluster.sender(), catalogue, environment="dev", service="shop")
    payloads = [tool_call(number=number) for number in range(120)]
    payloads[place]["parameters"]["note"] = SECRET
    async with publisher:
        events = [OutgoingEvent(event_type="PRE_TOOL_USE", payload=made) for made in payloads]
        assert await publisher.publish_many(events) == [True] * 120

    records = cluster.records("dev.shop.tool.recorded.v1")
    found = [json.loads(record.value) for record in sorted(records, key=lambda r: r.offset)]
    numbers = [one["payload"]["payload"]["parameters"]["number"] for one in found]
    assert numbers == [*range(120)]
    assert [one["metadata"] for one in found if "metadata" in one] == [
        {"redacted_fields": ["payload.payload.parameters.note"]}
    ]
    assert SECRET not in str(found)
