"""What is published arrives: bytes, keys, headers, order, groups, the end of a subscription."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import pytest

from spile.spi import (
    ClosedError,
    MessageTooLargeError,
    Priority,
    ProtocolEventBus,
    ProtocolEventMessage,
    UnknownTopicError,
)
from spile.testkit.conformance import Feature
from spile.testkit.conformance._stage import Inbox, Stage

pytestmark = pytest.mark.asyncio

_MAX_RECORD_BYTES = 1_600_000
_EVERY_BYTE = bytes(range(256))
_CORRELATION = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
_MESSAGE = UUID("01890a5d-ac96-774b-bcce-b302099a8058")
_RAW_HEADERS = (
    ("twice", b"1"),
    ("empty", b""),
    ("twice", b"2"),
    ("bytes", _EVERY_BYTE),
    ("name of \u00fcmlauts and spaces", "w\u00f6rth".encode()),
    ("twice", b"1"),
)


@dataclass(frozen=True)
class _Version:
    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True, kw_only=True)
class _Headers:
    """Every header that the contract knows."""

    content_type: str = "application/octet-stream"
    correlation_id: UUID = _CORRELATION
    message_id: UUID = _MESSAGE
    timestamp: datetime = datetime(2026, 2, 28, 23, 59, 59, 123456, tzinfo=UTC)
    source: str = "conformance"
    event_type: str = "CONFORMANCE_CHECKED"
    schema_version: _Version = _Version(1, 20, 3)
    trace_id: str | None = "0af7651916cd43dd8448eb211c80319c"
    span_id: str | None = "b7ad6b7169203331"
    parent_span_id: str | None = "00f067aa0ba902b7"
    operation_name: str | None = "check \u2713"
    priority: Priority | None = "high"
    destination: str | None = "blue"
    routing_key: str | None = "a.b.c"
    partition_key: str | None = "k"
    retry_count: int | None = 0
    max_retries: int | None = 3
    ttl_seconds: int | None = 86_400


async def test_key_and_value_arrive_byte_for_byte(stage: Stage) -> None:
    """Key and value are bytes and stay what they are; the message says where it stood."""
    topic = await stage.topic()
    await stage.publish(stage.bus(), topic, _EVERY_BYTE, b"", key=_EVERY_BYTE[::-1])
    first, second = await stage.read_messages(topic, 2)
    assert (first.topic, first.key, first.value) == (topic, _EVERY_BYTE[::-1], _EVERY_BYTE)
    assert (first.partition, first.offset) == (0, "0")
    assert (second.value, second.offset) == (b"", "1")


async def test_no_key_arrives_as_none(stage: Stage) -> None:
    """A record without key has none on arrival, and an empty key is a key."""
    topic, bus = await stage.topic(), stage.bus()
    await stage.publish(bus, topic, b"none", key=None)
    await stage.publish(bus, topic, b"empty", key=b"")
    none, empty = await stage.read_messages(topic, 2)
    assert (none.key, empty.key) == (None, b"")


async def test_logical_name_gets_the_environment(stage: Stage) -> None:
    """A name without environment means the one of the bus, for publishing and subscribing."""
    topic, bus, inbox = await stage.topic(), stage.bus(), stage.inbox()
    logical = topic.removeprefix(f"{bus.environment}.")
    await stage.subscribe(bus, logical, stage.group(), inbox)
    await stage.publish(bus, logical, b"v")
    await inbox.full(1)
    assert inbox.messages[0].topic == topic
    assert await stage.count(topic) == 1


async def test_publish_returns_when_the_record_can_be_read(stage: Stage) -> None:
    """At the return of each publish the log has one record more."""
    topic, bus = await stage.topic(2), stage.bus()
    for number in range(1, 6):
        await stage.publish(bus, topic, b"v", key=str(number).encode())
        assert await stage.count(topic) == number


async def test_one_key_keeps_its_order(stage: Stage) -> None:
    """Records with one key share a partition and arrive in the order of their publishing."""
    topic, bus, inbox = await stage.topic(4), stage.bus(), stage.inbox()
    await stage.subscribe(bus, topic, stage.group(), inbox)
    for number in range(12):
        for key in (b"a", b"b", b"c", b"d", b"e"):
            await stage.publish(bus, topic, b"%s %02d" % (key, number), key=key)
    await inbox.full(60)
    came: dict[bytes, list[bytes]] = defaultdict(list)
    partitions: dict[bytes, set[int | None]] = defaultdict(set)
    for message in inbox.messages:
        came[message.value[:1]].append(message.value)
        partitions[message.value[:1]].add(message.partition)
    for key in (b"a", b"b", b"c", b"d", b"e"):
        assert len(partitions[key]) == 1, f"key {key!r} is in partitions {partitions[key]}"
        assert came[key] == [b"%s %02d" % (key, number) for number in range(12)]


async def test_given_headers_arrive(stage: Stage) -> None:
    """Each of the eighteen headers of the contract arrives as it was given."""
    topic, given = await stage.topic(), _Headers()
    await stage.publish(stage.bus(), topic, b"v", headers=given)
    [message] = await stage.read_messages(topic, 1)
    got = message.headers
    for name in given.__dataclass_fields__:
        if name != "schema_version":
            assert getattr(got, name) == getattr(given, name), name
    assert str(got.schema_version) == "1.20.3"


async def test_missing_headers_are_made(stage: Stage) -> None:
    """Without headers the required ones are made, with ids that no two messages share."""
    topic, bus = await stage.topic(), stage.bus()
    await stage.publish(bus, topic, b"1", b"2")
    one, two = [message.headers for message in await stage.read_messages(topic, 2)]
    assert one.content_type == "application/octet-stream"
    assert one.message_id != two.message_id
    assert abs((datetime.now(UTC) - one.timestamp).total_seconds()) < 60
    assert one.source
    assert one.event_type == one.event_type.upper()
    assert (one.trace_id, one.priority, one.retry_count) == (None, None, None)


@pytest.mark.spile_needs(Feature.RAW_HEADERS)
async def test_headers_survive_byte_for_byte(stage: Stage) -> None:
    """Order, repeated names, empty values and any bytes reach a message handler as they were."""
    topic = await stage.topic()
    await stage.write(stage.bus(), topic, b"v", _RAW_HEADERS)
    [message] = await stage.read_messages(topic, 1)
    assert list(stage.under_test.raw_headers(message)) == list(_RAW_HEADERS)


@pytest.mark.spile_needs(Feature.RAW_HEADERS, Feature.BATCHES)
async def test_headers_survive_byte_for_byte_in_batches(stage: Stage) -> None:
    """So they do in batches."""
    topic = await stage.topic()
    await stage.write(stage.bus(), topic, b"v", _RAW_HEADERS)
    [record] = await stage.read(topic, 1)
    assert list(record.headers) == list(_RAW_HEADERS)


async def test_every_group_gets_everything(stage: Stage) -> None:
    """Each group gets every message, also what was published before the group existed."""
    topic, bus = await stage.topic(2), stage.bus()
    early, late = stage.inbox(), stage.inbox()
    await stage.subscribe(bus, topic, stage.group(), early)
    for number in range(4):
        await stage.publish(bus, topic, b"%d" % number, key=b"%d" % number)
    await stage.subscribe(bus, topic, stage.group(), late)
    assert sorted(map(str, await early.full(4))) == sorted(map(str, await late.full(4)))


async def _share(
    stage: Stage, topic: str, one: Inbox, two: Inbox
) -> tuple[ProtocolEventBus, bytes, bytes]:
    """Let two members share a group; return a bus, a key of the first and one of the second."""
    group, bus, other = stage.group(), stage.bus(), stage.bus()
    await stage.subscribe(bus, topic, group, one)
    await stage.subscribe(other, topic, group, two)
    keys = [b"%d" % number for number in range(24)]

    async def both_work() -> bool:
        for key in keys:
            await stage.publish(bus, topic, b"hello", key=key)
        return bool(one.messages and two.messages)

    await stage.settle(both_work, "both members of the group getting messages")
    for key in keys:
        await stage.publish(bus, topic, b"mine " + key, key=key)
    marks = {b"mine " + key: key for key in keys}

    async def all_came() -> bool:
        return marks.keys() <= {*one.values, *two.values}

    await stage.settle(all_came, "every message reaching one of the two members")
    first = [key for mark, key in marks.items() if mark in one.values]
    second = [key for mark, key in marks.items() if mark in two.values]
    assert first, "the first member gets nothing any more"
    assert second, "the second member gets nothing"
    assert sorted([*first, *second]) == sorted(keys), "both members got the same message"
    return bus, first[0], second[0]


async def test_members_of_a_group_share(stage: Stage) -> None:
    """Two members of a settled group get different messages, and together all."""
    topic = await stage.topic(4)
    await _share(stage, topic, stage.inbox(), stage.inbox())


async def test_slow_handler_keeps_its_place(stage: Stage) -> None:
    """A handler may take long: nobody else gets its message, and the others go on meanwhile."""
    topic, gate = await stage.topic(4), stage.gate()

    async def wait_if_slow(message: ProtocolEventMessage) -> None:
        if message.value == b"slow":
            await gate.wait()

    one, two = stage.inbox(wait_if_slow), stage.inbox()
    bus, mine, theirs = await _share(stage, topic, one, two)
    await stage.publish(bus, topic, b"slow", b"after", key=mine)
    await one.has(b"slow")
    await asyncio.sleep(stage.under_test.patience_s)
    await stage.publish(bus, topic, b"meanwhile", key=theirs)
    await two.has(b"meanwhile")
    gate.set()
    await one.has(b"after")
    assert one.values.count(b"slow") == 1
    assert {b"slow", b"after"}.isdisjoint(two.values)


async def test_unsubscribe_stops(stage: Stage) -> None:
    """After unsubscribing nothing comes, and the next member gets only what was not handled."""
    topic, bus, group = await stage.topic(), stage.bus(), stage.group()
    inbox, follower = stage.inbox(), stage.inbox()
    unsubscribe = await stage.subscribe(bus, topic, group, inbox)
    await stage.publish(bus, topic, b"1", b"2")
    await inbox.full(2)
    await unsubscribe()
    await unsubscribe()
    await stage.publish(bus, topic, b"3")
    await stage.subscribe(bus, topic, group, follower)
    assert await follower.full(1) == [b"3"]
    assert inbox.values == [b"1", b"2"]


async def test_new_member_goes_on_where_the_group_was(stage: Stage) -> None:
    """What a group handled stays handled when its only member closes and another one joins."""
    topic, group, publisher = await stage.topic(3), stage.group(), stage.bus()
    before, after = stage.inbox(), stage.inbox()
    bus = stage.bus()
    await stage.subscribe(bus, topic, group, before)
    old = [b"old %d" % number for number in range(9)]
    for value in old:
        await stage.publish(publisher, topic, value, key=value)
    await before.full(9)
    await stage.close(bus)
    assert sum((await stage.committed(group, topic)).values()) == 9
    await stage.publish(publisher, topic, b"new")
    await stage.subscribe(stage.bus(), topic, group, after)
    assert await after.full(1) == [b"new"]


@pytest.mark.spile_needs(Feature.PATTERNS)
async def test_pattern_reads_all_topics_that_match(stage: Stage) -> None:
    """A topic that starts with `^` is a regular expression over full names."""
    topic, bus, inbox = stage.name(), stage.bus(), stage.inbox()
    names = {kind: topic.replace("checked-", f"checked-{kind}-") for kind in ("a", "b", "other")}
    for kind, name in names.items():
        await stage.topic(name=name)
        await stage.publish(bus, name, kind.encode())
    pattern = "^" + re.escape(topic).replace(r"checked\-", r"checked\-[ab]\-") + "$"
    await stage.subscribe(bus, pattern, stage.group(), inbox)
    await inbox.full(2)
    for kind, name in names.items():
        await stage.publish(bus, name, kind.encode())
    await inbox.full(4)
    assert sorted((message.topic, message.value) for message in inbox.messages) == sorted(
        [(names["a"], b"a"), (names["b"], b"b")] * 2
    )


async def test_unknown_topic_is_refused(stage: Stage) -> None:
    """Neither publishing nor subscribing works without a topic, and neither creates one."""
    name, bus = stage.name("lost"), stage.bus()
    with pytest.raises(UnknownTopicError):
        await stage.publish(bus, name, b"v")
    with pytest.raises(UnknownTopicError):
        await stage.subscribe(bus, name, stage.group(), stage.inbox())
    await stage.topic(name=name)
    assert await stage.count(name) == 0


async def test_oversized_record_is_refused(stage: Stage) -> None:
    """A record over 1,600,000 bytes is refused before it is sent; the error tells its size."""
    topic, bus = await stage.topic(), stage.bus()
    with pytest.raises(MessageTooLargeError) as caught:
        await stage.publish(bus, topic, bytes(_MAX_RECORD_BYTES), key=b"k")
    assert caught.value.limit_bytes == _MAX_RECORD_BYTES < caught.value.size_bytes
    await stage.publish(bus, topic, b"v")
    assert await stage.count(topic) == 1


async def test_close_flushes_what_is_being_published(stage: Stage) -> None:
    """A publish that runs when the bus closes ends as if nothing had happened."""
    topic, bus = await stage.topic(2), stage.bus()
    async with stage.limit("publishing and closing"), asyncio.TaskGroup() as tasks:
        for number in range(20):
            tasks.create_task(bus.publish(topic, b"%d" % number, b"v"))
        await asyncio.sleep(0)
        await bus.close()
    assert await stage.count(topic) == 20


async def test_close_lets_the_handler_finish(stage: Stage) -> None:
    """A handler that runs when the bus closes is waited for, and its message counts as handled."""
    topic, bus, group, gate = await stage.topic(), stage.bus(), stage.group(), stage.gate()
    finished: list[bytes] = []

    async def handle(message: ProtocolEventMessage) -> None:
        await gate.wait()
        finished.append(message.value)

    inbox = stage.inbox(handle)
    await stage.subscribe(bus, topic, group, inbox)
    await stage.publish(bus, topic, b"v")
    await inbox.full(1)
    async with stage.limit("closing"), asyncio.TaskGroup() as tasks:
        tasks.create_task(bus.close())
        await asyncio.sleep(0)
        gate.set()
    assert finished == [b"v"]
    assert await stage.committed(group, topic) == {0: 1}


async def test_closed_bus_refuses(stage: Stage) -> None:
    """After close, which may be called again, nothing is published and nobody subscribed."""
    topic, bus = await stage.topic(), stage.bus()
    await stage.publish(bus, topic, b"v")
    await stage.close(bus)
    await stage.close(bus)
    with pytest.raises(ClosedError):
        await stage.publish(bus, topic, b"late")
    with pytest.raises(ClosedError):
        await stage.subscribe(bus, topic, stage.group(), stage.inbox())
    assert await stage.count(topic) == 1
