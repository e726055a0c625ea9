"""Publishing events: what True means, ids, refusals before sending, many at once, close."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from uuid import UUID

import pytest
from pydantic import BaseModel

from spile.spi import (
    ClosedError,
    InvalidEventError,
    MessageTooLargeError,
    ProtocolEventMessage,
    UnknownTopicError,
)
from spile.testkit.conformance import Feature, Outgoing
from spile.testkit.conformance._stage import EVENT_TYPE, Stage

pytestmark = [pytest.mark.asyncio, pytest.mark.spile_needs(Feature.PUBLISHER)]

_CORRELATION = "01890a5d-ac96-774b-bcce-b302099a8057"
_CAUSE = "01890a5d-ac96-774b-bcce-b302099a8058"
_TYPED = "CONFORMANCE_COUNTED"
_TOO_LARGE = "x" * 1_000_001
_METRICS = {
    "events_published",
    "events_failed",
    "events_sent_to_dlq",
    "retries_attempted",
    "circuit_breaker_status",
    "circuit_breaker_opens",
}


class Counted(BaseModel):
    """Payload with one strict field."""

    number: int


def _numbers(messages: Sequence[ProtocolEventMessage]) -> list[int]:
    return [json.loads(message.value)["payload"]["number"] for message in messages]


async def test_true_means_that_the_event_is_in_the_log(stage: Stage) -> None:
    """When publish has returned True the event can be read, with its payload."""
    topic = await stage.topic()
    publisher = stage.publisher(topic, {_TYPED: Counted})
    async with stage.limit("publishing"):
        assert await publisher.publish(_TYPED, {"number": 1}) is True
        assert await stage.count(topic) == 1
        assert await publisher.publish(_TYPED, Counted(number=2)) is True
    assert await stage.count(topic) == 2
    assert _numbers(await stage.read_messages(topic, 2)) == [1, 2]


async def test_ids_arrive(stage: Stage) -> None:
    """Correlation and causation ids arrive, and the event has one id in header and envelope."""
    topic = await stage.topic()
    publisher = stage.publisher(topic)
    async with stage.limit("publishing"):
        assert await publisher.publish(EVENT_TYPE, {}, _CORRELATION, _CAUSE, {"attempt": "first"})
        assert await publisher.publish(EVENT_TYPE, {})
    given, made = await stage.read_messages(topic, 2)
    envelope = json.loads(given.value)
    assert given.headers.correlation_id == UUID(_CORRELATION)
    assert UUID(envelope["correlation_id"]) == UUID(_CORRELATION)
    assert UUID(envelope["causation_id"]) == UUID(_CAUSE)
    assert envelope["metadata"]["attempt"] == "first"
    assert UUID(envelope["event_id"]) == given.headers.message_id
    assert given.headers.event_type == envelope["event_type"] == EVENT_TYPE
    assert given.headers.content_type == "application/json"
    assert given.headers.message_id != made.headers.message_id
    assert made.headers.correlation_id != UUID(_CORRELATION)
    assert json.loads(made.value).get("causation_id") is None


async def test_partition_key_is_the_key(stage: Stage) -> None:
    """The key is the partition key where one is given, else the correlation id."""
    topic = await stage.topic()
    publisher = stage.publisher(topic)
    async with stage.limit("publishing"):
        assert await publisher.publish(EVENT_TYPE, {}, partition_key="order-1")
        assert await publisher.publish(EVENT_TYPE, {}, correlation_id=_CORRELATION)
    one, two = await stage.read_messages(topic, 2)
    assert (one.key, two.key) == (b"order-1", _CORRELATION.encode())


async def test_unknown_topic_refuses_an_event(stage: Stage) -> None:
    """A type or topic that is not known refuses, before anything is sent; none is created."""
    topic, lost = await stage.topic(), stage.name("lost")
    publisher, astray = stage.publisher(topic), stage.publisher(lost)
    async with stage.limit("publishing"):
        with pytest.raises(UnknownTopicError):
            await publisher.publish("CONFORMANCE_LOST", {})
        with pytest.raises(UnknownTopicError):
            await publisher.publish(EVENT_TYPE, {}, topic=lost)
        with pytest.raises(UnknownTopicError):
            await astray.publish(EVENT_TYPE, {})
    await stage.topic(name=lost)
    assert (await stage.count(topic), await stage.count(lost)) == (0, 0)


async def test_oversized_event_is_refused(stage: Stage) -> None:
    """A payload over 1,000,000 bytes is refused before it is sent; the error tells its size."""
    topic = await stage.topic()
    publisher = stage.publisher(topic)
    async with stage.limit("publishing"):
        with pytest.raises(MessageTooLargeError) as caught:
            await publisher.publish(EVENT_TYPE, {"text": _TOO_LARGE})
        assert caught.value.limit_bytes == 1_000_000 < caught.value.size_bytes
        assert await publisher.publish(EVENT_TYPE, {"text": "x"})
    assert await stage.count(topic) == 1


async def test_invalid_event_is_refused(stage: Stage) -> None:
    """A payload that breaks its contract, or an id that is no UUID, is refused; nothing is sent."""
    topic = await stage.topic()
    publisher = stage.publisher(topic, {_TYPED: Counted})
    async with stage.limit("publishing"):
        with pytest.raises(InvalidEventError):
            await publisher.publish(_TYPED, {"number": "one"})
        with pytest.raises(InvalidEventError):
            await publisher.publish(_TYPED, {})
        with pytest.raises(InvalidEventError):
            await publisher.publish(_TYPED, {"number": 1}, correlation_id="session 7")
    assert await stage.count(topic) == 0


@pytest.mark.spile_needs(Feature.MANY)
async def test_many_keep_their_order(stage: Stage) -> None:
    """Events of one key, published with one await, arrive in the order given."""
    topic = await stage.topic(3)
    publisher = stage.publisher(topic, {_TYPED: Counted})
    events = [
        Outgoing(event_type=_TYPED, payload={"number": number}, partition_key=f"k{number % 5}")
        for number in range(100)
    ]
    assert list(await stage.publish_many(publisher, events)) == [True] * 100
    assert await stage.count(topic) == 100
    messages = await stage.read_messages(topic, 100)
    for key in range(5):
        mine = [message for message in messages if message.key == b"k%d" % key]
        assert _numbers(mine) == list(range(key, 100, 5))


@pytest.mark.spile_needs(Feature.MANY)
async def test_many_are_all_checked_before_the_first_is_sent(stage: Stage) -> None:
    """One wrong event among many refuses all; the error names its index."""
    topic = await stage.topic()
    publisher = stage.publisher(topic, {_TYPED: Counted})
    good = Outgoing(event_type=_TYPED, payload={"number": 1})
    bad = Outgoing(event_type=_TYPED, payload={"number": "two"})
    with pytest.raises(InvalidEventError) as caught:
        await stage.publish_many(publisher, [good, good, bad, good])
    assert caught.value.index == 2
    lost = Outgoing(event_type="CONFORMANCE_LOST", payload={})
    with pytest.raises(UnknownTopicError):
        await stage.publish_many(publisher, [good, lost])
    assert await stage.count(topic) == 0
    assert list(await stage.publish_many(publisher, [])) == []


async def test_metrics_count(stage: Stage) -> None:
    """The metrics have the keys of the contract and count what happened."""
    topic = await stage.topic()
    publisher = stage.publisher(topic)
    async with stage.limit("publishing"):
        await publisher.publish(EVENT_TYPE, {})
        await publisher.publish(EVENT_TYPE, {})
        with pytest.raises(UnknownTopicError):
            await publisher.publish("CONFORMANCE_LOST", {})
        metrics = await publisher.get_metrics()
    assert metrics.keys() >= _METRICS
    assert metrics["events_published"] == 2
    assert metrics["events_sent_to_dlq"] == metrics["events_failed"] == 0
    assert metrics["circuit_breaker_status"] == "closed"
    assert metrics["circuit_breaker_opens"] == 0


async def test_publisher_close_flushes(stage: Stage) -> None:
    """What is being published when the publisher closes is confirmed; afterwards it refuses."""
    topic = await stage.topic(2)
    publisher = stage.publisher(topic)
    async with stage.limit("publishing and closing"), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(publisher.publish(EVENT_TYPE, {})) for _ in range(50)]
        await asyncio.sleep(0)
        await publisher.close()
    assert [task.result() for task in running] == [True] * 50
    assert await stage.count(topic) == 50
    await stage.close(publisher)
    with pytest.raises(ClosedError):
        await publisher.publish(EVENT_TYPE, {})
