"""Requests and answers on a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
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
from spile.spi import DeliveryTimeoutError
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

    async def responder(self, handler, **more):
        adapter = KafkaEventBusAdapter(self.settings, self.catalogue)
        responder = Responder(
            self.trio,
            handler,
            bus=await self.stack.enter_async_context(KafkaEventBus(adapter)),
            group="probes",
            publisher=await self.publisher("answerer"),
            catalogue=self.catalogue,
            environment="test",
            **more,
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


async def test_a_second_responder_takes_over_what_waits(stage):
    """What waits in one responder is handled once when another one joins."""
    calls = Counter()

    async def slow(request):
        calls[request.source_path] += 1
        await asyncio.sleep(0.05)
        return await answer(request)

    client = await stage.client()
    await stage.responder(slow, concurrency=5)
    asked = [
        asyncio.ensure_future(client.request(question(number), timeout_ms=60_000))
        for number in range(300)
    ]
    async with asyncio.timeout(30):
        while len(calls) < 10:  # noqa: ASYNC110 - a foreign state
            await asyncio.sleep(0.01)
    second = await stage.responder(slow, concurrency=5)
    told = await asyncio.gather(*asked)
    assert [one.total_count for one in told] == list(range(300))
    assert second.counts.completed > 0
    # Besides those that the first had in hand when the second came, one commit's worth of answers.
    assert sum(calls.values()) <= 320


async def test_a_clock_that_is_ahead(stage):
    """A responder whose clock is an hour ahead answers what came since it last read to the end."""
    client = await stage.client()
    await stage.responder(answer, clock=lambda: time.time() + 3600, look_every_s=0.1)
    for number in range(100):
        with contextlib.suppress(DeliveryTimeoutError):
            await client.request(question(number), timeout_ms=1000)
            break
    answers = [await client.request(question(number), timeout_ms=5000) for number in range(20)]
    assert [one.total_count for one in answers] == list(range(20))
