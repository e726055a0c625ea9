"""Requests and answers on a real broker."""

from __future__ import annotations

import asyncio
import contextlib
from itertools import chain

import pytest

from spile.adapters.kafka import (
    KafkaAdmin,
    KafkaEventBus,
    KafkaEventBusAdapter,
    KafkaLogReader,
    KafkaSettings,
    create_publisher,
)
from spile.adapters.requesting import RequestClient, Responder, Trio
from spile.topics import Catalogue, TopicSpec, plan
from spile.topics.events.requests import (
    CodeAnalysisCompleted,
    CodeAnalysisFailed,
    CodeAnalysisRequested,
)

pytestmark = pytest.mark.kafka


class Stage:
    """A trio of its own on the session's broker, with what asks and answers on it."""

    def __init__(self, bootstrap, suffix, stack):
        self.settings = KafkaSettings(
            environment="test",
            bootstrap_servers=bootstrap,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
        )
        self.trio = Trio(
            name=f"PROBE_{suffix.upper()}",
            requested=CodeAnalysisRequested,
            completed=CodeAnalysisCompleted,
            failed=CodeAnalysisFailed,
        )
        models = {
            "requested": CodeAnalysisRequested,
            "completed": CodeAnalysisCompleted,
            "failed": CodeAnalysisFailed,
        }
        self.catalogue = Catalogue(
            [
                TopicSpec(
                    name=f"probe.p{suffix}.probe-{step}.v1",
                    owner="tests",
                    partitions=3,
                    models={f"{self.trio.name}_{step.upper()}": model},
                )
                for step, model in models.items()
            ]
        )
        self.stack = stack

    async def make_topics(self):
        async with KafkaAdmin(self.settings) as admin:
            wanted = self.catalogue.topics("test")
            described = await admin.describe()
            await admin.apply(plan(wanted, described, brokers=1, environment="test"))

    async def publisher(self, service):
        made = create_publisher(self.settings, self.catalogue, service=service)
        return await self.stack.enter_async_context(made)

    async def client(self):
        client = RequestClient(
            self.trio,
            publisher=await self.publisher("asker"),
            open_reader=lambda: KafkaLogReader(self.settings),
            catalogue=self.catalogue,
            environment="test",
        )
        return await self.stack.enter_async_context(client)

    async def responder(self, handler):
        adapter = KafkaEventBusAdapter(self.settings, self.catalogue)
        responder = Responder(
            self.trio,
            handler,
            bus=await self.stack.enter_async_context(KafkaEventBus(adapter)),
            group="probes",
            publisher=await self.publisher("answerer"),
            catalogue=self.catalogue,
            environment="test",
        )
        return await self.stack.enter_async_context(responder)


@pytest.fixture
async def stage(kafka, topic_suffix):
    async with contextlib.AsyncExitStack() as stack:
        made = Stage(kafka, f"x{topic_suffix}", stack)
        await made.make_topics()
        yield made


async def answer(request):
    return CodeAnalysisCompleted(patterns=[], query_time_ms=1, total_count=int(request.source_path))


def question(number):
    return CodeAnalysisRequested(operation_type="COUNT", source_path=str(number))


async def test_two_clients(stage):
    """Clients side by side get their own answers, all of them; the floors are the benchmark's."""
    responder = await stage.responder(answer)
    clients = [await stage.client() for _ in range(2)]
    numbers = iter(range(400))

    async def worker():
        told = []
        for number in numbers:
            answered = await clients[number % 2].request(question(number), timeout_ms=30_000)
            told.append((number, answered.total_count))
        return told

    pairs = chain.from_iterable(await asyncio.gather(*(worker() for _ in range(10))))
    assert sorted(pairs) == [(number, number) for number in range(400)]
    assert responder.counts.completed == 400
    assert [client.counts.duplicates for client in clients] == [0, 0]


async def test_a_responder_that_ends_is_followed(stage):
    """A request that was not answered when its responder ended is answered by the next one."""
    begun = asyncio.Event()

    async def hang(request):
        begun.set()
        await asyncio.Event().wait()

    client = await stage.client()
    first = await stage.responder(hang)
    asked = asyncio.ensure_future(client.request(question(7), timeout_ms=60_000))
    async with asyncio.timeout(30):
        await begun.wait()
    # What a kill does to the responder: nothing more of it runs, nothing is committed.
    await first._tasks.close()
    await first.close()
    await stage.responder(answer)
    assert (await asked).total_count == 7
