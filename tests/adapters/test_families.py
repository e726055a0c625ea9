"""Events of every family over the bus in memory: one event has one id everywhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from spile.adapters.delivery import Record
from spile.adapters.memory import MemoryCluster
from spile.adapters.publishing import EventPublisher
from spile.adapters.subscribing import EventReader
from spile.spi import InvalidEventError
from spile.topics import correlation_uuid, default_catalogue
from spile.topics.events import (
    AgentRoutingRequested,
    Episode,
    EpisodeStatusChangedEvent,
    Octets,
    PlanStepStartedEvent,
    SessionEndEvent,
    SessionStartEvent,
    StepRecordedEvent,
    Thought,
    ThoughtStep,
    parse,
    read_dead_letter,
)

RUN = "2025-10-06T12-30-00Z/refactor:config-loader"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
EPISODE, REQUEST = uuid4(), uuid4()

_START = SessionStartEvent.create("planner", "Shell")
_CHANGED = EpisodeStatusChangedEvent(
    episode=Episode(
        episode_id=EPISODE, agent_role="engineer", problem="fix", status="running", started_at=NOW
    )
)
_RECORDED = StepRecordedEvent(
    step=ThoughtStep(
        step_id=uuid4(),
        episode_id=EPISODE,
        sequence=0,
        agent_role="engineer",
        timestamp=NOW,
        content=Thought(text="hm"),
    )
)

# event type, event, topic, key, correlation id, own id
CASES: list[tuple[str, Any, str, str, UUID, str | None]] = [
    (
        "SESSION_START",
        _START,
        "dev.planner.session.started.v1",
        _START.event_id,
        UUID(_START.event_id),
        _START.event_id,
    ),
    (
        "SESSION_END",
        SessionEndEvent.create("sess/abc"),
        "dev.planner.session.ended.v1",
        "sess/abc",
        correlation_uuid("sess/abc"),
        None,
    ),
    (
        "PLAN_STEP_STARTED",
        PlanStepStartedEvent(
            source="planner",
            run_id=RUN,
            cycle=1,
            timestamp=NOW,
            payload={"step_index": 0, "tool": "bash", "description": "look"},
        ),
        "dev.planner.plan.step-started.v1",
        RUN,
        correlation_uuid(RUN),
        None,
    ),
    (
        "EPISODE_STATUS_CHANGED",
        _CHANGED,
        "dev.planner.episode.status-changed.v1",
        str(EPISODE),
        EPISODE,
        str(_CHANGED.event_id),
    ),
    (
        "STEP_RECORDED",
        _RECORDED,
        "dev.planner.episode.step-recorded.v1",
        str(EPISODE),
        EPISODE,
        str(_RECORDED.event_id),
    ),
    (
        "AGENT_ROUTING_REQUESTED",
        AgentRoutingRequested(user_request="find one", correlation_id=REQUEST),
        "dev.agent.routing.requested.v1",
        str(REQUEST),
        REQUEST,
        None,
    ),
]


@pytest.mark.parametrize("as_mapping", [False, True])
@pytest.mark.parametrize(("kind", "event", "topic", "key", "correlation", "own_id"), CASES)
async def test_a_family_lends_its_ids(kind, event, topic, key, correlation, own_id, as_mapping):
    """Ids, key and time are the same in record, headers, envelope and payload, then read back."""
    catalogue = default_catalogue(["planner"])
    cluster = MemoryCluster.of_catalogue(catalogue, "dev")
    publisher = EventPublisher(cluster.sender(), catalogue, environment="dev", service="planner")
    payload = event.model_dump(mode="json") if as_mapping else event
    assert await publisher.publish(kind, payload) is True
    (record,) = cluster.history
    headers = {name: (value or b"").decode() for name, value in record.headers}
    envelope = json.loads(record.value)
    assert (record.topic, record.key) == (topic, key.encode())
    assert headers["event_type"] == envelope["event_type"] == kind
    assert headers["correlation_id"] == envelope["correlation_id"] == str(correlation)
    assert headers["message_id"] == envelope["event_id"]
    assert own_id in {None, envelope["event_id"]}
    assert headers["timestamp"] == envelope["timestamp"]
    if hasattr(event, "timestamp"):
        assert datetime.fromisoformat(envelope["timestamp"]) == event.timestamp
    assert EventReader(catalogue).read(record).payload == event == parse(record.value)


async def test_a_telemetry_event_finds_its_topic_by_its_topic_name():
    """The `event` of telemetry says the type where a topic's name stands for it."""
    catalogue = default_catalogue()
    cluster = MemoryCluster.of_catalogue(catalogue, "dev")
    publisher = EventPublisher(cluster.sender(), catalogue, environment="dev", service="agent")
    event = CASES[2][1]
    assert await publisher.publish("planner.plan.step-started.v1", event) is True
    assert cluster.history[0].topic == "dev.planner.plan.step-started.v1"
    assert json.loads(cluster.history[0].value)["event_type"] == "PLAN_STEP_STARTED"


def _record(topic: str) -> Record:
    return Record(topic=topic, partition=0, offset=0, timestamp=0, key=None, value=b"x", headers=[])


def _dead(bench, **changes: bytes | None) -> Record:
    (kept,) = bench.cluster.records(f"{bench.topic}.dlq")
    given = [
        (name, changes.get(name.rpartition("dlq-")[2].replace("-", "_"), value))
        for name, value in kept.headers
    ]
    headers = [pair for pair in given if pair[1] is not None]
    return structs.replace(kept, headers=[*headers, ("null", None)])


async def test_a_dead_letter_is_read_typed(bench):
    """Where it came from, what went wrong, and its bytes, those that are no text in base64."""
    record = bench.record(bench.topic, b"\xff\x00")
    origin = Record(
        topic=bench.topic,
        partition=1,
        offset=41,
        timestamp=1_767_225_600_000,
        key="schlüssel".encode(),
        value=record.value,
        headers=[("h", b"1"), ("h", b"\xff")],
    )
    await bench.dead_letters.keep(origin, ValueError("poison"), group="shop", attempts=4)
    letter = read_dead_letter(_dead(bench))
    assert (letter.original_topic, letter.original_partition) == (bench.topic, 1)
    assert (letter.original_offset, letter.original_timestamp) == (41, NOW)
    assert (letter.consumer_group, letter.attempts, letter.replay_count) == ("shop", 4, 0)
    assert (letter.error_type, letter.error_message) == ("ValueError", "poison")
    assert letter.first_failure <= letter.last_failure
    assert letter.key == Octets(encoding="text", data="schlüssel")
    assert letter.value == Octets(encoding="base64", data="/wA=")
    assert [(h.name, h.value and h.value.to_bytes()) for h in letter.headers] == [
        ("h", b"1"),
        ("h", b"\xff"),
        ("null", None),
    ]
    assert parse(letter.model_dump_json()) == letter


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("original_topic", None),
        ("attempts", b"many"),
        ("attempts", b"-1"),
        ("original_timestamp", b"9" * 19),
        ("original_offset", b"9" * 50),
        ("error_digest", b"abc"),
        ("first_failure", b"yesterday"),
    ],
)
async def test_what_is_no_dead_letter_is_refused(bench, header, value):
    """A header that is missing or senseless is named."""
    await bench.dead_letters.keep(_record(bench.topic), ValueError("x"), group="shop", attempts=1)
    with pytest.raises(InvalidEventError) as caught:
        read_dead_letter(_dead(bench, **{header: value}))
    assert caught.value.field == f"x-spile-dlq-{header.replace('_', '-')}"
