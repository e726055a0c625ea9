"""Stores and registries that are full, locked, damaged or away (F16-F18)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.matrix.stage import Stage, cell
from tests.faults.rig import DLQ, Process, Rig

from spile.adapters.kafka import KafkaAdmin, create_publisher
from spile.adapters.wire import WireFormat
from spile.testkit.load import LOAD_CATALOGUE
from spile.testkit.proxy import Conditions, Direction, TcpProxy
from spile.testkit.registry import EmbeddedRegistry
from spile.testkit.scenarios import MockEventGenerator, WorkflowScenario
from spile.topics import plan

FAIL = "batch handler failed"


@cell("F16", "disk of the store full, five times (tmpfs, needs the right to mount)")
async def disk_full(stage: Stage) -> None:
    rig = stage.rig
    with small_disk(rig.folder / "disk") as disk:
        rig.database = disk / "events.db"
        await stage.begin(rate=200)
        (worker,) = stage.workers
        for _ in range(5):
            failures = worker.log.read_text().count(FAIL)
            with filled(disk):
                await worker_says(worker, FAIL, failures + 1)
                stage.hit()
            stage.healed()
            await stage.progress(50)
        await stage.finish()
        stage.require(sound(rig.database), "the store is not sound")
        stage.require(worker.running, "the worker ended")
        stage.require(await stage.stop_worker(worker) == 0, "the worker did not end in peace")


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of 24 MiB."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    subprocess.run(["mount", *options], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Fill a file system to the last byte while this lasts."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    try:
        yield
    finally:
        ballast.unlink()


async def worker_says(worker: Process, phrase: str, count: int) -> None:
    """Wait until the log of a worker has a phrase so many times."""
    async with asyncio.timeout(30):
        while worker.log.read_text(errors="replace").count(phrase) < count:
            assert worker.running, worker.tail()
            await asyncio.sleep(0.05)


def sound(path: Path) -> bool:
    """Let SQLite look at every page."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@cell("F17", "store locked five times, once for 8 s; read for long; a bit of it flipped")
async def store_in_trouble(stage: Stage) -> None:
    rig = stage.rig
    await stage.begin(rate=150)
    (worker,) = stage.workers
    for seconds in (8.0, 1.0, 1.0, 1.0, 1.0):
        with locked(rig.database):
            before = rig.stored()
            await asyncio.sleep(seconds)
            stage.hit(rig.stored() == before)
        stage.healed()
        await stage.progress(50)
    with reading(rig.database):
        await stage.progress(200)
        wal = await worker.metric("spile_store_wal_bytes")
    await stage.finish()
    stage.require(await stage.stop_worker(worker) == 0, "the worker did not end in peace")
    original = content(rig.database)
    code, said = await start_on_damaged(rig)
    stage.require(code not in {0, -signal.SIGKILL}, f"it started on a damaged store: {said}")
    stage.require("corrupt" in said, f"it did not say what is wrong: {said}")
    await rebuild(stage)
    stage.figures["wal_bytes_told"] = int(wal)
    stage.require(wal > 0, "the metric of the log did not tell")
    stage.require(content(rig.database) == original, "the rebuilt store is another")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Keep an old state of the store in view, as a forgotten reader does."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN")
        database.execute("SELECT count(*) FROM events").fetchone()
        yield
        database.execute("ROLLBACK")


def content(path: Path) -> set[tuple]:
    """Return what the store says of every event, whatever the order of the partitions."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        query = 'SELECT event_id, topic, "partition", "offset", envelope FROM events'
        return set(database.execute(query))


async def start_on_damaged(rig: Rig) -> tuple[int, str]:
    """Flip bits in the middle of a copy of the store and start a worker on it."""
    damaged = rig.folder / "damaged.db"
    with contextlib.closing(sqlite3.connect(rig.database)) as database:
        database.execute("VACUUM INTO ?", (str(damaged),))
    data = bytearray(damaged.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page] ^= 0x55  # the kind of the page
    damaged.write_bytes(bytes(data))
    worker = rig.worker(SPILE_STORE=str(damaged))
    return await worker.ended(20), worker.tail()


async def rebuild(stage: Stage) -> None:
    """Fill a new store from the bus, whatever the group has committed."""
    rig = stage.rig
    rig.database = rig.folder / "rebuilt.db"
    worker = rig.worker()
    await worker.said("worker reads")
    await rig.until(lambda: rig.database.exists() and rig.stored() > 0)
    await rig.drained()
    assert await stage.stop_worker(worker) == 0


@cell("F18", "schema registry hanging, cut off, answering 500 and killed")
async def registry_away(stage: Stage) -> None:
    registry = await asyncio.to_thread(EmbeddedRegistry)
    try:
        async with contextlib.AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(TcpProxy(f"127.0.0.1:{registry.port}"))
            angry = await asyncio.start_server(answer_500, "127.0.0.1", 0)
            stack.callback(angry.close)
            await with_registry(stage, registry, proxy, angry.sockets[0].getsockname()[1])
    finally:
        await asyncio.to_thread(registry.close)


async def answer_500(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 500 Broken\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
    writer.close()


async def with_registry(
    stage: Stage, registry: EmbeddedRegistry, proxy: TcpProxy, angry_port: int
) -> None:
    """Publish framed events of more and more types while the worker cannot reach the registry."""
    rig = stage.rig
    catalogue = LOAD_CATALOGUE.with_services("agent")
    async with KafkaAdmin(rig.settings) as admin:
        wanted = {name: spec for name, spec in catalogue.topics("dev").items() if "agent." in name}
        await admin.apply(plan(wanted, await admin.describe(), environment="dev", brokers=3))
    front = registry.url.replace(f":{registry.port}", f":{proxy.address.rpartition(':')[2]}")
    await stage.begin(rate=200, SPILE_REGISTRY_URL=front, SPILE_REGISTRY_TIMEOUT_S="1")
    os.environ["SPILE_REGISTRY_URL"] = registry.url  # of the publisher in this process
    settings = rig.settings.model_copy(update={"encoding": WireFormat.AVRO})
    made = list(MockEventGenerator(stage.seed).generate_workflow(next(iter(WorkflowScenario))))
    kinds = sorted({one.event_type for one in made})
    sound, closed = f"127.0.0.1:{registry.port}", "127.0.0.1:1"
    published = 0
    async with create_publisher(settings, catalogue, service="agent") as publisher:
        for number in range(5):
            some = [one.outgoing() for one in made if kinds.index(one.event_type) % 5 == number]
            if number in {0, 3}:
                proxy.change(Conditions(held=frozenset(Direction)))
            else:
                proxy.lead_to(closed if number == 2 else f"127.0.0.1:{angry_port}")
                proxy.reset()
            published += (await publisher.publish_many(some)).count(True)
            stage.hit(bool(some))
            await asyncio.sleep(2.5)
            proxy.change(Conditions())
            proxy.lead_to(sound)
            stage.healed()
            await stage.progress(50)
        await asyncio.to_thread(registry.kill)
        await stage.progress(100)  # what is known needs no registry
        await asyncio.to_thread(registry.start)
    await stage.finish()
    rows = await framed_rows(rig, published)
    dead = [await rig.read(name) for name in wanted if name.endswith(".dlq")]
    count = sum(map(len, [*dead, await rig.read(DLQ)]))
    stage.figures |= {"framed_events": published, "dead": count}
    stage.require(rows == published, f"{published} framed events, {rows} rows")
    stage.require(count == 0, "an outage of the registry made dead letters")


async def framed_rows(rig: Rig, wanted: int) -> int:
    """Wait until the framed events are stored; return how many are."""
    query = "SELECT count(*) FROM events WHERE topic LIKE 'dev.agent.%'"
    rows, until = 0, time.monotonic() + 20
    while rows < wanted and time.monotonic() < until:
        await asyncio.sleep(0.1)
        with contextlib.closing(sqlite3.connect(rig.database)) as database:
            rows = database.execute(query).fetchone()[0]
    return rows
