"""Telemetry: the core events, and those that subsystems bring."""

from __future__ import annotations

from typing import Any

import pytest

from spile.spi import (
    ConfigurationError,
    InvalidEventError,
    SchemaError,
    UndecodableError,
    UnknownTopicError,
)
from spile.topics import (
    EventContract,
    TopicSpec,
    correlation_uuid,
    default_catalogue,
    telemetry_topic,
)
from spile.topics.encodings import EventSerializer, SerializationFormat, deserialize
from spile.topics.events import (
    TELEMETRY_MODELS,
    ExecutorErrorEvent,
    PlanGeneratedEvent,
    TelemetryEvent,
    TelemetryPayload,
    parse,
    register_telemetry,
    telemetry_model,
)

RUN = "2025-10-06T12-30-00Z/refactor:config-loader"


def _plan(**changes: Any) -> dict[str, Any]:
    return {
        "schema_version": "0.1",
        "timestamp": "2025-10-06T12:34:56.789Z",
        "source": "planner",
        "run_id": RUN,
        "cycle": 2,
        "event": "plan.generated",
        "payload": {"steps": 5, "confidence": 0.61, "inputs": ["user_goal"], "redacted_fields": []},
        "tags": {"agent": "default"},
        **changes,
    }


class TreeGrown(TelemetryPayload, frozen=True):
    """A payload that holds itself."""

    branches: list[TreeGrown]


class EntryStored(TelemetryPayload, frozen=True):
    """What a memory says when it stored something."""

    entry: str


class Other(TelemetryPayload, frozen=True):
    """Something else."""


def test_a_line_of_the_specification_is_read():
    """The envelope, its tags and the typed payload."""
    event = parse(_plan())
    assert isinstance(event, PlanGeneratedEvent)
    assert (event.run_id, event.cycle, event.tags) == (RUN, 2, {"agent": "default"})
    assert (event.payload.steps, event.payload.confidence) == (5, 0.61)
    assert parse(event.model_dump_json()) == event


def test_every_core_event_can_say_what_was_redacted():
    """Each payload lists the fields that were replaced; none by default."""
    assert len(TELEMETRY_MODELS) == 10
    for model in TELEMETRY_MODELS.values():
        field = model.model_fields["payload"].annotation.model_fields["redacted_fields"]
        assert field.get_default(call_default_factory=True) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"schema_version": "0.2"}, "schema_version"),
        ({"cycle": 0}, "cycle"),
        ({"cycle": 1.0}, "cycle"),
        ({"cycle": True}, "cycle"),
        ({"run_id": ""}, "run_id"),
        ({"source": None}, "source"),
        ({"timestamp": "2025-10-06"}, "timestamp"),
        ({"tags": {"a": 1}}, "tags.a"),
        ({"payload": {}}, "payload.steps"),
        ({"payload": {"steps": 2**63}}, "payload.steps"),
        ({"payload": {"steps": 1, "confidence": 1.1}}, "payload.confidence"),
        ({"payload": {"steps": 1, "surprise": 1}}, "payload.surprise"),
        ({"event": "plan.unknown"}, "event"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_wrong_field_is_named(change, field):
    """Envelope and payload are strict."""
    with pytest.raises(InvalidEventError) as caught:
        parse(_plan(**change))
    assert caught.value.field == field


def test_a_subsystem_registers_its_event():
    """Refused before, read afterwards; with a topic, a contract and an envelope of its own."""
    line = _plan(event="memory.entry_stored", source="memory", payload={"entry": "x"})
    with pytest.raises(InvalidEventError, match="register_telemetry"):
        parse(line)
    model = register_telemetry("memory.entry_stored", EntryStored)
    assert register_telemetry("memory.entry_stored", EntryStored) is model
    event = parse(line)
    assert type(event) is model is telemetry_model("memory.entry_stored")
    assert event.payload == EntryStored(entry="x")
    catalogue = default_catalogue().with_topics(telemetry_topic("memory.entry_stored", ["memory"]))
    route = catalogue.resolve("MEMORY_ENTRY_STORED", environment="dev", service="memory")
    assert route.topic == "dev.memory.memory.entry-stored.v1"
    assert route.contract.has_fast_path
    assert route.contract.decode(route.contract.prepare(event).payload_json) == event


@pytest.mark.parametrize(
    ("event", "payload", "reason"),
    [
        ("plan", Other, "module.action"),
        ("Plan.generated", Other, "module.action"),
        ("a.b.c", Other, "module.action"),
        ("a.b\n", Other, "module.action"),
        ("a." + "b" * 200, Other, "module.action"),
        ("plan.generated", Other, "another payload"),
        ("plan_step.started", Other, "both PLAN_STEP_STARTED"),
        ("pre.tool_use", Other, "would be PRE_TOOL_USE, which is another event"),
    ],
)
def test_a_name_is_taken_once(event, payload, reason):
    """A name is `module.action`, has one payload, and one UPPER_SNAKE form."""
    with pytest.raises(ConfigurationError, match=reason):
        register_telemetry(event, payload)


@pytest.mark.parametrize("event_type", ["cache.nobody_registered", "plan.generated"])
def test_telemetry_that_no_reader_would_find_is_not_written(event_type):
    """The envelope of telemetry alone is no event: only what `register_telemetry` made is."""
    event = TelemetryEvent(
        source="memory", run_id="r/1", cycle=1, event=event_type, payload=TelemetryPayload()
    )
    for given in SerializationFormat:
        with pytest.raises(InvalidEventError, match="register_telemetry") as caught:
            EventSerializer(given).serialize(event)
        assert caught.value.field == "event"


def test_a_payload_that_holds_itself_has_no_avro():
    """Every other encoding has it, and the reader of Avro does not trip over it."""
    model = register_telemetry("tree.grown", TreeGrown)
    event = model(source="x", run_id="r", cycle=1, payload=TreeGrown(branches=[]))
    for given in set(SerializationFormat) - {SerializationFormat.AVRO}:
        assert deserialize(EventSerializer(given).serialize(event)[0]) == event
    with pytest.raises(SchemaError, match="recursive"):
        EventSerializer(SerializationFormat.AVRO).serialize(event)
    with pytest.raises(UndecodableError, match="fingerprint"):
        deserialize(b"\xc3\x01" + b"\x01" * 20)


def test_a_run_keeps_its_order():
    """Key and correlation id come from the run; the event has no id of its own."""
    contract = telemetry_topic("executor.error").contracts["EXECUTOR_ERROR"]
    event = ExecutorErrorEvent(
        source="executor",
        run_id=RUN,
        cycle=1,
        payload={"exception_class": "OSError", "message": "gone", "handled": True},
    )
    for payload in (event, event.model_dump(mode="json")):
        prepared = contract.prepare(payload)
        assert prepared.event_id is None
        assert (prepared.key, prepared.correlation_id) == (RUN, str(correlation_uuid(RUN)))
        assert prepared.timestamp == event.timestamp.isoformat().replace("+00:00", "Z")


def test_each_event_has_the_topic_of_its_source():
    """By default the natural source; others are added, and then the publisher decides."""
    catalogue = default_catalogue(["agent"])
    for service in ("planner", "agent"):
        route = catalogue.resolve("PLAN_STEP_STARTED", environment="dev", service=service)
        assert route.topic == "dev.planner.plan.step-started.v1"
    more = default_catalogue(telemetry={"plan": ["planner", "re_planner"]})
    found = more.resolve("PLAN_STEP_STARTED", environment="dev", service="re_planner").topic
    assert found == "dev.re-planner.plan.step-started.v1"
    with pytest.raises(UnknownTopicError, match=r"say which: planner\.plan\.step-started\.v1"):
        more.resolve("PLAN_STEP_STARTED", environment="dev", service="agent")
    with pytest.raises(UnknownTopicError, match="no topic holds"):
        more.resolve("EXECUTOR_ERROR", environment="dev", service="executor")


def test_low_volume_topics_are_small():
    """Telemetry has three partitions a topic: a broker must start quickly."""
    topics = default_catalogue().topics("dev")
    assert {
        spec.partitions
        for name, spec in topics.items()
        if name.startswith("dev.planner.") and name.endswith((".v1", ".dlq"))
    } == {3}


def test_the_contract_of_a_model_without_correlation_lends_none():
    """Only what the contract names makes a correlation id."""
    prepared = EventContract("PLAN_GENERATED", PlanGeneratedEvent).prepare(_plan())
    assert (prepared.correlation_id, prepared.key) == (None, None)


def test_only_templates_take_services():
    """A topic that names its service cannot have others fill it in; two spellings collide."""
    with pytest.raises(ConfigurationError, match="templates only"):
        TopicSpec(name="planner.plan.generated.v1", owner="plan", services=("planner",))
    with pytest.raises(ConfigurationError, match="both become"):
        default_catalogue(telemetry={"plan": ["a_b", "a-b"]})
