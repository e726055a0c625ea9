"""Members come and go while everything fails now and then: nothing lost, order kept."""

from __future__ import annotations

import asyncio
import random

import pytest

from spile.adapters.delivery import OutgoingRecord
from spile.spi import BrokerUnavailableError

RECORDS = 400


class Storm:
    """Faults by a seed; judges what the handlers saw."""

    def __init__(self, bench, seed):
        self.bench = bench
        self.random = random.Random(seed)
        self.handled: dict[int, list[int]] = {0: [], 1: [], 2: []}
        self.calm = False

    async def fault(self, operation, about):
        if self.calm or operation == "open":
            return
        if self.random.random() < 0.1:
            raise BrokerUnavailableError("storm")
        if self.random.random() < 0.1:
            await asyncio.sleep(self.random.random() * 0.005)

    async def message(self, message):
        await asyncio.sleep(self.random.random() * 0.001)
        if not self.calm and self.random.random() < 0.05:
            raise BrokerUnavailableError("storm")
        self.handled[message.partition].append(int(message.offset))

    async def batch(self, batch):
        await asyncio.sleep(self.random.random() * 0.003)
        if not self.calm and self.random.random() < 0.2:
            raise BrokerUnavailableError("storm")
        for record in batch:
            self.handled[record.partition].append(record.offset)

    async def publish(self):
        for n in range(RECORDS // 20):
            records = [
                OutgoingRecord(self.bench.topic, b"k", b"v", [], (n + m) % 3) for m in range(20)
            ]
            while (await self.bench.sender.send(records)).failures:  # noqa: ASYNC110 - the storm
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.005)

    async def churn(self, join):
        members = [await join(), await join()]
        for _ in range(6):
            await asyncio.sleep(self.random.random() * 0.03)
            if len(members) > 1 and self.random.random() < 0.5:
                await members.pop(self.random.randrange(len(members))).close()
            else:
                members.append(await join())

    async def run(self, join):
        self.bench.cluster.faults.hook = self.fault
        async with asyncio.TaskGroup() as group:
            group.create_task(self.publish())
            group.create_task(self.churn(join))
        self.calm = True
        self.bench.cluster.faults.hook = None
        await self.bench.until(lambda: self.bench.committed() == RECORDS, limit_s=20)

    def judge(self):
        for partition, offsets in self.handled.items():
            end = len(self.bench.cluster.records(self.bench.topic, partition))
            assert set(offsets) == set(range(end))
            reached = -1
            for offset in offsets:
                assert offset <= reached + 1, "an offset came before one below it"
                reached = max(reached, offset)


@pytest.mark.parametrize("seed", range(5))
async def test_messages_survive_a_storm(bench, seed):
    """Every message is handled, none before one below it, and all are committed at the end."""
    storm = Storm(bench, seed)
    await storm.run(lambda: bench.messages(storm.message, retries=bench.STUBBORN))
    storm.judge()


@pytest.mark.parametrize("seed", range(5))
async def test_batches_survive_a_storm(bench, seed):
    """Every record is handled in a batch, none before one below it, and all are committed."""
    storm = Storm(bench, seed)
    await storm.run(lambda: bench.batches(storm.batch, max_batch_records=10))
    storm.judge()
