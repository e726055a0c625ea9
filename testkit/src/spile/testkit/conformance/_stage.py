"""What the tests of the suite do again and again, every wait with a limit."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

import pytest

from spile.spi import (
    BatchHandler,
    MessageHandler,
    MessageKey,
    ProtocolBatchPublisher,
    ProtocolEventBus,
    ProtocolEventBusHeaders,
    ProtocolEventMessage,
    ProtocolEventPublisher,
    ProtocolOffsetStore,
    ProtocolRecord,
    ProtocolSubscription,
    Unsubscribe,
)
from spile.testkit.conformance._bus_under_test import BusUnderTest, Outgoing, RawHeaders

if TYPE_CHECKING:
    from pydantic import BaseModel

EVENT_TYPE = "CONFORMANCE_CHECKED"
"""Type of the events that are published without a model."""

_LOOK_AGAIN_S = 0.005


class Delivered(Protocol):
    """What messages and records have in common."""

    @property
    def topic(self) -> str: ...

    @property
    def key(self) -> MessageKey: ...

    @property
    def value(self) -> bytes | None: ...


class Inbox:
    """
    Keeps what comes; itself a message handler, and `batch` is a batch handler.

    Args:
        limit_s: Longest wait.
        then: Called with each message after it is kept; what it raises, the handler raises.

    Attributes:
        messages: Messages in the order of their coming.
        records: Records of batches, likewise.
        batches: Values of each batch.
    """

    def __init__(self, limit_s: float, then: MessageHandler | None = None) -> None:
        self.messages: list[ProtocolEventMessage] = []
        self.records: list[ProtocolRecord] = []
        self.batches: list[list[bytes | None]] = []
        self._limit_s = limit_s
        self._then = then
        self._changed = asyncio.Event()

    async def __call__(self, message: ProtocolEventMessage) -> None:
        """Keep a message."""
        self.messages.append(message)
        self._changed.set()
        if self._then is not None:
            await self._then(message)

    async def batch(self, records: Sequence[ProtocolRecord]) -> None:
        """Keep the records of a batch."""
        self.records.extend(records)
        self.batches.append([record.value for record in records])
        self._changed.set()

    @property
    def items(self) -> list[Delivered]:
        """All that came."""
        return [*self.messages, *self.records]

    @property
    def values(self) -> list[bytes | None]:
        """Values of all that came."""
        return [item.value for item in self.items]

    async def full(self, count: int) -> list[bytes | None]:
        """Wait for so many and return the values."""
        await self.until(lambda: len(self.items) >= count, f"{count} messages")
        return self.values

    async def has(self, *values: bytes) -> list[bytes | None]:
        """Wait until all these values came, whatever else did, and return what came."""
        await self.until(lambda: set(values) <= set(self.values), f"all of {_short(values)}")
        return self.values

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds; looked at after each message."""
        try:
            async with asyncio.timeout(self._limit_s):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pytest.fail(f"waited {self._limit_s} s for {what}; got {_short(self.values)}")


class Stage:
    """
    Topics, groups, buses and publishers of one test; an async context manager that closes them.

    Args:
        under_test: Makes them.
    """

    def __init__(self, under_test: BusUnderTest) -> None:
        self.under_test = under_test
        self._stack = AsyncExitStack()
        self._gates: list[asyncio.Event] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for gate in self._gates:
            gate.set()
        async with self.limit("closing what the test opened"):
            await self._stack.aclose()

    @asynccontextmanager
    async def limit(self, what: str) -> AsyncGenerator[None, None]:
        """Fail the test when the body takes longer than the limit of the bus under test."""
        limit_s = self.under_test.limit_s
        timeout = asyncio.timeout(limit_s)
        try:
            async with timeout:
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            pytest.fail(f"{what} took longer than {limit_s} s")

    async def settle(self, holds: Callable[[], Any], what: str) -> None:
        """Wait until a coroutine function returns something true; for state outside of the bus."""
        async with self.limit(what):
            while not await holds():  # noqa: ASYNC110 - nobody tells of foreign state
                await asyncio.sleep(_LOOK_AGAIN_S)

    def name(self, stem: str = "checked") -> str:
        """Return the full name of a topic that is not there."""
        return f"{self.under_test.environment}.conformance.{stem}-{uuid.uuid4().hex[:12]}.done.v1"

    async def topic(self, partitions: int = 1, name: str = "") -> str:
        """Make a topic and return its full name."""
        name = name or self.name()
        async with self.limit("creating a topic"):
            await self.under_test.create_topic(name, partitions)
        return name

    @staticmethod
    def group() -> str:
        """Return the id of a new group."""
        return f"conformance-{uuid.uuid4().hex[:12]}"

    def bus(self) -> ProtocolEventBus:
        """Return a new bus that is closed at the end."""
        bus = self.under_test.bus()
        self._stack.push_async_callback(bus.close)
        return bus

    def inbox(self, then: MessageHandler | None = None) -> Inbox:
        """Return a new inbox."""
        return Inbox(self.under_test.limit_s, then)

    def gate(self) -> asyncio.Event:
        """Return an event for handlers to wait for; set at the end at the latest."""
        gate = asyncio.Event()
        self._gates.append(gate)
        return gate

    async def publish(
        self,
        bus: ProtocolEventBus,
        topic: str,
        *values: bytes,
        key: MessageKey = b"k",
        headers: ProtocolEventBusHeaders | None = None,
    ) -> None:
        """Publish values one after the other."""
        async with self.limit("publishing"):
            for value in values:
                await bus.publish(topic, key, value, headers)

    async def write(
        self,
        bus: ProtocolEventBus,
        topic: str,
        value: bytes | None,
        headers: RawHeaders,
        *,
        key: MessageKey = b"k",
    ) -> None:
        """Write a record with headers as bytes."""
        async with self.limit("writing"):
            await self.under_test.write(bus, topic, key, value, headers)

    async def subscribe(
        self,
        bus: ProtocolEventBus,
        topic: str,
        group: str,
        handler: MessageHandler,
        *,
        manual_ack: bool = False,
    ) -> Unsubscribe:
        """Subscribe and return a bounded `unsubscribe`."""
        async with self.limit("subscribing"):
            if manual_ack:
                end = await self.under_test.subscribe_manually(bus, topic, group, handler)
            else:
                end = await bus.subscribe(topic, group, handler)

        async def unsubscribe() -> None:
            async with self.limit("unsubscribing"):
                await end()

        return unsubscribe

    async def subscribe_batches(
        self,
        bus: ProtocolEventBus,
        topics: Sequence[str],
        group: str,
        handler: BatchHandler,
        *,
        offsets: ProtocolOffsetStore | None = None,
    ) -> ProtocolSubscription:
        """Subscribe to batches; the subscription is closed with its bus."""
        subscriber = self.under_test.batch_subscriber(bus)
        async with self.limit("subscribing"):
            return await subscriber.subscribe_batches(topics, group, handler, offsets=offsets)

    async def read(self, topic: str, count: int) -> list[ProtocolRecord]:
        """Read a topic from its beginning with a group and bus of its own, through batches."""
        inbox = self.inbox()
        bus = self.under_test.bus()
        try:
            await self.subscribe_batches(bus, [topic], self.group(), inbox.batch)
            await inbox.full(count)
        finally:
            await self.close(bus)
        return inbox.records

    async def read_messages(self, topic: str, count: int) -> list[ProtocolEventMessage]:
        """Read a topic from its beginning with a group and bus of its own."""
        inbox = self.inbox()
        bus = self.under_test.bus()
        try:
            await self.subscribe(bus, topic, self.group(), inbox)
            await inbox.full(count)
        finally:
            await self.close(bus)
        return inbox.messages

    async def close(self, what: ProtocolEventBus | ProtocolEventPublisher) -> None:
        """Close a bus or a publisher."""
        async with self.limit("closing"):
            await what.close()

    async def count(self, topic: str) -> int:
        """Count the records of a topic."""
        async with self.limit("counting"):
            return await self.under_test.count(topic)

    async def committed(self, group: str, topic: str) -> Mapping[int, int]:
        """Return the offsets that a group reads next, by partition, without zeros."""
        async with self.limit("asking for offsets"):
            offsets = await self.under_test.committed(group, topic)
        return {partition: offset for partition, offset in offsets.items() if offset}

    async def committed_reach(self, group: str, topic: str, count: int) -> None:
        """Wait until a group has committed so many records of a topic."""

        async def reached() -> bool:
            return sum((await self.committed(group, topic)).values()) >= count

        await self.settle(reached, f"committing {count} records")

    async def publish_keys(self, bus: ProtocolEventBus, topic: str) -> int:
        """Publish a record of each of 24 keys, so that all partitions get some; return 24."""
        names = [f"key-{number}".encode() for number in range(24)]
        for name in names:
            await self.publish(bus, topic, b"hello", key=name)
        return len(names)

    def publisher(
        self,
        topic: str,
        models: Mapping[str, type[BaseModel] | None] | None = None,
        **breaker: Any,
    ) -> ProtocolEventPublisher:
        """Return a new publisher that is closed at the end."""
        models = models or {EVENT_TYPE: None}
        publisher = self.under_test.publisher(topic, models, **breaker)
        self._stack.push_async_callback(publisher.close)
        return publisher

    async def publish_many(
        self, publisher: ProtocolEventPublisher, events: Sequence[Outgoing]
    ) -> Sequence[bool]:
        """Publish events with one await."""
        many = cast("ProtocolBatchPublisher[Any]", publisher)
        async with self.limit("publishing many"):
            return await many.publish_many([self.under_test.outgoing(event) for event in events])


def _short(values: Sequence[object]) -> str:
    shown = ", ".join(repr(value)[:60] for value in values[:20])
    return f"[{shown}{', ...' if len(values) > 20 else ''}] ({len(values)})"
