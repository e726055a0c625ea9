"""A batch subscription whose owner says what is done, and which partitions to hold up."""

from __future__ import annotations

import asyncio


async def test_offsets_move_only_when_the_owner_says_so(bench):
    """With manual commits a handled batch is not committed; `done` commits, and no further."""
    seen: list[int] = []

    async def handle(batch):
        seen.extend(record.offset for record in batch)

    subscription = await bench.batches(handle, manual_commit=True)
    await bench.send(*(b"%d" % n for n in range(10)), partition=0)
    await bench.until(lambda: len(seen) == 10)
    await asyncio.sleep(0.03)
    assert bench.committed() == 0
    subscription.done({(bench.topic, 0): 4, (bench.topic, 7): 99})
    await bench.until(lambda: bench.committed() == 4)
    await subscription.close()
    assert bench.committed() == 4


async def test_late_news_of_an_earlier_assignment(bench):
    """What was done before a partition came back does not undo what another had committed."""
    seen: list[int] = []

    async def handle(batch):
        seen.extend(record.offset for record in batch)

    subscription = await bench.batches(handle, manual_commit=True)
    await bench.send(*(b"%d" % n for n in range(10)), partition=0)
    await bench.until(lambda: len(seen) == 10)
    group = bench.cluster.group(bench.group)
    await subscription._source.listener.revoked([(bench.topic, 0)])
    group.commit({(bench.topic, 0): 9}, {})
    await group.start_rebalance()
    await bench.until(lambda: seen[-1] == 9 and len(seen) == 11)
    subscription.done({(bench.topic, 0): 4})
    await asyncio.sleep(0.03)
    assert bench.committed() == 9
    subscription.done({(bench.topic, 0): 10})
    await bench.until(lambda: bench.committed() == 10)


async def test_one_partition_is_held_up_alone(bench):
    """A paused partition gives nothing more, whatever the buffers do; the others go on."""
    seen: list[tuple[int, int]] = []

    async def handle(batch):
        seen.extend((record.partition, record.offset) for record in batch)
        await asyncio.sleep(0.005)

    limits = {"max_batch_records": 5, "lane_capacity": 10}
    subscription = await bench.batches(handle, **limits)
    await subscription.pause([(bench.topic, 1)])
    for partition in range(3):
        await bench.send(*(b"x" for _ in range(100)), partition=partition)
    await bench.until(lambda: len(seen) == 200)
    assert {partition for partition, _ in seen} == {0, 2}
    await subscription.pause()
    await subscription.resume([(bench.topic, 1)])
    await asyncio.sleep(0.03)
    assert len(seen) == 200, "the whole subscription is still paused"
    await subscription.resume()
    await bench.until(lambda: len(seen) == 300)


async def test_resuming_everything_forgets_single_pauses(bench):
    """`resume` without partitions lets all of them go on."""
    seen: list[int] = []

    async def handle(batch):
        seen.extend(record.partition for record in batch)

    subscription = await bench.batches(handle)
    await subscription.pause([(bench.topic, 0)])
    await bench.send(b"1", partition=0)
    await asyncio.sleep(0.03)
    assert seen == []
    await subscription.resume()
    await bench.until(lambda: seen == [0])
