"""
A shop that takes orders in its own database and tells the bus about each, by an outbox.

    spile up                                   # a Kafka on this machine
    python examples/outbox/shop.py             # orders in shop.db
    python examples/outbox/shop.py postgresql://user:password@host/shop

Takes five orders, one of which fails and takes its event along, publishes the others, and prints
what stands on the bus. Settings come from SPILE_*, such as SPILE_BOOTSTRAP_SERVERS.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator

import asyncpg

from spile.adapters.delivery import OutgoingEvent
from spile.adapters.kafka import KafkaAdmin, KafkaLogReader, KafkaSender, KafkaSettings
from spile.adapters.outbox import OutboxRelay, OutboxStore, SqliteOutbox, SqliteOutboxStore
from spile.adapters.outbox.postgres import PostgresOutbox, PostgresOutboxStore
from spile.adapters.publishing import EventEncoder
from spile.topics import Catalogue, TopicSpec, decode_envelope, plan

CATALOGUE = Catalogue(
    [
        TopicSpec(
            name="shop.orders.order-placed.v1",
            owner="shop",
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


def take_orders_sqlite(path: str, encoder: EventEncoder) -> None:
    """Write each order and its event in one transaction."""
    outbox = SqliteOutbox(encoder)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        outbox.create_table(connection)
        connection.execute("CREATE TABLE IF NOT EXISTS orders (customer TEXT, pieces INTEGER)")
        for customer, pieces in ORDERS:
            with contextlib.suppress(ValueError), connection:
                connection.execute("INSERT INTO orders VALUES (?, ?)", (customer, pieces))
                outbox.add(connection, order_placed(customer, pieces))
                check(pieces)


async def take_orders_postgres(dsn: str, encoder: EventEncoder) -> None:
    """Write each order and its event in one transaction."""
    outbox = PostgresOutbox(encoder)
    connection = await asyncpg.connect(dsn)
    await outbox.create_table(connection)
    await connection.execute("CREATE TABLE IF NOT EXISTS orders (customer text, pieces int)")
    for customer, pieces in ORDERS:
        with contextlib.suppress(ValueError):
            async with connection.transaction():
                await connection.execute("INSERT INTO orders VALUES ($1, $2)", customer, pieces)
                await outbox.add(connection, order_placed(customer, pieces))
                check(pieces)
    await connection.close()


@contextlib.asynccontextmanager
async def relaying(store: OutboxStore, settings: KafkaSettings) -> AsyncIterator[None]:
    """Run the relay beside the application; it may as well be a process of its own."""
    sender = KafkaSender(settings)
    try:
        async with asyncio.TaskGroup() as tasks:
            relay = tasks.create_task(OutboxRelay(store, sender, name="shop").run())
            yield
            relay.cancel()
    finally:
        await sender.close()


async def show(settings: KafkaSettings, topic: str) -> None:
    """Print the first four orders on the bus."""
    reader = KafkaLogReader(settings)
    await reader.open(await reader.beginnings(await reader.partitions([topic])))
    found = 0
    async with asyncio.timeout(20):
        while found < len(ORDERS) - 1:
            for records in (await reader.poll(timeout_s=0.5, max_records=100)).values():
                for record in records:
                    envelope = decode_envelope(record.value or b"")
                    print(envelope.event_id, envelope.payload_json.decode())
                    found += 1
    await reader.close()


async def main(database: str) -> None:
    """Take orders, publish their events, show them."""
    settings = KafkaSettings.load()
    wanted = CATALOGUE.topics(settings.environment)
    async with KafkaAdmin(settings) as admin:
        described = await admin.describe()
        await admin.apply(plan(wanted, described, brokers=1, environment=settings.environment))
    encoder = EventEncoder(CATALOGUE, environment=settings.environment, service="shop")
    store: OutboxStore
    if database.startswith("postgresql:"):
        await take_orders_postgres(database, encoder)
        store = PostgresOutboxStore(database)
    else:
        take_orders_sqlite(database, encoder)
        store = SqliteOutboxStore(database)
    async with relaying(store, settings):
        await show(settings, next(iter(wanted)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "shop.db"))
