"""The bus on memory: names, headers, subscriptions, commands, history."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from spile.adapters.delivery import Backoff, decode_headers, plain_headers
from spile.adapters.memory import MemoryCluster, MemoryEventBus
from spile.adapters.subscribing import Retries, SubscriptionOptions
from spile.spi import (
    ClosedError,
    InvalidTopicError,
    MessageTooLargeError,
    ProtocolBatchSubscriber,
    ProtocolEventBus,
    ProtocolEventBusContextManager,
    ProtocolEventBusInMemory,
    ProtocolKafkaEventBusAdapter,
    UnknownTopicError,
)
from spile.topics import MAX_RECORD_BYTES, decode_envelope

TOPIC = "shop.orders.order-placed.v1"
FULL = f"dev.{TOPIC}"
QUICK = Backoff(initial_s=0.002, factor=1.0, max_s=0.002, jitter=0.0)


@pytest.fixture
def cluster():
    topics = dict.fromkeys([FULL, f"{FULL}.dlq", f"dev-blue-{TOPIC}", f"prod.{TOPIC}"], 3)
    reach = [(env, to) for env in ("dev", "prod") for to in ("broadcast", "group")]
    commands = [f"{env}.spile.command.{to}.v1" for env, to in reach]
    return MemoryCluster({**topics, **dict.fromkeys(commands, 1)})


@pytest.fixture
async def bus(cluster):
    options = SubscriptionOptions(poll_timeout_s=0.02, commit_interval_s=0.005, backoff=QUICK)
    made = MemoryEventBus(
        cluster, group="blue", options=options, retries=Retries(limit=1, backoff=QUICK)
    )
    async with made:
        yield made


class Inbox:
    """Collects messages; `full(n)` waits for so many."""

    def __init__(self):
        self.messages = []
        self.changed = asyncio.Condition()

    async def __call__(self, message):
        async with self.changed:
            self.messages.append(message)
            self.changed.notify_all()

    async def full(self, count):
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(lambda: len(self.messages) >= count)
        return [message.value for message in self.messages]


async def test_satisfies_the_contracts(bus):
    """The bus and its adapter have what the contracts name."""
    for contract in (
        ProtocolEventBus,
        ProtocolEventBusInMemory,
        ProtocolBatchSubscriber,
        ProtocolEventBusContextManager,
    ):
        assert isinstance(bus, contract)
    assert isinstance(bus.adapter, ProtocolKafkaEventBusAdapter)
    assert (bus.environment, bus.group) == ("dev", "blue")


async def test_publish_and_subscribe(bus, cluster):
    """A logical name gets the environment; every group gets every message."""
    one, two = Inbox(), Inbox()
    await bus.subscribe(TOPIC, "one", one)
    await bus.publish(FULL, b"k", b"1")
    await bus.publish(TOPIC, b"k", b"2")
    await bus.subscribe(FULL, "two", two)
    assert await one.full(2) == await two.full(2) == [b"1", b"2"]
    assert {message.topic for message in one.messages} == {FULL}


async def test_headers_are_made(bus):
    """Without headers the required ones are made, the event type from the topic."""
    inbox = Inbox()
    await bus.subscribe(TOPIC, "g", inbox)
    await bus.publish(TOPIC, None, b"v")
    await inbox.full(1)
    headers = inbox.messages[0].headers
    assert (headers.content_type, headers.source) == ("application/octet-stream", "blue")
    assert headers.event_type == "ORDER_PLACED"
    assert isinstance(headers.message_id, UUID)
    assert abs((datetime.now(UTC) - headers.timestamp).total_seconds()) < 60
    assert str(headers.schema_version) == "1.0.0"


async def test_headers_survive(bus):
    """Headers that are given arrive as they were."""
    inbox = Inbox()
    wire = plain_headers(source="s", event_type="X", now=datetime.now(UTC))
    wire += [("priority", b"high"), ("retry_count", b"2")]
    given = decode_headers(wire)
    await bus.subscribe(TOPIC, "g", inbox)
    await bus.publish(TOPIC, b"k", b"v", given)
    await inbox.full(1)
    got = inbox.messages[0].headers
    for name in ("message_id", "correlation_id", "timestamp", "source", "priority", "retry_count"):
        assert getattr(got, name) == getattr(given, name)


@pytest.mark.parametrize("name", ["Shop.orders.x.v1", "a.b.v1", "", "a.b.c.v1.what", "../x"])
async def test_malformed_names_are_refused(bus, cluster, name):
    """A malformed name is refused before the transport hears of it."""

    async def never(operation, about):
        raise AssertionError(operation)

    cluster.faults.hook = never
    with pytest.raises(InvalidTopicError):
        await bus.publish(name, None, b"v")
    with pytest.raises(InvalidTopicError):
        await bus.subscribe(name, "g", Inbox())
    with pytest.raises(InvalidTopicError):
        await bus.subscribe_batches([name], "g", Inbox())
    with pytest.raises(InvalidTopicError):
        await bus.adapter.build_topic_name(name)
    cluster.faults.clear()


async def test_unknown_topics_are_refused(bus, cluster):
    """A well-formed name without a topic is unknown, and none is created."""
    with pytest.raises(UnknownTopicError):
        await bus.publish("shop.orders.lost.v1", None, b"v")
    with pytest.raises(UnknownTopicError):
        await bus.subscribe("shop.orders.lost.v1", "g", Inbox())
    assert "dev.shop.orders.lost.v1" not in cluster.topics
    assert await bus.get_subscriber_count() == 0


async def test_names(bus):
    """Full names stay, logical ones get the environment, a minor version lives in its major."""
    build = bus.adapter.build_topic_name
    assert await build(TOPIC) == FULL
    assert await build(FULL) == FULL
    assert await build("shop.orders.order-placed.v1.4") == FULL
    assert await build(f"{TOPIC}.dlq") == f"{FULL}.dlq"
    assert await build(f"prod.{TOPIC}") == f"prod.{TOPIC}"
    assert await build(f"blue-{TOPIC}") == f"dev-blue-{TOPIC}"


async def test_too_large(bus, cluster):
    """A record over the limit is refused before it is sent."""
    with pytest.raises(MessageTooLargeError) as caught:
        await bus.publish(TOPIC, b"k", b"x" * MAX_RECORD_BYTES)
    assert caught.value.limit_bytes == MAX_RECORD_BYTES < caught.value.size_bytes
    assert cluster.history == ()


async def test_pattern(bus):
    """A pattern is passed on and reads all topics that match; it stands alone."""
    inbox = Inbox()
    await bus.subscribe(r"^(dev|prod)\.shop\.orders\.order-placed\.v1$", "g", inbox)
    await bus.publish(TOPIC, None, b"1")
    await bus.publish(f"prod.{TOPIC}", None, b"2")
    assert sorted(await inbox.full(2)) == [b"1", b"2"]
    with pytest.raises(InvalidTopicError):
        await bus.subscribe_batches(["^x", TOPIC], "g", inbox)
    with pytest.raises(InvalidTopicError):
        await bus.subscribe_batches([], "g", inbox)


async def test_unsubscribe(bus):
    """After unsubscribing nothing is handed out, and the group goes on where it was."""
    inbox, follower = Inbox(), Inbox()
    unsubscribe = await bus.subscribe(TOPIC, "g", inbox)
    await bus.publish(TOPIC, b"k", b"1")
    await inbox.full(1)
    assert await bus.get_subscriber_count() == 1
    await unsubscribe()
    await unsubscribe()
    assert await bus.get_subscriber_count() == 0
    await bus.publish(TOPIC, b"k", b"2")
    await bus.subscribe(TOPIC, "g", follower)
    assert await follower.full(1) == [b"2"]
    assert len(inbox.messages) == 1


async def test_poison_goes_to_the_queue(bus, cluster):
    """The bus keeps poison in the dead letter queue after the retries that it was given."""
    calls = 0

    async def handle(message):
        nonlocal calls
        calls += 1
        raise ValueError("poison")

    await bus.subscribe(TOPIC, "g", handle)
    await bus.publish(TOPIC, b"k", b"v")
    inbox = Inbox()
    await bus.subscribe(f"{TOPIC}.dlq", "watch", inbox)
    assert await inbox.full(1) == [b"v"]
    assert calls == 2


async def test_manual_ack(bus):
    """A subscription with manual_ack gets an unacknowledged message again."""
    tries = 0
    done = asyncio.Event()

    async def handle(message):
        nonlocal tries
        tries += 1
        if tries == 3:
            await message.ack()
            done.set()

    await bus.subscribe(TOPIC, "g", handle, manual_ack=True)
    await bus.publish(TOPIC, b"k", b"v")
    async with asyncio.timeout(5):
        await done.wait()


async def test_batches(bus):
    """Batches hand out records of several topics."""
    values = []
    done = asyncio.Event()

    async def handle(batch):
        values.extend(record.value for record in batch)
        if len(values) == 2:
            done.set()

    subscription = await bus.subscribe_batches([TOPIC, f"prod.{TOPIC}"], "g", handle)
    await bus.publish(TOPIC, None, b"1")
    await bus.publish(f"prod.{TOPIC}", None, b"2")
    async with asyncio.timeout(5):
        await done.wait()
    await subscription.close()
    assert sum(bus.cluster.committed("g").values()) == 2


async def test_close_flushes(cluster):
    """Closing the bus lets handlers finish and commits; afterwards everything is refused."""
    bus = MemoryEventBus(cluster, options=SubscriptionOptions(poll_timeout_s=0.02))
    began, go = asyncio.Event(), asyncio.Event()

    async def handle(message):
        began.set()
        await go.wait()

    await bus.subscribe(TOPIC, "g", handle)
    await bus.publish(TOPIC, b"k", b"v")
    await began.wait()
    closing = asyncio.ensure_future(bus.close())
    await asyncio.sleep(0.01)
    go.set()
    await closing
    await bus.close()
    assert sum(cluster.committed("g").values()) == 1
    with pytest.raises(ClosedError):
        await bus.publish(TOPIC, b"k", b"v")
    with pytest.raises(ClosedError):
        await bus.subscribe(TOPIC, "g", handle)


async def test_broadcast(bus, cluster):
    """A broadcast is an event on the command topic of the environment asked for."""
    await bus.broadcast_to_environment("drain", {"after_s": 5})
    await bus.broadcast_to_environment("drain", {}, "prod")
    here, there = cluster.history
    assert here.topic == "dev.spile.command.broadcast.v1"
    assert there.topic == "prod.spile.command.broadcast.v1"
    envelope = decode_envelope(here.value)
    assert envelope.event_type == "COMMAND_BROADCAST"
    assert msgspec.json.decode(envelope.payload_json) == {
        "command": "drain",
        "payload": {"after_s": 5},
        "source_group": "blue",
        "target_environment": "dev",
    }
    headers = decode_headers(here.headers)
    assert (headers.message_id, headers.content_type) == (envelope.event_id, "application/json")
    with pytest.raises(UnknownTopicError):
        await bus.broadcast_to_environment("drain", {}, "staging")


async def test_send_to_group(bus, cluster):
    """A command to a group is keyed by the group."""
    await bus.send_to_group("reload", {"names": ["a"]}, "green")
    (record,) = cluster.history
    assert (record.topic, record.key) == ("dev.spile.command.group.v1", b"green")
    payload = msgspec.json.decode(decode_envelope(record.value).payload_json)
    assert (payload["target_group"], payload["command"]) == ("green", "reload")


async def test_history(bus):
    """The history is what was published, in order; clearing it takes nothing from subscribers."""
    for n in range(3):
        await bus.publish(TOPIC, b"%d" % n, b"%d" % n)
    assert [message.value for message in await bus.get_event_history()] == [b"0", b"1", b"2"]
    await bus.clear_event_history()
    assert await bus.get_event_history() == []
    inbox = Inbox()
    await bus.subscribe(TOPIC, "g", inbox)
    assert sorted(await inbox.full(3)) == [b"0", b"1", b"2"]


async def test_default_cluster_has_the_catalogue():
    """A bus without a cluster has the topics of the catalogue that ships."""
    async with MemoryEventBus(environment="test") as bus:
        await bus.broadcast_to_environment("ping", {})
        assert len(await bus.get_event_history()) == 1


async def test_secrets_in_commands_are_replaced(bus, cluster):
    """A command is written by the bus itself, so nothing of a password reaches the topic."""
    await bus.broadcast_to_environment("login", {"user": "ann", "password": "hunter2-hunter2"})
    await bus.send_to_group("login", {"token": "AKIAIOSFODNN7EXAMPLE"}, "workers")
    (told,) = cluster.records("dev.spile.command.broadcast.v1")
    (sent,) = cluster.records("dev.spile.command.group.v1")
    assert b"hunter2" not in told.value
    assert b'"user":"ann"' in told.value
    assert b"AKIA" not in sent.value
