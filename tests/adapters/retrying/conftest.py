"""Subscriptions in memory whose failed records wait in retry topics with short delays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.delivery import Backoff, OutgoingRecord
from spile.adapters.memory import MemoryCluster
from spile.adapters.retrying import RetryTopics
from spile.adapters.subscribing import Parking, Retries, Subscription, SubscriptionOptions

TOPIC = "dev.shop.orders.placed.v1"
GROUP = "shop"
TIERS = (0.03, 0.06, 0.12)
QUICK = Backoff(initial_s=0.001, factor=1.0, max_s=0.001, jitter=0.0)
OPTIONS = {
    "poll_timeout_s": 0.02,
    "commit_interval_s": 0.005,
    "drain_limit_s": 2.0,
    "close_limit_s": 2.0,
    "keepalive_s": 0.02,
    "backoff": QUICK,
}


class RetryBench:
    """What the tests do again and again."""

    topic = TOPIC
    group = GROUP
    retry_topics = tuple(f"{TOPIC}.{GROUP}.retry.{n}" for n in range(3))

    def __init__(self, partitions: int = 2) -> None:
        names = (TOPIC, f"{TOPIC}.dlq", *self.retry_topics)
        self.cluster = MemoryCluster(dict.fromkeys(names, partitions))
        self.sender = self.cluster.sender()
        self.dead_letters = DeadLetterQueue(
            self.cluster.sender(), self.cluster.source, group=GROUP, backoff=QUICK
        )
        self.subscriptions: list[Subscription] = []
        self.seen: list[tuple[bytes, int]] = []

    async def send(
        self, *values: bytes, key: bytes | None = b"k", partition: int | None = None
    ) -> None:
        """Write values to the topic."""
        records = [OutgoingRecord(TOPIC, key, value, [("h", b"1")], partition) for value in values]
        assert (await self.sender.send(records)).failures == {}

    async def messages(self, handler: Callable[..., Any], **changes: Any) -> Subscription:
        """Subscribe to messages; options by name."""
        return await self._start(Subscription.of_messages, handler, changes, group_id=GROUP)

    async def batches(self, handler: Callable[..., Any], **changes: Any) -> Subscription:
        """Subscribe to batches; options by name."""
        return await self._start(Subscription.of_batches, handler, changes, group_id=GROUP)

    async def _start(
        self, make: Callable[..., Subscription], handler: Any, changes: dict[str, Any], **more: Any
    ) -> Subscription:
        retries = changes.pop(
            "retries", Retries.tiered(changes.pop("tiers", TIERS), limit=1, backoff=QUICK)
        )
        topics = RetryTopics([TOPIC], GROUP, len(retries.tiers))
        source = changes.pop("source", None) or self.cluster.source(
            topics.names, GROUP, together=topics.together
        )
        wall_clock = changes.pop("wall_clock", time.time)
        parking = Parking(sender=self.cluster.sender(), topics=topics, wall_clock=wall_clock)
        for name in ("observer", "manual_ack", "manual_commit", "guard"):
            if name in changes:
                more[name] = changes.pop(name)
        subscription = make(
            source,
            handler,
            dead_letters=self.dead_letters,
            retries=retries,
            parking=parking,
            options=SubscriptionOptions(**{**OPTIONS, **changes}),
            **more,
        )
        self.subscriptions.append(subscription)
        await subscription.start()
        return subscription

    def dead(self) -> Sequence[Any]:
        """Return what stands in the dead letter queue."""
        return self.cluster.records(f"{TOPIC}.dlq")

    def parked(self, tier: int) -> Sequence[Any]:
        """Return what was ever written to a retry topic."""
        return self.cluster.records(self.retry_topics[tier])

    def all_committed(self) -> bool:
        """Whether the group has committed everything, in the topic and its retry topics."""
        committed = self.cluster.committed(GROUP)
        return all(
            committed.get((name, n), 0) == len(self.cluster.records(name, n))
            for name in (TOPIC, *self.retry_topics)
            for n in range(self.cluster.topics[name].partitions)
        )

    def leave_dead(self, subscription: Subscription) -> None:
        """Let a member die without a word: nothing is drained, nothing committed."""
        self.subscriptions.remove(subscription)
        source = subscription._source
        source.is_open = False
        source.held = {}
        self.cluster.group(GROUP).members.remove(source)
        for task in list(subscription._tasks._running):
            subscription._tasks.cancel(task)

    @staticmethod
    async def until(condition: Callable[[], bool], limit_s: float = 5.0) -> None:
        """Wait until something holds, looking at each turn of the loop's short sleep."""
        async with asyncio.timeout(limit_s):
            while not condition():  # noqa: ASYNC110 - conditions over foreign state
                await asyncio.sleep(0.002)


@pytest.fixture
async def retry_bench() -> AsyncIterator[RetryBench]:
    """A bench whose subscriptions are closed at the end."""
    made = RetryBench()
    yield made
    made.cluster.faults.clear()
    for subscription in made.subscriptions:
        await subscription.close()
