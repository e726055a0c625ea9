"""The archiver on a real broker and over real HTTP: races, kills, a server that misbehaves."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import Counter

import pytest

from spile.adapters.delivery import OutgoingRecord
from spile.adapters.kafka import (
    KafkaAdmin,
    KafkaEventBus,
    KafkaEventBusAdapter,
    KafkaSender,
    KafkaSettings,
)
from spile.services.archiver.stores import FolderStore
from spile.testkit.broker import EmbeddedBroker
from spile.topics import TopicSetup

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def settings():
    """A broker of its own: the worker reads a whole environment."""
    with EmbeddedBroker() as broker:
        yield KafkaSettings(bootstrap_servers=broker.bootstrap_servers)


@pytest.fixture
async def filled(settings, unique):
    """Make a topic of three partitions with records in each; return its name."""
    name = f"dev.{unique('agent')}.tool.recorded.v1"

    async def fill(count):
        async with KafkaAdmin(settings) as admin:
            if name not in await admin.topics():
                await admin.create(TopicSetup(topic=name, partitions=3, replication=1, config={}))
        sender = KafkaSender(settings)
        records = [
            OutgoingRecord(name, b"key", b'{"n":%d}' % n, [("event_type", b"X")], n % 3)
            for n in range(3 * count)
        ]
        assert not (await sender.send(records)).failures
        await sender.close()
        return name

    return fill


@pytest.fixture
async def open_bus(settings):
    """Open a bus; all are closed in the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def opened():
            return await stack.enter_async_context(KafkaEventBus(KafkaEventBusAdapter(settings)))

        yield opened


async def test_two_archivers_race_for_every_object(
    filled, open_bus, bucket, tmp_path, archiving, look, until
):
    """Two that both read all partitions into one archive leave each offset there once."""
    topic = await filled(500)
    found = look(bucket)
    rerun = look(FolderStore(tmp_path / "rerun"))
    bus, other = await open_bus(), await open_bus()
    async with (
        archiving(bus, bucket, group="one", topics=(topic,), records=50, uploads=8),
        archiving(other, bucket, group="two", topics=(topic,), records=50, uploads=8),
        archiving(bus, rerun.store, group="three", topics=(topic,), records=50),
    ):
        await until(lambda: found.archived(topic) == 1_500, 30)
        await until(lambda: rerun.archived(topic) == 1_500, 30)

    for partition in range(3):
        assert found.offsets(topic, partition) == list(range(500))
    assert found.content() == rerun.content()


async def test_a_server_that_misbehaves_loses_and_doubles_nothing(
    filled, open_bus, bucket, s3, archiving, look, until
):
    """Through 503, cut connections and lost answers each offset is archived once."""
    topic = await filled(300)
    found = look(bucket)
    times = Counter()

    def faults(method, path, when):
        if when == "before":
            times[method, path] += 1
        faulty = {("PUT", 1): (503, None), ("PUT", 2): (None, "cut"), ("HEAD", 1): ("cut", None)}
        return faulty.get((method, times[method, path]), (None, None))[when == "after"]

    s3.faults = faults
    bus = await open_bus()
    async with archiving(bus, bucket, topics=(topic,), records=100):
        await until(lambda: found.archived(topic) == 900, 30)
    s3.faults = lambda *_: None

    for partition in range(3):
        assert found.offsets(topic, partition) == list(range(300))


class Process:
    """`spile run archiver` in a process."""

    def __init__(self, settings, s3, bucket):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "spile.services.archiver"],
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                "SPILE_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
                "SPILE_ARCHIVE": f"s3://{bucket._bucket}/{bucket._lead.rstrip('/')}",
                "SPILE_ARCHIVE_ENDPOINT": s3.url,
                "SPILE_ARCHIVE_RECORDS": "100",
                "SPILE_SESSION_TIMEOUT_MS": "6000",
                "SPILE_HEARTBEAT_INTERVAL_MS": "1000",
            },
        )

    async def end(self, name):
        """Send a signal and return the exit code."""
        self.process.send_signal(name)
        return await asyncio.to_thread(self.process.wait, 25)


@pytest.fixture
async def start(settings, s3, bucket):
    """Start archivers; what still runs in the end is killed."""
    started = []

    def run():
        started.append(Process(settings, s3, bucket))
        return started[-1]

    yield run
    for worker in started:
        if worker.process.poll() is None:
            await worker.end(signal.SIGKILL)


async def test_an_archiver_killed_in_the_middle_of_an_upload(
    settings, filled, bucket, s3, start, look, until
):
    """
    Killed between object and manifest, its successor leaves every offset there once.

    The first one waits for the archive, which is away when it starts.
    """
    topic = await filled(350)
    found = look(bucket)
    killed, reached = threading.Event(), threading.Event()
    refused = []

    def hold(method, path, when):
        if method == "GET" and len(refused) < 2:
            refused.append(path)
            return 503
        if (method, when) == ("PUT", "before") and "/manifests/" in path and not killed.is_set():
            reached.set()
            killed.wait(30)
            return "cut"
        return None

    s3.faults = hold
    first = start()
    await until(reached.is_set, 60)
    second = start()
    assert await first.end(signal.SIGKILL) == -signal.SIGKILL
    killed.set()
    await until(lambda: found.archived(topic) == 900, 60)
    async with KafkaAdmin(settings) as admin, asyncio.timeout(10):
        places = [(topic, partition) for partition in range(3)]
        while set((await admin.committed("archiver", places)).values()) != {300}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert await second.end(signal.SIGTERM) == 0

    for partition in range(3):
        assert found.offsets(topic, partition) == list(range(300))
