"""Reading in batches: whole records, commits after handling, retries, offsets of the sink's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from spile.spi import (
    PartitionKey,
    ProtocolRecord,
    RetriableError,
    UnknownTopicError,
)
from spile.testkit.conformance import Feature
from spile.testkit.conformance._stage import Stage

pytestmark = [pytest.mark.asyncio, pytest.mark.spile_needs(Feature.BATCHES)]


class _Stored:
    """Offsets that a sink keeps."""

    def __init__(self, offsets: Mapping[PartitionKey, int]) -> None:
        self._offsets = offsets

    async def next_offsets(self, partitions: Sequence[PartitionKey]) -> Mapping[PartitionKey, int]:
        return {p: self._offsets[p] for p in partitions if p in self._offsets}


async def test_batches_bring_every_record_in_order(stage: Stage) -> None:
    """Batches over several topics bring each partition's records in order, with their places."""
    one, two, bus = await stage.topic(2), await stage.topic(), stage.bus()
    inbox = stage.inbox()
    for number in range(10):
        await stage.publish(bus, one, b"one %d" % number, key=b"%d" % number)
        await stage.publish(bus, two, b"two %d" % number, key=None)
    await stage.subscribe_batches(bus, [one, two], stage.group(), inbox.batch)
    await inbox.full(20)
    for place in ((one, 0), (one, 1), (two, 0)):
        came = [record for record in inbox.records if (record.topic, record.partition) == place]
        assert [record.offset for record in came] == list(range(len(came))), place
    assert [record.value for record in inbox.records if record.topic == two] == [
        b"two %d" % number for number in range(10)
    ]
    assert all(record.key is None for record in inbox.records if record.topic == two)


@pytest.mark.spile_needs(Feature.RAW_HEADERS)
async def test_tombstone_has_no_value(stage: Stage) -> None:
    """A record without value is told apart from one with an empty value."""
    topic, bus = await stage.topic(), stage.bus()
    await stage.write(bus, topic, None, ())
    await stage.write(bus, topic, b"", ())
    assert [record.value for record in await stage.read(topic, 2)] == [None, b""]


async def test_batch_is_committed_after_its_handler(stage: Stage) -> None:
    """Offsets are committed when the handler has returned; the next member goes on there."""
    topic, bus, group, gate = await stage.topic(), stage.bus(), stage.group(), stage.gate()
    inbox, follower = stage.inbox(), stage.inbox()

    async def handle(records: Sequence[ProtocolRecord]) -> None:
        await inbox.batch(records)
        if b"slow" in inbox.values:
            await gate.wait()

    await stage.publish(bus, topic, b"1")
    subscription = await stage.subscribe_batches(bus, [topic], group, handle)
    await stage.committed_reach(group, topic, 1)
    await stage.publish(bus, topic, b"slow")
    await inbox.full(2)
    assert await stage.committed(group, topic) == {0: 1}
    gate.set()
    await stage.committed_reach(group, topic, 2)
    async with stage.limit("closing"):
        await subscription.close()
        await subscription.wait()
    assert subscription.failure is None
    await stage.publish(bus, topic, b"3")
    await stage.subscribe_batches(bus, [topic], group, follower.batch)
    assert await follower.full(1) == [b"3"]


async def test_batch_is_tried_again_after_a_retriable_error(stage: Stage) -> None:
    """When the handler raises a retriable error the same batch comes again, and nothing else."""
    topic, bus, group = await stage.topic(), stage.bus(), stage.group()
    inbox = stage.inbox()

    async def fail_twice(records: Sequence[ProtocolRecord]) -> None:
        await inbox.batch(records)
        if len(inbox.batches) < 3:
            raise RetriableError("the sink is away")

    await stage.publish(bus, topic, b"1", b"2")
    subscription = await stage.subscribe_batches(bus, [topic], group, fail_twice)
    await stage.committed_reach(group, topic, 2)
    assert inbox.batches[0] == inbox.batches[1] == inbox.batches[2]
    assert inbox.batches[0][0] == b"1"
    assert subscription.failure is None


async def test_failing_batch_ends_the_subscription(stage: Stage) -> None:
    """Any other error ends the subscription, which tells it; the batch stays uncommitted."""
    topic, bus, group = await stage.topic(), stage.bus(), stage.group()
    follower = stage.inbox()
    error = ValueError("bug in the sink")

    async def fail(_records: Sequence[ProtocolRecord]) -> None:
        raise error

    await stage.publish(bus, topic, b"1", b"2")
    subscription = await stage.subscribe_batches(bus, [topic], group, fail)
    async with stage.limit("the subscription ending by itself"):
        with pytest.raises(ValueError, match="bug in the sink"):
            await subscription.wait()
    assert subscription.failure is error
    assert await stage.committed(group, topic) == {}
    await stage.subscribe_batches(bus, [topic], group, follower.batch)
    assert await follower.full(2) == [b"1", b"2"]


async def test_sink_says_where_to_start(stage: Stage) -> None:
    """Partitions that the sink knows start at its offset, the others at their beginning."""
    topic, bus, group = await stage.topic(2), stage.bus(), stage.group()
    inbox = stage.inbox()
    records = await stage.read(topic, await stage.publish_keys(bus, topic))
    keys = {record.partition: record.key for record in records}
    ends = Counter(record.partition for record in records)
    stored = _Stored({(topic, 0): ends[0] - 1})
    await stage.publish(bus, topic, b"last", key=keys[1])
    await stage.subscribe_batches(bus, [topic], group, inbox.batch, offsets=stored)
    await inbox.full(1 + ends[1] + 1)
    assert [r.offset for r in inbox.records if r.partition == 0] == [ends[0] - 1]
    assert [r.offset for r in inbox.records if r.partition == 1] == list(range(ends[1] + 1))


async def test_pause_and_resume(stage: Stage) -> None:
    """A paused subscription hands out nothing, knows its lag, and goes on when resumed."""
    topic, bus, group = await stage.topic(), stage.bus(), stage.group()
    inbox, witness = stage.inbox(), stage.inbox()
    subscription = await stage.subscribe_batches(bus, [topic], group, inbox.batch)
    await stage.publish(bus, topic, b"1")
    await stage.committed_reach(group, topic, 1)
    async with stage.limit("pausing"):
        await subscription.pause()
    await stage.publish(bus, topic, b"2", b"3")
    await stage.subscribe_batches(bus, [topic], stage.group(), witness.batch)
    await witness.full(3)
    assert inbox.values == [b"1"]
    async with stage.limit("asking for the lag"):
        assert dict(await subscription.lag()) == {(topic, 0): 2}
        await subscription.resume()
    assert await inbox.full(3) == [b"1", b"2", b"3"]


async def test_unknown_topic_is_refused_in_batches(stage: Stage) -> None:
    """One topic that is not there refuses the whole subscription."""
    topic, bus = await stage.topic(), stage.bus()
    with pytest.raises(UnknownTopicError):
        await stage.subscribe_batches(
            bus, [topic, stage.name("lost")], stage.group(), stage.inbox().batch
        )
