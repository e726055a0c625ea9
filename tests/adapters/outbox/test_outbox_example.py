"""The example runs as it is written down."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from spile.adapters.delivery import OutgoingRecord
from spile.adapters.kafka import KafkaSender, KafkaSettings
from spile.adapters.outbox import SqliteOutboxStore
from spile.adapters.outbox.postgres import PostgresOutboxStore
from spile.topics import TICK

pytestmark = pytest.mark.kafka

PROGRAM = Path(__file__).parents[3] / "examples" / "outbox" / "shop.py"


async def _run(bootstrap, environment, folder, *arguments):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error::ResourceWarning", str(PROGRAM), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env={
            **os.environ,
            "SPILE_BOOTSTRAP_SERVERS": bootstrap,
            "SPILE_ENVIRONMENT": environment,
        },
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()[-2000:]
    assert b"Unclosed" not in err
    return [line for line in out.decode().splitlines() if '"customer"' in line]


async def _tick(bootstrap, environment):
    """Write what an archiver writes to a topic in which nothing happens."""
    topic = f"{environment}.outbox-shop.orders.order-placed.v1"
    sender = KafkaSender(KafkaSettings(bootstrap_servers=bootstrap, environment=environment))
    try:
        tick = OutgoingRecord(topic, None, None, [("event_type", TICK.encode())])
        assert (await sender.send([tick])).failures == {}
    finally:
        await sender.close()


async def _twice(bootstrap, environment, folder, *arguments):
    """Run it, then once more beside a tick; return the lines of each run."""
    first = await _run(bootstrap, environment, folder, *arguments)
    running = asyncio.ensure_future(_run(bootstrap, environment, folder, *arguments))
    while not running.done():
        await _tick(bootstrap, environment)
        await asyncio.wait([running], timeout=0.2)
    return first, await running


async def test_example(kafka, postgres_dsn, tmp_path):
    """
    Each run publishes its own four orders from either database, in order per customer.

    It passes over ticks, and no row is left unsent.
    """
    runs = await asyncio.gather(
        _twice(kafka, "dev", tmp_path), _twice(kafka, "test", tmp_path, postgres_dsn)
    )
    for first, second in runs:
        for lines in (first, second):
            assert len(lines) == 4
            ada = [line.rpartition(":")[2] for line in lines if '"ada"' in line]
            assert ada == ["3}", "7}"]
        assert len({line.split()[0] for line in first + second}) == 8
    for store in (SqliteOutboxStore(tmp_path / "shop.db"), PostgresOutboxStore(postgres_dsn)):
        async with store:
            counts = await store.counts()
        assert (counts.sent, counts.pending, counts.stuck) == (8, 0, 0)
