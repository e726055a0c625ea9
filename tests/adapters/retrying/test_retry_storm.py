"""Members come, go and die while everything fails now and then: each key whole and in order."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict

import pytest

from spile.adapters.delivery import OutgoingRecord
from spile.spi import BrokerUnavailableError, DeliveryTimeoutError

KEYS = [b"%d" % n for n in range(8)]
ROUNDS = 25
TIERS = (0.004, 0.008, 0.016)


class Storm:
    """Faults by a seed; judges what the handlers did."""

    def __init__(self, bench, seed):
        self.bench = bench
        self.random = random.Random(seed)
        self.effects: dict[bytes, list[int]] = defaultdict(list)
        self.failures: Counter[tuple[bytes, bytes]] = Counter()
        self.calm = False
        self.alive = []

    async def fault(self, operation, about):
        if self.calm or operation == "open":
            return
        if self.random.random() < 0.08:
            error = BrokerUnavailableError if self.random.random() < 0.5 else DeliveryTimeoutError
            raise error("storm")
        if self.random.random() < 0.1:
            await asyncio.sleep(self.random.random() * 0.005)

    def handle(self, record):
        place = (record.key, record.value)
        if self.failures[place] < 2 and self.random.random() < 0.1:
            self.failures[place] += 1
            raise ValueError("storm")
        number = int(record.value)
        if number not in self.effects[record.key]:
            self.effects[record.key].append(number)

    async def message(self, message):
        await asyncio.sleep(self.random.random() * 0.0005)
        self.handle(message.record)

    async def batch(self, records):
        await asyncio.sleep(self.random.random() * 0.002)
        for record in records:
            self.handle(record)

    async def publish(self):
        for n in range(ROUNDS):
            left = [OutgoingRecord(self.bench.topic, key, b"%d" % n, []) for key in KEYS]
            while left:
                failures = (await self.bench.sender.send(left)).failures
                left = [left[index] for index in failures]
            await asyncio.sleep(0.006)

    async def churn(self, join):
        self.alive = [await join(), await join()]
        for _ in range(5):
            await asyncio.sleep(self.random.random() * 0.05)
            if len(self.alive) > 1 and self.random.random() < 0.6:
                leaving = self.alive.pop(self.random.randrange(len(self.alive)))
                if self.random.random() < 0.5:
                    await leaving.close()
                else:
                    self.bench.leave_dead(leaving)
                    self.bench.cluster.group(self.bench.group).start_rebalance()
            else:
                self.alive.append(await join())

    async def run(self, join):
        self.bench.cluster.faults.hook = self.fault
        async with asyncio.TaskGroup() as group:
            group.create_task(self.publish())
            group.create_task(self.churn(join))
        self.calm = True
        self.bench.cluster.faults.hook = None
        await self.bench.until(self.bench.all_committed, limit_s=20)

    def judge(self):
        assert self.bench.dead() == []
        for member in self.alive:
            assert member.failure is None
        for key in KEYS:
            assert self.effects[key] == list(range(ROUNDS)), key


@pytest.mark.parametrize("seed", range(4))
async def test_messages_survive_a_storm(retry_bench, seed):
    """Message handlers: every record is handled, each for the first time in its key's order."""
    storm = Storm(retry_bench, seed)
    await storm.run(lambda: retry_bench.messages(storm.message, tiers=TIERS))
    storm.judge()


@pytest.mark.parametrize("seed", range(4))
async def test_batches_survive_a_storm(retry_bench, seed):
    """Batch handlers: the same."""
    storm = Storm(retry_bench, seed)
    await storm.run(lambda: retry_bench.batches(storm.batch, tiers=TIERS, max_batch_records=20))
    storm.judge()
