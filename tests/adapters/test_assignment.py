"""What stands for the assignment of a partition."""

from __future__ import annotations

import asyncio
import contextlib

from spile.adapters.memory import MemoryCluster, MemoryEventBus
from spile.adapters.subscribing import SubscriptionOptions

TOPIC = "dev.probe.assignments.probe-made.v1"
PARTITIONS = [(TOPIC, 0), (TOPIC, 1)]


async def ignore(records):
    pass


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - conditions over foreign state
            await asyncio.sleep(0.002)


async def test_another_assignment_is_another_object():
    """It stays the same while a partition is held, and is another one when it comes back."""
    cluster = MemoryCluster({TOPIC: 2})
    bus = MemoryEventBus(cluster, options=SubscriptionOptions(poll_timeout_s=0.02))
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(bus.close)
        first = await bus.subscribe_batches([TOPIC], "probes", ignore)

        def held(one):
            return [place for place in PARTITIONS if one.assignment(place) is not None]

        await until(lambda: held(first) == PARTITIONS)
        before = {place: first.assignment(place) for place in PARTITIONS}
        assert all(first.assignment(place) is before[place] for place in PARTITIONS)
        second = await bus.subscribe_batches([TOPIC], "probes", ignore)
        await until(lambda: len(held(first)) == len(held(second)) == 1)
        (lost,) = held(second)
        assert first.assignment(lost) is None
        await second.close()
        await until(lambda: held(first) == PARTITIONS)
        assert first.assignment(lost) is not before[lost]
        await first.close()
        assert held(first) == []
