"""Outboxes in both databases, on a real PostgreSQL and in a file of SQLite."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from spile.adapters.delivery import Backoff, OutgoingEvent
from spile.adapters.memory import MemoryCluster
from spile.adapters.outbox import OutboxRelay, SqliteOutbox, SqliteOutboxStore
from spile.adapters.outbox.postgres import PostgresOutbox, PostgresOutboxStore
from spile.adapters.publishing import EventEncoder
from spile.testkit.postgres import EmbeddedPostgres
from spile.topics import Catalogue, TopicSpec, decode_envelope

TOPIC = "test.shop.orders.order-placed.v1"
OTHER = "test.shop.orders.order-paid.v1"
QUICK = Backoff(initial_s=0.005, factor=1.0, max_s=0.005, jitter=0.0)


def catalogue() -> Catalogue:
    """Orders, keyed by their order."""
    return Catalogue(
        [
            TopicSpec(
                name=f"shop.orders.order-{step}.v1",
                owner="tests",
                partitions=3,
                models={f"ORDER_{step.upper()}": None},
                key="order",
            )
            for step in ("placed", "paid")
        ]
    )


def event(order: str, number: int = 0, **more: object) -> OutgoingEvent:
    """An event of an order."""
    payload = {"order": order, "number": number}
    return OutgoingEvent(event_type="ORDER_PLACED", payload=payload, **more)


class Shop:
    """An application with a table of orders, and an outbox beside it; of either database."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster({TOPIC: 3, OTHER: 3})
        self.encoder = EventEncoder(catalogue(), environment="test", service="shop")

    def relay(self, store=None, **more):
        sender = more.pop("sender", None) or self.cluster.sender()
        return OutboxRelay(store or self.store, sender, backoff=QUICK, **more)

    def sent(self, topic=TOPIC):
        """What stands in the topic: order and number, in the order of the log."""
        found = []
        for record in sorted(self.cluster.records(topic), key=lambda r: (r.partition, r.offset)):
            payload = decode_envelope(record.value).payload_json
            found.append(payload)
        return found

    def ids(self):
        return [str(decode_envelope(r.value).event_id) for r in self.cluster.records(TOPIC)]

    @contextlib.asynccontextmanager
    async def running(self, relay):
        """Run a relay while this lasts."""
        task = asyncio.ensure_future(relay.run())
        try:
            yield task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def counts(self):
        """Count the rows on a connection of its own, beside a relay that runs."""
        async with self.new_store() as store:
            return await store.counts()

    async def until_sent(self, count):
        """Wait until so many rows are marked."""
        async with asyncio.timeout(10):
            while (await self.counts()).sent < count:  # noqa: ASYNC110 - rows have no event
                await asyncio.sleep(0.005)

    @staticmethod
    async def until(condition):
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - conditions over foreign state
                await asyncio.sleep(0.005)


class SqliteShop(Shop):
    kind = "sqlite"

    def __init__(self, path) -> None:
        super().__init__()
        self.path = path
        self.connection = sqlite3.connect(path)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.outbox = SqliteOutbox(self.encoder)
        self.outbox.create_table(self.connection)
        self.store = self.new_store()

    def new_store(self):
        return SqliteOutboxStore(self.path, lease_s=0.5)

    async def place(self, *events):
        with self.connection:
            return [self.outbox.add(self.connection, one) for one in events]

    async def place_and_fail(self, *events):
        with contextlib.suppress(ZeroDivisionError), self.connection:
            for one in events:
                self.outbox.add(self.connection, one)
            raise ZeroDivisionError

    async def execute(self, statement):
        with self.connection:
            self.connection.execute(statement)

    async def close(self):
        await self.store.close()
        self.connection.close()


class PostgresShop(Shop):
    kind = "postgres"

    def __init__(self, dsn) -> None:
        super().__init__()
        self.dsn = dsn
        self.store = self.new_store()
        self.outbox = PostgresOutbox(self.encoder)

    async def open(self):
        self.connection = await asyncpg.connect(self.dsn)
        await self.outbox.create_table(self.connection)

    def new_store(self):
        return PostgresOutboxStore(self.dsn)

    async def place(self, *events):
        async with self.connection.transaction():
            return [await self.outbox.add(self.connection, one) for one in events]

    async def place_and_fail(self, *events):
        with contextlib.suppress(ZeroDivisionError):
            async with self.connection.transaction():
                for one in events:
                    await self.outbox.add(self.connection, one)
                raise ZeroDivisionError

    async def execute(self, statement):
        await self.connection.execute(statement)

    async def close(self):
        await self.store.close()
        await self.connection.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A real PostgreSQL for the session."""
    with EmbeddedPostgres() as started:
        yield started


@pytest.fixture
async def postgres_dsn(postgres: EmbeddedPostgres) -> str:
    """The session's database, without tables of an earlier test."""
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute("DROP TABLE IF EXISTS spile_outbox, orders")
    await connection.close()
    return postgres.dsn


@pytest.fixture
async def postgres_shop(postgres_dsn) -> AsyncIterator[PostgresShop]:
    made = PostgresShop(postgres_dsn)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def sqlite_shop(tmp_path) -> AsyncIterator[SqliteShop]:
    made = SqliteShop(tmp_path / "shop.db")
    yield made
    await made.close()


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest) -> Shop:
    """A shop on each database in turn."""
    return request.getfixturevalue(f"{request.param}_shop")


@pytest.fixture
def make_event():
    return event
