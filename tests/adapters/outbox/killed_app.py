"""
An application that is killed at named points between its own transaction and the mark of the relay.

Started once per test; it forks for every point, so that only the first start costs time. Arguments:
kind of database, where it is, bootstrap servers, topic suffix.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys

import asyncpg

from spile.adapters.delivery import Backoff, OutgoingEvent
from spile.adapters.kafka import KafkaSender, KafkaSettings
from spile.adapters.outbox import OutboxRelay, SqliteOutbox, SqliteOutboxStore
from spile.adapters.outbox.postgres import PostgresOutbox, PostgresOutboxStore
from spile.adapters.publishing import EventEncoder
from spile.topics import Catalogue, TopicSpec

POINTS = (
    "order written",
    "event written",
    "committed",
    "relay leads",
    "rows read",
    "before send",
    "handed to the client",
    "acknowledged",
    "half of the wave marked",
    "marked",
)
LEASE_S = 0.2


def catalogue(suffix: str) -> Catalogue:
    """One topic of orders."""
    spec = TopicSpec(
        name=f"shop.{suffix}.order-placed.v1",
        owner="tests",
        partitions=2,
        models={"ORDER_PLACED": None},
        key="customer",
    )
    return Catalogue([spec])


class App:
    """Places orders, each with its event, and runs the relay; dies at a point."""

    def __init__(self, kind: str, place: str, bootstrap: str, suffix: str, point: str) -> None:
        self.kind, self.place, self.point = kind, place, point
        self.settings = KafkaSettings(
            environment="test", bootstrap_servers=bootstrap, delivery_timeout_ms=20_000
        )
        self.encoder = EventEncoder(catalogue(suffix), environment="test", service="shop")

    def reach(self, point: str) -> None:
        if point == self.point:
            os.kill(os.getpid(), signal.SIGKILL)

    async def run(self, number: int) -> None:
        """Place four orders of two customers, and publish until nothing is left."""
        for step in range(4):
            order = number * 10 + step
            # The last order is the one in which the application dies.
            await (self.order_sqlite if self.kind == "sqlite" else self.order_postgres)(
                order, is_last=step == 3
            )
        sender = KafkaSender(self.settings)
        store = self.store()
        relay = OutboxRelay(
            store, self.watched(sender), backoff=Backoff(initial_s=0.05, max_s=0.1), batch=50
        )
        while (await store.counts()).pending:
            if not await relay.drain():
                await asyncio.sleep(0.05)
        await store.close()
        await sender.close()

    def event(self, order: int) -> OutgoingEvent:
        customer = f"c{order % 2}"
        payload = {"order": order, "customer": customer}
        return OutgoingEvent(event_type="ORDER_PLACED", payload=payload)

    async def order_sqlite(self, order: int, *, is_last: bool) -> None:
        with contextlib.closing(sqlite3.connect(self.place, timeout=20)) as connection:
            with connection:
                connection.execute("INSERT INTO orders VALUES (?)", (order,))
                if is_last:
                    self.reach("order written")
                SqliteOutbox(self.encoder).add(connection, self.event(order))
                if is_last:
                    self.reach("event written")
            if is_last:
                self.reach("committed")

    async def order_postgres(self, order: int, *, is_last: bool) -> None:
        connection = await asyncpg.connect(self.place)
        async with connection.transaction():
            await connection.execute("INSERT INTO orders VALUES ($1)", order)
            if is_last:
                self.reach("order written")
            await PostgresOutbox(self.encoder).add(connection, self.event(order))
            if is_last:
                self.reach("event written")
        if is_last:
            self.reach("committed")
        await connection.close()

    def store(self):
        if self.kind == "sqlite":
            inner = SqliteOutboxStore(self.place, lease_s=LEASE_S)
        else:
            inner = PostgresOutboxStore(self.place)
        return _Store(inner, self.reach)

    def watched(self, sender):
        return _Sender(sender, self.reach)


class _Store:
    def __init__(self, inner, reach) -> None:
        self.inner, self.reach = inner, reach

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def lead(self):
        leads = await self.inner.lead()
        if leads:
            self.reach("relay leads")
        return leads

    async def pending(self, limit):
        rows = await self.inner.pending(limit)
        self.reach("rows read")
        return rows

    async def settle(self, sent, refused):
        self.reach("acknowledged")
        await self.inner.settle(list(sent)[:1], {})
        self.reach("half of the wave marked")
        await self.inner.settle(sent, refused)
        self.reach("marked")


class _Sender:
    def __init__(self, inner, reach) -> None:
        self.inner, self.reach = inner, reach

    async def send(self, records, *, settled=None):
        self.reach("before send")
        if self.inner.generation == 0:
            await self.inner.connect()
        sending = asyncio.ensure_future(self.inner.send(records, settled=settled))
        for _ in range(3):
            await asyncio.sleep(0)  # the pumps take it
        self.reach("handed to the client")
        return await sending


def main(kind: str, place: str, bootstrap: str, suffix: str) -> None:
    """Die at each point in turn; then end well."""
    for number, point in enumerate((*POINTS, "")):
        child = os.fork()
        if not child:
            asyncio.run(App(kind, place, bootstrap, suffix, point).run(number))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        sys.stdout.write(f"{point or 'end'} {ended}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
