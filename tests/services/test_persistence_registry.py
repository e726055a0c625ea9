"""The persistence worker and a real schema registry, which may be away."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import structlog

from spile.adapters.delivery import Backoff, OutgoingEvent, OutgoingRecord
from spile.adapters.memory import MemoryEventBus
from spile.adapters.publishing import EventPublisher
from spile.adapters.registry import HttpSchemaRegistry, SchemaFraming
from spile.adapters.subscribing import SubscriptionOptions
from spile.adapters.wire import AvroForm, Opener
from spile.services.persistence import EventFilter, persistence_worker
from spile.services.runtime import WorkerSettings, run_worker
from spile.testkit.registry import EmbeddedRegistry
from spile.topics import default_catalogue
from spile.topics.events import PreToolUseEvent

pytestmark = pytest.mark.kafka  # a server that is started
CATALOGUE = default_catalogue()
TOPIC = "dev.agent.tool.recorded.v1"
ALL = EventFilter()
QUICK = Backoff(initial_s=0.05, max_s=0.1)


@pytest.fixture
async def bus():
    """A bus in memory that closes in the end."""
    async with MemoryEventBus(
        options=SubscriptionOptions(poll_timeout_s=0.02, backoff=QUICK)
    ) as opened:
        yield opened


@contextlib.asynccontextmanager
async def _registry(url: str, timeout_s: float) -> AsyncIterator[HttpSchemaRegistry]:
    async with HttpSchemaRegistry(url, timeout_s=timeout_s, retries=0) as registry:
        yield registry


async def _publish(bus, registry, count):
    publisher = EventPublisher(
        bus.cluster.sender(),
        CATALOGUE,
        environment="dev",
        service="agent",
        form=AvroForm(registry),
    )
    events = [
        PreToolUseEvent(agent_id=uuid4(), tool_name="Read", parameters={"n": n})
        for n in range(count)
    ]
    batch = [OutgoingEvent(event_type="PRE_TOOL_USE", payload=event) for event in events]
    assert all(await publisher.publish_many(batch))
    return events


@contextlib.asynccontextmanager
async def _persisting(bus, database, registry):
    stop = asyncio.Event()
    async with (
        persistence_worker(
            WorkerSettings(store=str(database)),
            catalogue=CATALOGUE,
            environment="dev",
            dead_letters=bus.adapter.dead_letters,
            opener=Opener(SchemaFraming(registry)),
        ) as worker,
        asyncio.timeout(20),
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(run_worker(worker, bus, WorkerSettings(), stop=stop))
        yield worker.offsets
        stop.set()


async def _until(store, count):
    while await store.count(ALL) < count:  # noqa: ASYNC110 - a store tells nobody
        await asyncio.sleep(0.01)


async def test_avro_waits_for_the_registry_and_an_unknown_id_does_not(bus, database):
    """
    While the registry hangs, framed events wait: none is lost, none goes to the dead letter queue.

    When it answers, they are stored as JSON; an id that it does not know goes there with its
    reason, and the events behind it are stored.
    """
    with EmbeddedRegistry() as server:
        async with _registry(server.url, 10) as writing, _registry(server.url, 0.5) as reading:
            (first, *_) = await _publish(bus, writing, 20)
            server.pause()
            async with _persisting(bus, database, reading) as store:
                with structlog.testing.capture_logs() as logs:
                    async with asyncio.timeout(10):
                        while sum("same batch again" in log["event"] for log in logs) < 3:  # noqa: ASYNC110 - nor a log
                            await asyncio.sleep(0.02)
                assert await store.count(ALL) == 0
                server.resume()
                await _until(store, 20)
                assert bus.cluster.records(f"{TOPIC}.dlq") == []

                await _forge(bus)
                await _publish(bus, writing, 5)
                await _until(store, 25)
                (stored, *_) = await store.query(EventFilter(limit=100))
            assert stored.event_id == first.event_id
            assert stored.newest(CATALOGUE)["payload"]["payload"]["parameters"] == {"n": 0}
            (dead,) = bus.cluster.records(f"{TOPIC}.dlq")
            assert dead.value == struct.pack(">bI", 0, 4711) + b"x"
            assert b"4711" in dict(dead.headers)["x-spile-dlq-error-message"]


async def _forge(bus):
    record = bus.cluster.records(TOPIC)[0]
    value = struct.pack(">bI", 0, 4711) + b"x"
    forged = OutgoingRecord(TOPIC, record.key, value, list(record.headers))
    assert not (await bus.cluster.sender().send([forged])).failures
