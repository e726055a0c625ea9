"""The bus in memory, ready for the suite."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from pydantic import BaseModel
from typing_extensions import override

from spile.adapters.bus import BusAdapter, EventBus
from spile.adapters.delivery import Backoff, OutgoingEvent, OutgoingRecord
from spile.adapters.memory import MemoryCluster, MemoryEventBus
from spile.adapters.publishing import CircuitBreaker, EventPublisher
from spile.adapters.subscribing import Retries, SubscriptionOptions
from spile.spi import BrokerUnavailableError, MessageKey, ProtocolEventBus
from spile.testkit.conformance._bus_under_test import BusUnderTest, Outgoing, RawHeaders
from spile.topics import Catalogue, TopicName, TopicSpec

QUICK = Backoff(initial_s=0.002, factor=1.0, max_s=0.002, jitter=0.0)
"""Hardly any wait between attempts."""

OPTIONS = SubscriptionOptions(
    poll_timeout_s=0.02,
    commit_interval_s=0.005,
    drain_limit_s=2.0,
    close_limit_s=2.0,
    keepalive_s=0.02,
    backoff=QUICK,
)
"""Short waits, for tests on memory."""


class MemoryUnderTest(BusUnderTest):
    """
    The bus in memory; each test gets a cluster of its own.

    Attributes:
        cluster: Of the present test.
    """

    limit_s = 5.0

    def __init__(self) -> None:
        self.cluster = MemoryCluster()

    @override
    async def begin(self) -> None:
        self.cluster = MemoryCluster()

    @override
    async def create_topic(self, name: str, partitions: int) -> None:
        self.cluster.create_topic(name, partitions)
        self.cluster.create_topic(f"{name}.dlq", partitions)

    @override
    def bus(self) -> ProtocolEventBus:
        return MemoryEventBus(
            self.cluster,
            environment=self.environment,
            options=OPTIONS,
            retries=Retries(limit=self.retries, backoff=QUICK),
        )

    @override
    async def count(self, topic: str) -> int:
        return len(self.cluster.records(topic))

    @override
    async def committed(self, group_id: str, topic: str) -> Mapping[int, int]:
        offsets = self.cluster.committed(group_id)
        return {number: offset for (name, number), offset in offsets.items() if name == topic}

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
        return EventPublisher(
            self.cluster.sender(),
            catalogue_of(topic, models),
            environment=self.environment,
            service="conformance",
            breaker=CircuitBreaker(threshold=breaker_threshold, reset_after_s=breaker_reset_s),
        )

    @override
    def outgoing(self, event: Outgoing) -> OutgoingEvent:
        return outgoing_event(event)

    @override
    @asynccontextmanager
    async def fault(self) -> AsyncGenerator[None, None]:
        async def away(operation: str, _about: object) -> None:
            if operation == "send":
                raise BrokerUnavailableError("the broker was taken away by the test")

        self.cluster.faults.hook = away
        try:
            yield
        finally:
            self.cluster.faults.clear()


async def write_record(
    bus: ProtocolEventBus, topic: str, key: MessageKey, value: bytes | None, headers: RawHeaders
) -> None:
    """Write a record with headers as bytes, through the adapter of a bus of ours."""
    if not isinstance(bus, EventBus):
        raise TypeError(f"expected an EventBus of spile.adapters, got {type(bus).__name__}")
    adapter: BusAdapter = bus.adapter
    await adapter.publish_record(OutgoingRecord(topic, key, value, list(headers)))


def catalogue_of(topic: str, models: Mapping[str, type[BaseModel] | None]) -> Catalogue:
    """Return a catalogue with one topic, given by its full name."""
    environment = TopicName.parse(topic).environment or ""
    logical = topic.removeprefix(f"{environment}.")
    return Catalogue([TopicSpec(name=logical, owner="conformance", models=models)])


def outgoing_event(event: Outgoing) -> OutgoingEvent:
    """Return the event that our publishers take."""
    return OutgoingEvent(
        event_type=event.event_type,
        payload=event.payload,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        metadata=event.metadata,
        topic=event.topic,
        partition_key=event.partition_key,
        event_id=event.event_id,
        timestamp=event.timestamp,
    )
