"""Topics on a real broker, written with the bare client and read through `KafkaSource`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from spile.adapters.kafka import KafkaAdmin, KafkaSettings, KafkaSource
from spile.topics import TopicSetup


class Listener:
    """Remembers what the group decided; tests replace `on_assigned` and `on_revoked`."""

    def __init__(self) -> None:
        self.assigned_to: list[tuple[str, int]] = []
        self.revoked_from: list[tuple[str, int]] = []
        self.on_assigned: Callable[[Sequence[tuple[str, int]]], Any] | None = None
        self.on_revoked: Callable[[Sequence[tuple[str, int]]], Any] | None = None

    async def assigned(self, partitions: Sequence[tuple[str, int]]) -> None:
        if self.on_assigned is not None:
            await self.on_assigned(partitions)
        self.assigned_to.extend(partitions)

    async def revoked(self, partitions: Sequence[tuple[str, int]]) -> None:
        if self.on_revoked is not None:
            await self.on_revoked(partitions)
        self.revoked_from.extend(partitions)


class KafkaBench:
    """What the tests do again and again."""

    Listener = Listener

    def __init__(self, settings: KafkaSettings, unique: Callable[[str], str]) -> None:
        self.settings = settings
        self.unique = unique
        self._stack = contextlib.AsyncExitStack()
        self._producer: AIOKafkaProducer | None = None

    async def topic(self, partitions: int = 1, name: str = "", **config: str) -> str:
        """Make a topic; settings with `_` for `.`."""
        name = name or f"dev.{self.unique('t')}.a.b.v1"
        async with KafkaAdmin(self.settings) as admin:
            await admin.create(
                TopicSetup(
                    topic=name,
                    partitions=partitions,
                    replication=1,
                    config={key.replace("_", "."): value for key, value in config.items()},
                )
            )
        return name

    async def producer(self, **options: Any) -> AIOKafkaProducer:
        """Start a bare producer that is stopped at the end."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.settings.bootstrap_servers, acks="all", **options
        )
        await producer.start()
        self._stack.push_async_callback(producer.stop)
        return producer

    async def send(self, topic: str, *values: bytes, partition: int = 0) -> None:
        """Write values, each in a batch of its own."""
        if self._producer is None:
            self._producer = await self.producer()
        for value in values:
            await self._producer.send_and_wait(topic, value, partition=partition)

    async def source(
        self, topics: Sequence[str], group: str = "", listener: Listener | None = None, **more: Any
    ) -> KafkaSource:
        """Open a source that is closed at the end; settings by name."""
        on_quarantine = more.pop("on_quarantine", None)
        settings = self.settings.model_copy(update=more)
        source = KafkaSource(
            settings, topics, group or self.unique("g"), on_quarantine=on_quarantine
        )
        self._stack.push_async_callback(source.close)
        await source.open(listener or Listener())
        return source

    @staticmethod
    async def read(source: KafkaSource, count: int, limit_s: float = 10.0) -> list[Any]:
        """Poll until that many records came."""
        records: list[Any] = []
        until = time.monotonic() + limit_s
        while len(records) < count and time.monotonic() < until:
            for taken in (await source.poll(timeout_s=0.3, max_records=500)).values():
                records += taken
        return records

    @staticmethod
    async def polling(
        source: KafkaSource, until: Callable[[], bool], limit_s: float = 15.0
    ) -> None:
        """Poll and drop until something holds."""
        async with asyncio.timeout(limit_s):
            while not until():
                await source.poll(timeout_s=0.05, max_records=500)

    async def close(self) -> None:
        """Close what was opened, last first."""
        await self._stack.aclose()


@pytest.fixture
def kafka_settings(kafka: str) -> KafkaSettings:
    """Settings for the session's broker whose waits are short."""
    return KafkaSettings(
        environment="test",
        bootstrap_servers=kafka,
        session_timeout_ms=6_000,
        heartbeat_interval_ms=200,
        start_timeout_ms=10_000,
    )


@pytest.fixture
async def bench(
    kafka_settings: KafkaSettings, unique: Callable[[str], str]
) -> AsyncIterator[KafkaBench]:
    """The session's broker with everything to read and write it."""
    made = KafkaBench(kafka_settings, unique)
    yield made
    await made.close()


@pytest.fixture
def kafka_bench(unique: Callable[[str], str]) -> Callable[[KafkaSettings], KafkaBench]:
    """Make a bench for a broker of one's own; close it yourself."""
    return lambda settings: KafkaBench(settings, unique)
