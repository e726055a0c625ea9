"""The subscription engine on a real broker: rebalances, back pressure, dead letters."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.delivery import Backoff
from spile.adapters.kafka import KafkaAdmin, KafkaLogReader, KafkaSender, KafkaSource
from spile.adapters.subscribing import Retries, Subscription, SubscriptionOptions

pytestmark = pytest.mark.kafka

QUICK = Retries(limit=1, backoff=Backoff(initial_s=0.01, factor=1.0, jitter=0.0))


@pytest.fixture
async def stack():
    async with contextlib.AsyncExitStack() as closing:
        yield closing


async def _committed(bench, group, topic, partitions):
    async with KafkaAdmin(bench.settings) as admin:
        offsets = await admin.committed(group, [(topic, n) for n in range(partitions)])
    return sum(offsets.values())


async def _join(bench, stack, topic, group, handler, **options):
    subscription = Subscription.of_messages(
        KafkaSource(bench.settings, [topic], group),
        handler,
        group_id=group,
        retries=QUICK,
        dead_letters=options.pop("dead_letters", None),
        options=SubscriptionOptions(**options),
    )
    await subscription.start()
    stack.push_async_callback(subscription.close)
    return subscription


async def test_rebalance_while_a_handler_runs(bench, stack, unique):
    """A member that joins while a handler runs gets nothing twice: it is drained and committed."""
    topic, group = await bench.topic(4), unique("g")
    for partition in range(4):
        values = [b"%d-%d" % (partition, n) for n in range(10)]
        await bench.send(topic, *values, partition=partition)
    seen: list[bytes] = []
    began = asyncio.Event()

    async def handle(message):
        began.set()
        await asyncio.sleep(0.1)
        seen.append(message.value)

    await _join(bench, stack, topic, group, handle)
    await began.wait()
    await _join(bench, stack, topic, group, handle)
    async with asyncio.timeout(60):
        while await _committed(bench, group, topic, 4) < 40:  # noqa: ASYNC110 - offsets and records have no event
            await asyncio.sleep(0.1)
    assert sorted(seen) == sorted(set(seen))
    assert len(seen) == 40


async def test_slow_batches_lose_nothing(bench, stack, unique):
    """A slow batch handler is waited for; every record comes once and in order."""
    topic, group = await bench.topic(2), unique("g")
    for partition in range(2):
        await bench.send(topic, *(b"%d" % n for n in range(60)), partition=partition)
    seen: dict[int, list[int]] = {0: [], 1: []}

    async def handle(batch):
        await asyncio.sleep(0.3)
        for record in batch:
            seen[record.partition].append(record.offset)

    options = SubscriptionOptions(max_batch_records=10, lane_capacity=20, keepalive_s=0.1)
    source = KafkaSource(bench.settings, [topic], group)
    subscription = Subscription.of_batches(source, handle, options=options)
    await subscription.start()
    stack.push_async_callback(subscription.close)
    async with asyncio.timeout(60):
        while sum(map(len, seen.values())) < 120:  # noqa: ASYNC110 - offsets and records have no event
            await asyncio.sleep(0.05)
    await subscription.close()
    assert subscription.failure is None
    assert seen == {0: list(range(60)), 1: list(range(60))}
    assert await _committed(bench, group, topic, 2) == 120


async def test_poison_and_its_replay(bench, stack, unique):
    """Poison goes to the queue before its offset is committed, and is read back from there."""
    topic, group = await bench.topic(1), unique("g")
    await bench.topic(1, name=f"{topic}.dlq")
    await bench.topic(1, name=f"{topic}.dlq.done", cleanup_policy="compact")
    sender = KafkaSender(bench.settings)
    stack.push_async_callback(sender.close)
    letters = DeadLetterQueue(sender, lambda: KafkaLogReader(bench.settings), group=group)

    async def handle(message):
        if message.value == b"poison":
            raise ValueError("poison")

    await _join(bench, stack, topic, group, handle, dead_letters=letters)
    await bench.send(topic, b"1", b"poison", b"2")
    async with asyncio.timeout(30):
        while await _committed(bench, group, topic, 1) < 3:  # noqa: ASYNC110 - offsets and records have no event
            await asyncio.sleep(0.05)
    values: list[bytes] = []

    async def fix(message):
        values.append(message.value)
        return len(values) > 1

    for succeeded, failed in ((0, 1), (1, 0), (0, 0)):
        counts = await letters.reprocess_dlq_messages(f"{topic}.dlq", fix, max_retries=1)
        assert (counts["succeeded"], counts["failed"]) == (succeeded, failed)
    assert values == [b"poison", b"poison"]
