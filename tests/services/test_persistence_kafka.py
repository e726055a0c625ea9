"""The persistence worker as a process, on a real broker."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest

from spile.adapters.delivery import OutgoingRecord
from spile.adapters.kafka import KafkaAdmin, KafkaSender, KafkaSettings
from spile.services.persistence import EventFilter, Run, SqliteEventStore
from spile.spi import SpileError
from spile.testkit.broker import EmbeddedBroker
from spile.topics import default_catalogue, plan

pytestmark = pytest.mark.kafka
ALL = EventFilter()


TOPIC = "dev.agent.tool.recorded.v1"


@pytest.fixture(scope="module")
def settings():
    """A broker of its own: the worker reads a whole environment."""
    with EmbeddedBroker() as broker:
        yield KafkaSettings(bootstrap_servers=broker.bootstrap_servers)


@pytest.fixture
async def publish(settings, make_record):
    """Publish records to a topic that all tests of this module share."""
    wanted = default_catalogue().topics("dev")
    async with KafkaAdmin(settings) as admin:
        await admin.apply(plan(wanted, await admin.describe(), environment="dev", brokers=1))
    sender = KafkaSender(settings)

    async def send(count, **changes):
        records = [make_record(**changes) for _ in range(count)]
        receipt = await sender.send(
            [OutgoingRecord(r.topic, None, r.value, list(r.headers)) for r in records]
        )
        assert not receipt.failures

    yield send
    await sender.close()


class Process:
    """`spile run persistence` in a process; its log lines arrive as they are written."""

    def __init__(self, settings, database):
        self.lines = []
        self._http = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "spile.services.persistence"],
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "SPILE_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
                "SPILE_ENVIRONMENT": settings.environment,
                "SPILE_STORE": str(database),
                "SPILE_SESSION_TIMEOUT_MS": "6000",
                "SPILE_HEARTBEAT_INTERVAL_MS": "1000",
            },
        )

        def read():
            for line in self.process.stderr:
                self.lines.append(line)
                if '"http"' in line:
                    loop.call_soon_threadsafe(self._http.set_result, json.loads(line)["http"])

        self._reader = threading.Thread(target=read)
        self._reader.start()

    async def url(self):
        """Return the address of the side server."""
        async with asyncio.timeout(30):
            return await asyncio.shield(self._http)

    async def end(self, name):
        """Send a signal and return the exit code."""
        self.process.send_signal(name)
        code = await asyncio.to_thread(self.process.wait, 25)
        self._reader.join()
        self.process.stderr.close()
        return code


@pytest.fixture
async def start(settings, database):
    """Start workers; what still runs in the end is killed."""
    started = []

    def run():
        started.append(Process(settings, database))
        return started[-1]

    yield run
    for worker in started:
        if worker.process.poll() is None:
            await worker.end(signal.SIGKILL)


async def stored(database, count):
    """Wait until the store holds at least as many events."""
    async with asyncio.timeout(40):
        while True:
            if database.exists():
                try:
                    async with SqliteEventStore(database, read_only=True) as store:
                        if (found := await store.count(ALL)) >= count:
                            return found
                except SpileError:
                    pass  # it is being made
            await asyncio.sleep(0.1)


async def test_sigterm_drains_and_ends_with_zero(publish, start, database):
    """The worker stores what is published, is ready, and ends cleanly, its offsets committed."""
    await publish(500)
    worker = start()
    await stored(database, 500)

    def ready():
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return json.loads(answer.read())

    url = await worker.url()
    async with asyncio.timeout(20):
        while True:
            try:
                assert await asyncio.to_thread(ready) == {"status": "ready"}
                break
            except urllib.error.HTTPError as error:
                error.close()
                await asyncio.sleep(0.1)

    assert await worker.end(signal.SIGTERM) == 0
    assert all(isinstance(json.loads(line), dict) for line in worker.lines)


async def test_kill_mid_batch_loses_and_doubles_nothing(publish, start, database, settings):
    """Killed while events come in, and started again, the store holds each event once."""
    async with KafkaAdmin(settings) as admin:
        partitions = await admin.partitions([TOPIC])
        before = sum((await admin.end_offsets(partitions)).values())
    worker = start()
    await worker.url()
    sending = [publish(300) for _ in range(10)]
    async with asyncio.TaskGroup() as tasks:
        for batch in sending:
            tasks.create_task(batch)
        await stored(database, 1)
        await worker.end(signal.SIGKILL)
    start()
    await stored(database, before + 3000)

    async with KafkaAdmin(settings) as admin:
        ends = await admin.end_offsets(partitions)
    async with SqliteEventStore(database, read_only=True) as store:
        assert await store.count(ALL) == before + 3000 == sum(ends.values())
        offsets = await store.stored_offsets()
        assert {p: offsets[p] for p in partitions} == dict(ends)


async def test_a_new_store_beside_an_old_group_gets_everything(
    publish, start, database, settings, tmp_path
):
    """The group's committed offsets do not make a store skip what it does not have."""
    await publish(300)
    async with KafkaAdmin(settings) as admin:
        written = sum((await admin.end_offsets(await admin.partitions([TOPIC]))).values())
    worker = start()
    assert await stored(database, written) == written
    await worker.end(signal.SIGTERM)
    for left in tmp_path.glob(f"{database.name}*"):
        left.unlink()
    start()
    assert await stored(database, written) == written


async def test_offset_beyond_the_end_stops_the_worker(publish, start, database):
    """A topic that was made anew is not mistaken for the old one; the reason is one line."""
    async with SqliteEventStore(database) as store:
        await store.append([Run(partition=(TOPIC, 0), first=0, next=10_000_000, rows=[])])

    worker = start()
    code = await asyncio.to_thread(worker.process.wait, 60)

    await worker.end(signal.SIGTERM)
    assert code == 1
    assert "10000000" in worker.lines[-1], worker.lines
    assert "spile store reset-offsets" in worker.lines[-1]
    assert worker.lines[-1].startswith("error: ")
