"""Our adapters on a real Kafka, ready for the suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from pydantic import BaseModel
from typing_extensions import override

from spile.adapters.delivery import Backoff, OutgoingEvent
from spile.adapters.kafka import (
    KafkaAdmin,
    KafkaEventBus,
    KafkaEventBusAdapter,
    KafkaSettings,
    RedpandaEventBusAdapter,
    create_publisher,
)
from spile.adapters.publishing import CircuitBreaker, EventPublisher
from spile.adapters.subscribing import Retries, SubscriptionOptions
from spile.spi import MessageKey, ProtocolEventBus
from spile.testkit.broker import BrokerSettings, EmbeddedBroker, cluster_view
from spile.testkit.conformance._bus_under_test import (
    EVERY_FEATURE,
    BusUnderTest,
    Feature,
    Outgoing,
    RawHeaders,
)
from spile.testkit.conformance.memory import catalogue_of, outgoing_event, write_record
from spile.topics import TopicSetup

_QUICK = Backoff(initial_s=0.02, factor=1.0, max_s=0.02, jitter=0.0)
_OPTIONS = SubscriptionOptions(
    poll_timeout_s=0.1,
    commit_interval_s=0.05,
    drain_limit_s=2.0,
    close_limit_s=2.0,
    keepalive_s=0.2,
    backoff=_QUICK,
)


class KafkaUnderTest(BusUnderTest):
    """
    `KafkaEventBusAdapter` on the broker of SPILE_BOOTSTRAP_SERVERS, else on an embedded one.

    Faults are tested on an embedded broker alone, which is stopped with SIGSTOP and goes on: the
    client sees a broker that takes connections and never answers.

    Args:
        broker: Use this embedded broker, and leave it running at the end.
    """

    adapter: type[KafkaEventBusAdapter] = KafkaEventBusAdapter
    patience_s = 2.5

    def __init__(self, broker: EmbeddedBroker | None = None) -> None:
        self._broker = broker
        self._owned: EmbeddedBroker | None = None
        servers = BrokerSettings().bootstrap_servers
        if broker is None and not servers:
            self._broker = self._owned = EmbeddedBroker()
        if self._broker is not None:
            servers = self._broker.bootstrap_servers
        else:
            self.features = EVERY_FEATURE - {Feature.FAULTS}
        self.settings = KafkaSettings.load(
            bootstrap_servers=servers,
            environment=self.environment,
            heartbeat_interval_ms=200,
            max_poll_interval_ms=2_000,
            retry_backoff_ms=10,
            close_timeout_ms=5_000,
        )

    @override
    def close(self) -> None:
        if self._owned is not None:
            self._owned.close()

    @override
    async def create_topic(self, name: str, partitions: int) -> None:
        async with KafkaAdmin(self.settings) as admin:
            for topic in (name, f"{name}.dlq"):
                await admin.create(
                    TopicSetup(topic=topic, partitions=partitions, replication=1, config={})
                )

    @override
    def bus(self) -> ProtocolEventBus:
        adapter = self.adapter(
            self.settings,
            group="conformance",
            options=_OPTIONS,
            retries=Retries(limit=self.retries, backoff=_QUICK),
        )
        return KafkaEventBus(adapter)

    @override
    async def count(self, topic: str) -> int:
        async with KafkaAdmin(self.settings) as admin:
            partitions = await admin.partitions([topic])
            begin = await admin.beginning_offsets(partitions)
            return sum((await admin.end_offsets(partitions)).values()) - sum(begin.values())

    @override
    async def committed(self, group_id: str, topic: str) -> Mapping[int, int]:
        async with KafkaAdmin(self.settings) as admin:
            offsets = await admin.committed(group_id, await admin.partitions([topic]))
        return {number: offset for (_, number), offset in offsets.items()}

    @override
    async def write(
        self,
        bus: ProtocolEventBus,
        topic: str,
        key: MessageKey,
        value: bytes | None,
        headers: RawHeaders,
    ) -> None:
        await write_record(bus, topic, key, value, headers)

    @override
    def publisher(
        self,
        topic: str,
        models: Mapping[str, type[BaseModel] | None],
        *,
        breaker_threshold: int = 5,
        breaker_reset_s: float = 30.0,
        delivery_limit_s: float = 30.0,
    ) -> EventPublisher:
        limit_ms = int(delivery_limit_s * 1_000)
        limits = {
            "delivery_timeout_ms": limit_ms,
            "request_timeout_ms": min(limit_ms, self.settings.request_timeout_ms),
        }
        return create_publisher(
            self.settings.model_copy(update=limits),
            catalogue_of(topic, models),
            service="conformance",
            breaker=CircuitBreaker(threshold=breaker_threshold, reset_after_s=breaker_reset_s),
        )

    @override
    def outgoing(self, event: Outgoing) -> OutgoingEvent:
        return outgoing_event(event)

    @override
    @asynccontextmanager
    async def fault(self) -> AsyncGenerator[None, None]:
        if self._broker is None:
            raise TypeError("only an embedded broker can be paused")
        await asyncio.to_thread(self._broker.pause)
        try:
            await asyncio.to_thread(_wait_until_silent, self._broker.bootstrap_servers)
            yield
        finally:
            await asyncio.to_thread(self._broker.resume)
            await asyncio.to_thread(self._broker.wait_until_ready)


class RedpandaUnderTest(KafkaUnderTest):
    """`RedpandaEventBusAdapter`, on whatever speaks the protocol."""

    adapter = RedpandaEventBusAdapter


def _wait_until_silent(address: str) -> None:
    """Wait until a paused broker answers no more: SIGSTOP does not stop all threads at once."""
    while cluster_view(address, timeout_s=0.1) is not None:
        pass
