"""The application killed between its transaction and the mark, on a real broker."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import signal
import sqlite3
import sys
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from spile.adapters.kafka import KafkaAdmin, KafkaSettings
from spile.adapters.outbox import OUTBOX_TABLE_SQLITE
from spile.adapters.outbox.postgres import PostgresOutbox
from spile.topics import decode_envelope, plan

pytestmark = pytest.mark.kafka

PROGRAM = Path(__file__).with_name("killed_app.py")


@pytest.fixture(scope="module")
def app():
    spec = importlib.util.spec_from_file_location("killed_app", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def _make_topic(bootstrap, app, suffix):
    settings = KafkaSettings(environment="test", bootstrap_servers=bootstrap)
    async with KafkaAdmin(settings) as admin:
        wanted = app.catalogue(suffix).topics("test")
        await admin.apply(plan(wanted, await admin.describe(), brokers=1, environment="test"))


async def _kill_and_kill(app, kind, place, bootstrap, suffix):
    """Run the program; it must have been killed at each of the ten points, and end well."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", str(PROGRAM), kind, place, bootstrap, suffix),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    wanted = [f"{point} {int(signal.SIGKILL)}" for point in app.POINTS] + ["end 0"]
    lines = out.decode().splitlines()
    assert [line for line in lines if line in wanted] == wanted, err.decode()[-2000:]
    assert len(app.POINTS) == 10


async def _check(bootstrap, suffix, orders):
    """Every committed order has its effect once, in order; no other order has one."""
    topic = f"test.shop.{suffix}.order-placed.v1"
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    effects: dict[str, dict] = {}
    try:
        places = [TopicPartition(topic, number) for number in range(2)]
        ends = await consumer.end_offsets(places)
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    envelope = decode_envelope(record.value)
                    effects.setdefault(str(envelope.event_id), json.loads(envelope.payload_json))
    finally:
        await consumer.stop()
    done = [effect["order"] for effect in effects.values()]
    assert sorted(done) == sorted(orders)
    for customer in (0, 1):
        mine = [order for order in done if order % 2 == customer]
        assert mine == sorted(mine)
    # Two points lie before the commit: their last order was rolled back.
    assert len(orders) == 4 * 11 - 2


async def test_killed_with_sqlite(kafka, topic_suffix, tmp_path, app):
    """Killed at ten points, an application on SQLite loses no event and doubles no effect."""
    suffix = f"s{topic_suffix}"
    await _make_topic(kafka, app, suffix)
    path = tmp_path / "shop.db"
    connection = sqlite3.connect(path)
    connection.executescript(OUTBOX_TABLE_SQLITE + "CREATE TABLE orders (id INTEGER);")
    await _kill_and_kill(app, "sqlite", str(path), kafka, suffix)
    orders = [row[0] for row in connection.execute("SELECT id FROM orders")]
    connection.close()
    await _check(kafka, suffix, orders)


async def test_killed_with_postgres(kafka, topic_suffix, postgres_dsn, app):
    """Killed at ten points, an application on PostgreSQL loses no event and doubles no effect."""
    suffix = f"p{topic_suffix}"
    await _make_topic(kafka, app, suffix)
    connection = await asyncpg.connect(postgres_dsn)
    await PostgresOutbox.create_table(connection)
    await connection.execute("CREATE TABLE orders (id integer)")
    await _kill_and_kill(app, "postgres", postgres_dsn, kafka, suffix)
    orders = [row[0] for row in await connection.fetch("SELECT id FROM orders")]
    await connection.close()
    await _check(kafka, suffix, orders)
