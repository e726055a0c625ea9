"""
A shop that takes orders in its own database and tells the bus about each, by an outbox.

    spile up                                   # a Kafka on this machine
    python examples/outbox/shop.py             # orders in shop.db
    python examples/outbox/shop.py postgresql://user:password@host/shop

Takes five orders, one of which fails and takes its event along, publishes the others, and prints
their events as they come from the bus. Settings come from SPILE_*, such as SPILE_BOOTSTRAP_SERVERS.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable

import asyncpg

from spile.adapters.delivery import OutgoingEvent
from spile.adapters.kafka import KafkaAdmin, KafkaLogReader, KafkaSender, KafkaSettings
from spile.adapters.outbox import OutboxRelay, OutboxStore, SqliteOutbox, SqliteOutboxStore
from spile.adapters.outbox.postgres import PostgresOutbox, PostgresOutboxStore
from spile.adapters.publishing import EventEncoder
from spile.topics import TICK, Catalogue, TopicSpec, decode_envelope, plan

CATALOGUE = Catalogue(
    [
        TopicSpec(
            name="outbox-shop.orders.order-placed.v1",
            owner="outbox-shop",
            models={"ORDER_PLACED": None},  # a pydantic model would be checked here
            key="customer",
        )
    ]
)
ORDERS = [("ada", 3), ("bob", 1), ("ada", 0), ("cyd", 2), ("ada", 7)]


def check(pieces: int) -> None:
    """Refuse an order of nothing, late: order and event are written already."""
    if not pieces:
        raise ValueError("an order of nothing")


def order_placed(customer: str, pieces: int) -> OutgoingEvent:
    """Return the event of an order."""
    payload = {"customer": customer, "pieces": pieces}
    return OutgoingEvent(event_type="ORDER_PLACED", payload=payload)


def take_orders_sqlite(path: str, encoder: EventEncoder) -> list[str]:
    """Write each order and its event in one transaction; the ids of the events that stand."""
    outbox, taken = SqliteOutbox(encoder), list[str]()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        outbox.create_table(connection)
        connection.execute("CREATE TABLE IF NOT EXISTS orders (customer TEXT, pieces INTEGER)")
        for customer, pieces in ORDERS:
            with contextlib.suppress(ValueError), connection:
                connection.execute("INSERT INTO orders VALUES (?, ?)", (customer, pieces))
                event_id = outbox.add(connection, order_placed(customer, pieces))
                check(pieces)
                taken.append(event_id)
    return taken


async def take_orders_postgres(dsn: str, encoder: EventEncoder) -> list[str]:
    """Write each order and its event in one transaction; the ids of the events that stand."""
    outbox, taken = PostgresOutbox(encoder), list[str]()
    connection = await asyncpg.connect(dsn)
    try:
        await outbox.create_table(connection)
        await connection.execute("CREATE TABLE IF NOT EXISTS orders (customer text, pieces int)")
        for customer, pieces in ORDERS:
            with contextlib.suppress(ValueError):
                async with connection.transaction():
                    await connection.execute("INSERT INTO orders VALUES ($1, $2)", customer, pieces)
                    event_id = await outbox.add(connection, order_placed(customer, pieces))
                    check(pieces)
                taken.append(event_id)
    finally:
        await connection.close()
    return taken


@contextlib.asynccontextmanager
async def relaying(
    new_store: Callable[[], OutboxStore], settings: KafkaSettings
) -> AsyncIterator[None]:
    """Run the relay beside the application; it may as well be a process of its own."""
    sender = KafkaSender(settings)
    try:
        async with asyncio.TaskGroup() as tasks:
            relay = tasks.create_task(OutboxRelay(new_store(), sender, name="shop").run())
            yield
            await until_sent(new_store())
            relay.cancel()
    finally:
        await sender.close()


async def until_sent(store: OutboxStore) -> None:
    """Wait until every row is marked: its event may be on the bus a moment before."""
    try:
        async with asyncio.timeout(20):
            while (await store.counts(sent=False)).pending:  # noqa: ASYNC110 - rows have no event
                await asyncio.sleep(0.05)
    finally:
        await store.close()


async def show(reader: KafkaLogReader, wanted: set[str]) -> None:
    """Print the events of these ids as they come from the bus."""
    async with asyncio.timeout(20):
        while wanted:
            for records in (await reader.poll(timeout_s=0.5, max_records=100)).values():
                for record in records:
                    if dict(record.headers).get("event_type") == TICK.encode():
                        continue  # written by an archiver, to let time pass
                    envelope = decode_envelope(record.value or b"")
                    if str(envelope.event_id) in wanted:
                        print(envelope.event_id, envelope.payload_json.decode())
                        wanted.discard(str(envelope.event_id))


async def make_topics(settings: KafkaSettings) -> str:
    """Make the topics that are missing; the name of the one for orders."""
    wanted = CATALOGUE.topics(settings.environment)
    async with KafkaAdmin(settings) as admin:
        described = await admin.describe()
        await admin.apply(plan(wanted, described, brokers=1, environment=settings.environment))
    return next(iter(wanted))


async def main(database: str) -> None:
    """Take orders, publish their events, show them."""
    settings = KafkaSettings.load()
    topic = await make_topics(settings)
    encoder = EventEncoder(CATALOGUE, environment=settings.environment, service="outbox-shop")
    reader = KafkaLogReader(settings)
    try:
        # From here on: what an earlier run left on the bus is not shown again.
        await reader.open(await reader.ends(await reader.partitions([topic])))
        if database.startswith("postgresql:"):
            taken = await take_orders_postgres(database, encoder)
        else:
            taken = take_orders_sqlite(database, encoder)
        async with relaying(lambda: store_of(database), settings):
            await show(reader, set(taken))
    finally:
        await reader.close()


def store_of(database: str) -> OutboxStore:
    """Return what a relay needs to know of a database."""
    if database.startswith("postgresql:"):
        return PostgresOutboxStore(database)
    return SqliteOutboxStore(database)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "shop.db"))
