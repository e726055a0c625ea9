"""What becomes of a message whose handler does not return: redelivery, retries, dead letters."""

from __future__ import annotations

import pytest

from spile.spi import ClosedError, ProtocolEventMessage, ProtocolRecord
from spile.testkit.conformance import Feature
from spile.testkit.conformance._stage import Stage

pytestmark = pytest.mark.asyncio

_POISON = b"\xff\x00not json" + bytes(range(256))
_POISON_HEADERS = (
    ("content_type", b"application/json"),
    ("twice", b"\xfe"),
    ("empty", b""),
    ("twice", b"2"),
)


async def _refuse_poison(message: ProtocolEventMessage) -> None:
    if message.value.startswith(b"\xff"):
        raise ValueError("poison: cannot be decoded")


async def test_nothing_is_committed_before_it_is_handled(stage: Stage) -> None:
    """While a handler runs its message is not committed, although later work elsewhere is."""
    topic, bus, group, gate = await stage.topic(4), stage.bus(), stage.group(), stage.gate()

    async def handle(message: ProtocolEventMessage) -> None:
        if message.value == b"slow":
            await gate.wait()

    inbox = stage.inbox(handle)
    await stage.subscribe(bus, topic, group, inbox)
    await stage.committed_reach(group, topic, await stage.publish_keys(bus, topic))
    keys = {message.partition or 0: message.key for message in inbox.messages}
    (slow, slow_key), (quick, quick_key) = list(keys.items())[:2]
    before = await stage.committed(group, topic)
    await stage.publish(bus, topic, b"slow", key=slow_key)
    await inbox.has(b"slow")
    await stage.publish(bus, topic, b"quick", key=quick_key)
    await stage.committed_reach(group, topic, sum(before.values()) + 1)
    after = await stage.committed(group, topic)
    assert after[quick] == before[quick] + 1
    assert after[slow] == before[slow], "committed while its handler was still running"
    gate.set()
    await stage.committed_reach(group, topic, sum(before.values()) + 2)


async def test_failed_message_is_tried_again(stage: Stage) -> None:
    """A message whose handler raises comes again, before its successors."""
    topic, bus, group = await stage.topic(), stage.bus(), stage.group()

    async def fail_once(message: ProtocolEventMessage) -> None:
        if message.value == b"1" and inbox.values.count(b"1") == 1:
            raise ValueError("not this time")

    inbox = stage.inbox(fail_once)
    await stage.publish(bus, topic, b"1", b"2")
    await stage.subscribe(bus, topic, group, inbox)
    assert await inbox.full(3) == [b"1", b"1", b"2"]
    await stage.committed_reach(group, topic, 2)


@pytest.mark.spile_needs(Feature.MANUAL_ACK)
async def test_message_without_ack_comes_again(stage: Stage) -> None:
    """With manual acknowledgement a message comes again until it is acknowledged."""
    topic, bus, group = await stage.topic(), stage.bus(), stage.group()

    async def ack_the_third_time(message: ProtocolEventMessage) -> None:
        if inbox.values.count(message.value) == 3:
            await message.ack()

    inbox, follower = stage.inbox(ack_the_third_time), stage.inbox()
    await stage.publish(bus, topic, b"1", b"2")
    unsubscribe = await stage.subscribe(bus, topic, group, inbox, manual_ack=True)
    await inbox.has(b"2")
    await stage.committed_reach(group, topic, 2)
    assert inbox.values == [b"1"] * 3 + [b"2"] * 3
    await unsubscribe()
    await stage.publish(bus, topic, b"3")
    await stage.subscribe(bus, topic, group, follower)
    assert await follower.full(1) == [b"3"]


@pytest.mark.spile_needs(Feature.MANUAL_ACK)
async def test_message_without_ack_goes_to_the_next_member(stage: Stage) -> None:
    """What a member did not acknowledge is the next one's, and its own `ack` comes too late."""
    topic, bus, group = await stage.topic(), stage.bus(), stage.group()
    inbox, follower = stage.inbox(), stage.inbox()
    await stage.publish(bus, topic, b"1")
    unsubscribe = await stage.subscribe(bus, topic, group, inbox, manual_ack=True)
    await inbox.full(1)
    await unsubscribe()
    assert await stage.committed(group, topic) == {}
    with pytest.raises(ClosedError):
        await inbox.messages[0].ack()
    await stage.subscribe(bus, topic, group, follower)
    assert await follower.full(1) == [b"1"]


@pytest.mark.spile_needs(Feature.DEAD_LETTERS)
async def test_spent_retries_end_in_the_dead_letter_queue(stage: Stage) -> None:
    """A message that always fails is tried as often as declared, then it is a dead letter."""
    topic, bus, group = await stage.topic(), stage.bus(), stage.group()
    inbox = stage.inbox(_refuse_poison)
    await stage.subscribe(bus, topic, group, inbox)
    await stage.publish(bus, topic, _POISON)
    await stage.committed_reach(group, topic, 1)
    assert inbox.values == [_POISON] * (1 + stage.under_test.retries)
    assert await stage.count(f"{topic}.dlq") == 1


@pytest.mark.spile_needs(Feature.DEAD_LETTERS, Feature.BATCHES)
async def test_poison_reaches_the_dead_letter_queue_byte_for_byte(stage: Stage) -> None:
    """A dead letter has the key and value that came, and says in added headers what went wrong."""
    topic, bus, group = await stage.topic(), stage.bus(), stage.group()
    await stage.subscribe(bus, topic, group, stage.inbox(_refuse_poison))
    await stage.publish(bus, topic, _POISON, key=b"\xff\x00")
    [came] = await stage.read(topic, 1)
    [dead] = await stage.read(f"{topic}.dlq", 1)
    assert (dead.key, dead.value) == (b"\xff\x00", _POISON)
    _check_failure_headers(came, dead, group)


@pytest.mark.spile_needs(Feature.DEAD_LETTERS, Feature.BATCHES, Feature.RAW_HEADERS)
async def test_dead_letter_keeps_the_headers_that_came(stage: Stage) -> None:
    """The headers of the poison stand in its dead letter byte for byte, in order."""
    topic, bus = await stage.topic(), stage.bus()
    await stage.subscribe(bus, topic, stage.group(), stage.inbox(_refuse_poison))
    await stage.write(bus, topic, _POISON, _POISON_HEADERS)
    [dead] = await stage.read(f"{topic}.dlq", 1)
    names = {name for name, _ in _POISON_HEADERS}
    assert [pair for pair in dead.headers if pair[0] in names] == list(_POISON_HEADERS)


@pytest.mark.spile_needs(Feature.DEAD_LETTERS)
async def test_neighbours_of_poison_go_on(stage: Stage) -> None:
    """The messages before and behind a dead letter are handled once, in order."""
    topic, bus, group = await stage.topic(), stage.bus(), stage.group()
    inbox = stage.inbox(_refuse_poison)
    await stage.publish(bus, topic, b"1", _POISON, b"2", b"3")
    await stage.subscribe(bus, topic, group, inbox)
    await stage.committed_reach(group, topic, 4)
    assert [value for value in inbox.values if value != _POISON] == [b"1", b"2", b"3"]
    assert await stage.count(f"{topic}.dlq") == 1


def _check_failure_headers(came: ProtocolRecord, dead: ProtocolRecord, group: str) -> None:
    """Check that the added headers tell place, group and error, under whatever names."""
    inbound = list(came.headers)
    added = [pair for pair in dead.headers if pair not in inbound]
    assert [pair for pair in dead.headers if pair in inbound] == inbound
    told = [value.decode() for _, value in added]
    assert came.topic in told
    assert str(came.partition) in told
    assert str(came.offset) in told
    assert group in told
    assert any("ValueError" in text for text in told)
    assert any("poison: cannot be decoded" in text for text in told)
