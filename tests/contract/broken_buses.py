"""Buses in memory, each broken in one way, for the suite to find out."""

from __future__ import annotations

import itertools

import msgspec

from spile.adapters.bus import BusAdapter, EventBus
from spile.adapters.publishing import CircuitBreaker, EventPublisher
from spile.adapters.subscribing import Retries
from spile.testkit.conformance.memory import OPTIONS, QUICK, MemoryUnderTest, catalogue_of


class _Broken(MemoryUnderTest):
    """Memory with another adapter; gives up early, since most waits are in vain."""

    limit_s = 1.0
    patience_s = 0.1
    adapter = BusAdapter

    def bus(self):
        adapter = self.adapter(
            self.cluster.sender(),
            self.cluster.source,
            environment=self.environment,
            group="broken",
            options=OPTIONS,
            retries=Retries(limit=self.retries, backoff=QUICK),
        )
        adapter.cluster = self.cluster
        return EventBus(adapter)


class Sound(_Broken):
    """Not broken at all: what the others are compared with."""


class CommitsBeforeHandling(_Broken):
    class adapter(BusAdapter):  # noqa: N801 - stands for the attribute
        async def subscribe(self, topic, group_id, on_message, **options):
            async def handle(message):
                await message.ack()
                await on_message(message)

            return await super().subscribe(topic, group_id, handle, **options)


class SwallowsTheError(_Broken):
    class adapter(BusAdapter):  # noqa: N801 - stands for the attribute
        async def subscribe(self, topic, group_id, on_message, **options):
            async def handle(message):
                try:
                    await on_message(message)
                except Exception:  # noqa: BLE001 - what is broken about it
                    return

            return await super().subscribe(topic, group_id, handle, **options)


class DropsHeaders(_Broken):
    class adapter(BusAdapter):  # noqa: N801 - stands for the attribute
        async def publish(self, topic, key, value, headers=None):
            await super().publish(topic, key, value, None)

        async def publish_record(self, record):
            kept = dict(record.headers)
            await super().publish_record(msgspec.structs.replace(record, headers=[*kept.items()]))


class IgnoresTheKey(_Broken):
    """Carries the key and spreads the records."""

    class adapter(BusAdapter):  # noqa: N801 - stands for the attribute
        turns = itertools.count()

        async def publish_record(self, record):
            if topic := self.cluster.topics.get(record.topic):
                turn = next(self.turns) % topic.partitions
                record = msgspec.structs.replace(record, partition=turn)
            await super().publish_record(record)


class _OtherPublisher(_Broken):
    def make(self, topic, models, breaker):
        raise NotImplementedError

    def publisher(self, topic, models, *, breaker_threshold=5, breaker_reset_s=30.0, **_):
        return self.make(
            topic, models, {"threshold": breaker_threshold, "reset_after_s": breaker_reset_s}
        )


class _Liar(EventPublisher):
    async def publish_event(self, event):
        self._encoder.encode(event)
        return True


class SaysTrueWithoutSending(_OtherPublisher):
    def make(self, topic, models, breaker):
        return _Liar(
            self.cluster.sender(),
            catalogue_of(topic, models),
            environment=self.environment,
            service="broken",
            breaker=CircuitBreaker(**breaker),
        )


class BreakerNeverOpens(_OtherPublisher):
    def make(self, topic, models, breaker):
        return EventPublisher(
            self.cluster.sender(),
            catalogue_of(topic, models),
            environment=self.environment,
            service="broken",
            breaker=CircuitBreaker(**{**breaker, "threshold": 1_000_000}),
        )


class PublishesInTheBackground(_Broken):
    """Its `publish` has the right name, and is no coroutine function."""

    class adapter(BusAdapter):  # noqa: N801 - stands for the attribute
        def publish(self, topic, key, value, headers=None):
            return super().publish(topic, key, value, headers)
