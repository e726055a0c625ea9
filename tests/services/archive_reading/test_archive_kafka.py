"""From a topic to the archive and back, with the real workers, commands and broker."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from spile.adapters.delivery import OutgoingRecord
from spile.adapters.kafka import KafkaAdmin, KafkaLogReader, KafkaSender, KafkaSettings
from spile.services.archiver.reading import REPLAY_HEADER
from spile.testkit.broker import EmbeddedBroker
from spile.topics import TopicSetup

pytestmark = pytest.mark.kafka

PARTITIONS = 2
OBJECT = 1_000


TOPIC = "dev.agent.tool.recorded.v1"


@pytest.fixture(scope="module")
def broker():
    """A broker of its own: workers read a whole environment."""
    with EmbeddedBroker() as started:
        yield started.bootstrap_servers


@pytest.fixture
async def admin(broker):
    """Look at the cluster and change its topics."""
    settings = KafkaSettings(bootstrap_servers=broker)
    async with KafkaAdmin(settings) as opened:
        yield opened


@pytest.fixture
async def publish(broker, admin, make_record):
    """Publish events, as many into each partition."""
    settings = KafkaSettings(bootstrap_servers=broker)
    await admin.create(TopicSetup(topic=TOPIC, partitions=PARTITIONS, replication=1, config={}))
    await admin.create(TopicSetup(topic=f"{TOPIC}.dlq", partitions=1, replication=1, config={}))
    sender = KafkaSender(settings)

    async def send(count):
        records = [make_record(topic=TOPIC, key=b"%d" % n) for n in range(count)]
        receipt = await sender.send(
            [
                OutgoingRecord(TOPIC, r.key, r.value, list(r.headers), n % PARTITIONS)
                for n, r in enumerate(records)
            ]
        )
        assert not receipt.failures

    yield send
    await sender.close()


@pytest.fixture
def variables(broker, tmp_path):
    """What the processes of this test read from their environment."""
    return {
        **os.environ,
        "SPILE_BOOTSTRAP_SERVERS": broker,
        "SPILE_STORE": str(tmp_path / "live.db"),
        "SPILE_ARCHIVE": str(tmp_path / "archive"),
        "SPILE_ARCHIVE_RECORDS": str(OBJECT),
    }


@pytest.fixture
def spile(variables, invoke):
    """Run the command to its end, in a thread; return what it printed."""

    async def run(*arguments, code=0):
        done = await asyncio.to_thread(invoke, *arguments, code=code, env=variables)
        return done.stdout

    return run


@contextlib.asynccontextmanager
async def running(variables, *names):
    """Workers of one process, ended by SIGTERM."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "spile.services.command", "run", *names),
        env=variables,
        stderr=subprocess.PIPE,
    )
    try:
        yield
        process.send_signal(signal.SIGTERM)
        _, said = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, said.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def rows(path, what="count(*)"):
    """Read a store by SQL of the test's own."""
    if not path.exists():
        return [(0,)]
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        try:
            return database.execute(f"SELECT {what} FROM events").fetchall()
        except sqlite3.OperationalError:
            return [(0,)]  # it is being made


def content_hash(path):
    """Hash all rows by place, whatever order they were stored in, and the offsets."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(events)")]
        columns.remove("seq")
        listed = ", ".join(f'"{name}"' for name in columns)
        found = hashlib.sha256(listed.encode())
        for row in database.execute(f'SELECT {listed} FROM events ORDER BY topic, 3, "offset"'):
            found.update(repr(row).encode())
        for row in database.execute("SELECT * FROM offsets ORDER BY 1, 2"):
            found.update(repr(row).encode())
        return found.hexdigest()


async def until(condition):
    """Wait until something holds."""
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - in other processes
            await asyncio.sleep(0.1)


async def everything(broker):
    """Read the topic to its end: values, and whether they are marked as replayed."""
    reader = KafkaLogReader(KafkaSettings(bootstrap_servers=broker))
    places = await reader.partitions([TOPIC])
    ends = await reader.ends(places)
    await reader.open(await reader.beginnings(places))
    found = []
    async with asyncio.timeout(30):
        while dict(reader.positions()) != dict(ends):
            for records in (await reader.poll(timeout_s=1, max_records=5_000)).values():
                found += [(r.value, REPLAY_HEADER in dict(r.headers)) for r in records]
    await reader.close()
    return found


async def test_archive_brings_back_store_and_topic(
    publish, admin, broker, variables, spile, tmp_path, subtests
):
    """Publish 10,000, archive, delete the topic: store and topic come back as they were."""
    live, archive = tmp_path / "live.db", tmp_path / "archive"
    await publish(10_000)
    archive.mkdir()
    with subtests.test("what the archive never had, and is young, is only behind"):
        proof = json.loads(await spile("verify", "--live", "--json"))
        assert proof["findings"] == []
        assert [one["behind"] for one in proof["partitions"]] == [5_000, 5_000]

    async with running(variables, "persistence", "archiver"):
        await until(lambda: rows(live) == [(10_000,)])
        await until(lambda: len(list(archive.glob("manifests/*/*/*.json"))) == 10)

    with subtests.test("the archive is whole, and as far as the topic"):
        proof = json.loads(await spile("verify", "--live", "--json"))
        assert proof["findings"] == []
        assert [one["count"] for one in proof["partitions"]] == [5_000, 5_000]
        assert [one["behind"] for one in proof["partitions"]] == [0, 0]

    with subtests.test("a worker goes on at exactly the first offset that is not archived"):
        await publish(100)
        other = tmp_path / "other.db"
        await spile("restore", "--store", str(other))
        assert rows(other) == [(10_000,)]
        async with running(variables | {"SPILE_STORE": str(other)}, "persistence"):
            await until(lambda: rows(other) == [(10_100,)])
        assert rows(other, 'min("offset"), count(*)')[0] == (0, 10_100)
        late = 'sum("offset" >= 5000), count(DISTINCT event_id)'
        assert rows(other, late) == [(100, 10_100)]

    await admin.delete_topics([TOPIC])

    with subtests.test("an empty store rebuilt from the archive is the live-fed one"):
        new = tmp_path / "new.db"
        await spile("restore", "--store", str(new))
        assert content_hash(new) == content_hash(live)

        told = await spile("restore", "--store", str(new), "--into-existing", "--json")
        assert json.loads(told)["written"] == 0
        assert content_hash(new) == content_hash(live)

    with subtests.test("the topic comes back with the same events, marked"):
        told = await spile("restore", "--into-topics", "--json")
        assert json.loads(told)["written"] == 10_000
        found = await everything(broker)
        assert [marked for _, marked in found] == [True] * 10_000
        wanted = sorted(envelope.encode() for (envelope,) in rows(live, "envelope"))
        assert sorted(value for value, _ in found) == wanted
        await spile("restore", "--into-topics", code=1)
