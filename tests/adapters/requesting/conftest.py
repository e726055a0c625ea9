"""A bus in memory with clients and responders on it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from spile.adapters.delivery import Backoff
from spile.adapters.memory import MemoryCluster, MemoryEventBus
from spile.adapters.publishing import EventPublisher
from spile.adapters.requesting import CODE_ANALYSIS, RequestClient, Responder
from spile.adapters.subscribing import SubscriptionOptions
from spile.topics import default_catalogue
from spile.topics.events.requests import (
    CodeAnalysisCompleted,
    CodeAnalysisRequested,
    CodePattern,
)

QUICK = Backoff(initial_s=0.002, factor=1.0, max_s=0.002, jitter=0.0)
OPTIONS = SubscriptionOptions(poll_timeout_s=0.02, commit_interval_s=0.005, backoff=QUICK)


async def analyse(request):
    """The least handler: one pattern named after the path."""
    pattern = CodePattern(name=request.source_path or "none")
    return CodeAnalysisCompleted(patterns=[pattern], query_time_ms=1, total_count=1)


class Stage:
    """A cluster, a bus, and clients and responders on it."""

    def __init__(self, stack, catalogue=None):
        self.stack = stack
        self.catalogue = catalogue or default_catalogue()
        self.cluster = MemoryCluster.of_catalogue(self.catalogue, "dev")
        self.bus = MemoryEventBus(self.cluster, options=OPTIONS)
        self.publisher = self.make_publisher("asker")

    @staticmethod
    def question(path="a.py", **more):
        return CodeAnalysisRequested(operation_type="PATTERN_EXTRACTION", source_path=path, **more)

    analyse = staticmethod(analyse)

    def make_publisher(self, service):
        return EventPublisher(
            self.cluster.sender(), self.catalogue, environment="dev", service=service
        )

    async def client(self, trio=CODE_ANALYSIS, **more):
        client = RequestClient(
            trio,
            publisher=self.publisher,
            open_reader=self.cluster.reader,
            catalogue=self.catalogue,
            environment="dev",
            **more,
        )
        return await self.stack.enter_async_context(client)

    async def responder(self, handler=analyse, trio=CODE_ANALYSIS, **more):
        responder = Responder(
            trio,
            handler,
            bus=more.pop("bus", self.bus),
            group="analysers",
            publisher=more.pop("publisher", self.publisher),
            catalogue=self.catalogue,
            environment="dev",
            backoff=QUICK,
            **more,
        )
        return await self.stack.enter_async_context(responder)

    def committed(self):
        return sum(self.cluster.committed("analysers").values())

    async def until(self, condition):
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - conditions over foreign state
                await asyncio.sleep(0.002)


@pytest.fixture
async def make_stage():
    """Return what makes a stage for a catalogue, the default one by default."""
    async with contextlib.AsyncExitStack() as stack:
        made = []

        def make(catalogue=None):
            made.append(Stage(stack, catalogue))
            stack.push_async_callback(made[-1].bus.close)
            return made[-1]

        yield make
        for one in made:
            one.cluster.faults.clear()


@pytest.fixture
def stage(make_stage):
    return make_stage()
