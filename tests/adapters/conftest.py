"""A cluster in memory and subscriptions on it whose waits are short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.delivery import Backoff, OutgoingRecord
from spile.adapters.memory import MemoryCluster
from spile.adapters.subscribing import Retries, Subscription, SubscriptionOptions

TOPIC = "dev.shop.orders.placed.v1"
GROUP = "shop"
QUICK = Backoff(initial_s=0.002, factor=1.0, max_s=0.002, jitter=0.0)
OPTIONS = {
    "poll_timeout_s": 0.02,
    "commit_interval_s": 0.005,
    "drain_limit_s": 2.0,
    "close_limit_s": 2.0,
    "keepalive_s": 0.02,
    "backoff": QUICK,
}


class Bench:
    """What the tests of the engine do again and again."""

    topic = TOPIC
    group = GROUP
    DAY = Backoff(initial_s=86_400.0, max_s=86_400.0, jitter=0.0)
    QUICK_DAY = Retries(limit=3, backoff=DAY)
    STUBBORN = Retries(limit=1000, backoff=QUICK)

    def __init__(self) -> None:
        self.cluster = MemoryCluster({TOPIC: 3, f"{TOPIC}.dlq": 3, f"{TOPIC}.dlq.done": 1})
        self.sender = self.cluster.sender()
        self.dead_letters = DeadLetterQueue(
            self.cluster.sender(), self.cluster.reader, group=GROUP, backoff=QUICK
        )
        self.subscriptions: list[Subscription] = []

    async def send(self, *values: bytes, key: bytes | None = b"k", partition: int | None = None):
        """Write values to the topic."""
        records = [OutgoingRecord(TOPIC, key, value, [("h", b"1")], partition) for value in values]
        receipt = await self.sender.send(records)
        assert receipt.failures == {}

    @staticmethod
    def record(topic: str, value: bytes) -> OutgoingRecord:
        """Make a record."""
        return OutgoingRecord(topic, None, value, [])

    async def messages(self, handler: Callable[..., Any], **changes: Any) -> Subscription:
        """Subscribe to messages; options by name."""
        source = changes.pop("source", None) or self.cluster.source([TOPIC], GROUP)
        subscription = Subscription.of_messages(
            source,
            handler,
            group_id=GROUP,
            dead_letters=changes.pop("dead_letters", self.dead_letters),
            retries=changes.pop("retries", Retries(limit=3, backoff=QUICK)),
            manual_ack=changes.pop("manual_ack", False),
            observer=changes.pop("observer", None),
            options=SubscriptionOptions(**{**OPTIONS, **changes}),
        )
        return await self._start(subscription)

    async def batches(self, handler: Callable[..., Any], **changes: Any) -> Subscription:
        """Subscribe to batches; options by name."""
        source = changes.pop("source", None) or self.cluster.source([TOPIC], GROUP)
        subscription = Subscription.of_batches(
            source,
            handler,
            offsets=changes.pop("offsets", None),
            manual_commit=changes.pop("manual_commit", False),
            observer=changes.pop("observer", None),
            options=SubscriptionOptions(**{**OPTIONS, **changes}),
        )
        return await self._start(subscription)

    async def _start(self, subscription: Subscription) -> Subscription:
        self.subscriptions.append(subscription)
        await subscription.start()
        return subscription

    def committed(self) -> int:
        """Count the records below the committed offsets."""
        return sum(self.cluster.committed(GROUP).values())

    @staticmethod
    async def until(condition: Callable[[], bool], limit_s: float = 5.0) -> None:
        """Wait until something holds, looking at each turn of the loop's short sleep."""
        async with asyncio.timeout(limit_s):
            while not condition():  # noqa: ASYNC110 - conditions over foreign state
                await asyncio.sleep(0.002)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A bench whose subscriptions are closed at the end."""
    made = Bench()
    yield made
    made.cluster.faults.clear()
    for subscription in made.subscriptions:
        await subscription.close()
