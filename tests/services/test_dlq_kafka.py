"""`spile dlq` on a real broker: one group alone, killed, twice at once, byte for byte."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import runpy
import signal
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from spile.adapters.dead_letters import (
    DeadLetterBrowser,
    DeadLetterQueue,
    Reprocessor,
    ReprocessWish,
)
from spile.adapters.delivery import FencedError, OutgoingRecord, Record, plain_headers
from spile.adapters.kafka import (
    KafkaAdmin,
    KafkaEventBusAdapter,
    KafkaLogReader,
    KafkaSender,
    KafkaSettings,
    KafkaTransactions,
)
from spile.services.command.dlq import dlq
from spile.services.command.dlq._files import read_lines
from spile.services.persistence import Decoder, EventFilter, PersistenceHandler
from spile.spi import RejectedError
from spile.topics import Catalogue, encode_envelope, plan, uuid7_text

pytestmark = pytest.mark.kafka

ODD = [("a", b"\xff\x00"), ("a", b"2"), ("null", None), ("", b"")]
CATALOGUE_FILE = """
from spile.topics import Catalogue, ConsumerGroup, TopicSpec
catalogue = Catalogue(
    [
        TopicSpec(
            name="{stem}.orders.placed.v1",
            owner="shop",
            models={{"ORDER_PLACED": None}},
            partitions=2,
            replication=1,
            min_insync_replicas=1,
            groups=(ConsumerGroup(name="billing", tiers=1), ConsumerGroup(name="mail", tiers=1)),
        )
    ],
    groups=(ConsumerGroup(name="persistence", tiers=1, partitions=1),),
)
"""


class Stage:
    """A topic with its queue on the session's broker, and what works on it."""

    def __init__(self, settings, stem, folder):
        self.settings = settings
        self.folder = folder
        self.file = folder / f"catalogue_{stem.replace('-', '_')}.py"
        self.file.write_text(CATALOGUE_FILE.format(stem=stem))
        self.catalogue: Catalogue = runpy.run_path(str(self.file))["catalogue"]
        self.topic = f"test.{stem}.orders.placed.v1"
        self.queue = f"{self.topic}.dlq"
        self.sender = KafkaSender(settings)
        self.environment = {
            "SPILE_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "SPILE_ENVIRONMENT": "test",
            "SPILE_CATALOGUE": f"{self.file.stem}:catalogue",
        }

    async def make(self):
        wanted = self.catalogue.topics("test")
        async with KafkaAdmin(self.settings) as admin:
            topics = plan(wanted, await admin.describe(), environment="test", brokers=1)
            await admin.apply(topics)

    def retry(self, group):
        return f"{self.topic}.{group}.retry.0"

    def record(self, number, *, headers=(), **changes):
        event_id = uuid7_text()
        value = encode_envelope(
            event_id=event_id,
            event_type="ORDER_PLACED",
            correlation_id=event_id,
            causation_id=None,
            timestamp="2026-01-02T03:04:05.000006Z",
            service_json=b'"shop"',
            payload_json=b'{"number":%d}' % number,
        )
        wire = dict(
            plain_headers(source="shop", event_type="ORDER_PLACED", now=datetime.now(UTC))
        ) | {
            "content_type": b"application/json",
            "message_id": event_id.encode(),
            "correlation_id": event_id.encode(),
        }
        record = Record(
            self.topic, 1, number, 1_767_323_045_000, b"k%d" % number, value, tuple(wire.items())
        )
        fields = {name: getattr(record, name) for name in record.__struct_fields__}
        return Record(**{**fields, "headers": (*wire.items(), *headers), **changes})

    async def bury(self, *records, group="persistence", error=None):
        letters = DeadLetterQueue(self.sender)
        error = error or ValueError("bug")
        await asyncio.gather(
            *(letters.keep(record, error, group=group, attempts=1) for record in records)
        )

    def reader(self):
        return KafkaLogReader(self.settings)

    def reprocessor(self):
        return Reprocessor(
            self.reader,
            self.sender,
            self.catalogue.retry_topic,
            transactions=lambda name: KafkaTransactions(self.settings, name),
        )

    async def open(self):
        async with DeadLetterBrowser(self.reader, self.queue) as browser:
            return [letter async for letter in browser.letters(await browser.look())]

    async def end(self, topic):
        reader = self.reader()
        try:
            return sum((await reader.ends(await reader.partitions([topic]))).values())
        finally:
            await reader.close()

    async def read(self, topic):
        """Return what stands in a topic, of committed transactions alone."""
        reader = self.reader()
        try:
            partitions = await reader.partitions([topic])
            ends = await reader.ends(partitions)
            await reader.open(await reader.beginnings(partitions))
            records = []
            async with asyncio.timeout(20):
                while any(at < ends[key] for key, at in reader.positions().items()):
                    for found in (await reader.poll(timeout_s=0.2, max_records=500)).values():
                        records += found
            return records
        finally:
            await reader.close()


@pytest.fixture
async def stage(kafka, unique, tmp_path):
    made = Stage(
        KafkaSettings(environment="test", bootstrap_servers=kafka), unique("shop"), tmp_path
    )
    await made.make()
    yield made
    await made.sender.close()


@pytest.fixture
def spile(stage, monkeypatch):
    """Run `spile dlq ...` in a thread of this process."""
    monkeypatch.syspath_prepend(str(stage.folder))
    for name, value in stage.environment.items():
        monkeypatch.setenv(name, value)

    async def run(*arguments, **more):
        return await asyncio.to_thread(CliRunner().invoke, dlq, list(arguments), **more)

    return run


@pytest.fixture
def effects(stage, store):
    """Let the persistence worker's handler take what came back; return events per number."""
    letters = DeadLetterQueue(stage.sender)
    handle = PersistenceHandler(
        store, Decoder(stage.catalogue, "test"), letters, group="persistence"
    )

    async def run():
        returned = await stage.read(stage.retry("persistence"))
        await handle(returned)
        events = await store.query(EventFilter(limit=10_000))
        numbers = [json.loads(event.envelope)["payload"]["number"] for event in events]
        return returned, sorted(numbers)

    return run


async def test_only_the_group_that_failed_sees_it_again(stage, spile):
    """Of two groups one fails; what is reprocessed reaches that one, the other sees nothing new."""
    bus = KafkaEventBusAdapter(stage.settings, stage.catalogue)
    mailed: list[bytes] = []
    seen = asyncio.Event()

    async def mail(message):
        mailed.append(message.value)
        if len(mailed) == 2:
            seen.set()

    async def bill(message):
        raise RejectedError("no such account")

    try:
        await bus.subscribe(stage.topic, "mail", mail)
        unsubscribe = await bus.subscribe(stage.topic, "billing", bill)
        await bus.publish(stage.topic, b"k", b"first")
        async with asyncio.timeout(30):
            while await stage.end(stage.queue) < 1:  # noqa: ASYNC110 - a record on a broker has no event
                await asyncio.sleep(0.05)
        await unsubscribe()
        done = await spile("reprocess", stage.topic, "--json")
        facts = json.loads(done.stdout)
        assert facts["targets"] == {stage.retry("billing"): 1}
        assert facts["unread"] == [stage.retry("billing")], "this group has no tiers"
        assert done.exit_code == 0
        await bus.publish(stage.topic, b"k", b"second")
        async with asyncio.timeout(30):
            await seen.wait()
    finally:
        await bus.close()
    assert mailed == [b"first", b"second"]
    assert [record.value for record in await stage.read(stage.retry("billing"))] == [b"first"]
    assert await stage.end(stage.retry("mail")) == 0


@pytest.fixture
def start(stage):
    """Start `spile dlq ...` in a process of its own, forked from one that has imported it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["spile.services.command.dlq._group"])
    started = []

    def run(*arguments):
        script = stage.folder / f"run{len(started)}.py"
        script.write_text(
            "import os, sys\n"
            f"os.environ.update({stage.environment!r})\n"
            f"sys.path.insert(0, {str(stage.folder)!r})\n"
            "from spile.services.command import main\n"
            f"main({list(arguments)!r})\n"
        )
        child = context.Process(target=runpy.run_path, args=(str(script),))
        child.start()
        started.append(child)
        return child

    yield run
    for child in started:
        child.kill()
        child.join()
        child.close()


@pytest.mark.parametrize("mode", [(), ("--transactional",)], ids=["at least once", "transactional"])
async def test_killed_at_ten_points(stage, start, effects, mode):
    """A reprocessing that is killed ten times loses no letter and repeats no effect."""
    count, seed = 300, random.randrange(10**6)
    dice = random.Random(seed)
    await stage.bury(*(stage.record(number) for number in range(count)))
    watcher = stage.reader()
    partitions = await watcher.partitions([stage.retry("persistence")])
    kills = 0
    try:
        for _ in range(10):
            (before,) = (await watcher.ends(partitions)).values()
            child = start("dlq", "reprocess", stage.topic, "--rate", "20", *mode)
            async with asyncio.timeout(40):
                while (await watcher.ends(partitions))[partitions[0]] == before:  # noqa: ASYNC110 - another process has no event
                    await asyncio.sleep(0.005)
            # Between record and mark, or anywhere up to the next but one.
            await asyncio.sleep(dice.uniform(0, 0.01) if dice.random() < 0.5 else dice.random() / 4)
            if child.is_alive():
                os.kill(child.pid, signal.SIGKILL)
                kills += 1
            await asyncio.to_thread(child.join)
    finally:
        await watcher.close()
    left = len(await stage.open())
    assert (kills, 0 < left < count) == (10, True), f"seed {seed}, {left} letters left"
    wish = ReprocessWish(transactional=bool(mode))
    assert (await stage.reprocessor().run(stage.queue, wish)).failed == 0
    assert await stage.open() == []
    returned, numbers = await effects()
    assert numbers == list(range(count)), f"seed {seed}"
    assert len(returned) == count if mode else len(returned) >= count


async def test_run_twice_and_two_at_once(stage, effects):
    """Two operators at once and a third run afterwards have one effect per letter."""
    await stage.bury(*(stage.record(number) for number in range(60)))
    one, two = stage.reprocessor(), stage.reprocessor()
    await asyncio.gather(
        one.run(stage.queue, ReprocessWish(rate=200)), two.run(stage.queue, ReprocessWish(rate=200))
    )
    assert (await one.run(stage.queue, ReprocessWish())).processed == 0
    _, numbers = await effects()
    assert numbers == list(range(60))


async def test_two_at_once_in_transactions(stage, effects):
    """In transactions the second operator fences the first, and each letter goes once."""
    await stage.bury(*(stage.record(number) for number in range(60)))
    wrote = asyncio.Event()

    async def first():
        wish = ReprocessWish(transactional=True, rate=25)
        await stage.reprocessor().run(stage.queue, wish, told=lambda tally: wrote.set())

    async def second():
        await wrote.wait()
        return await stage.reprocessor().run(stage.queue, ReprocessWish(transactional=True))

    outcome, done = await asyncio.gather(first(), second(), return_exceptions=True)
    assert isinstance(outcome, FencedError)
    assert 0 < done.succeeded < 60
    returned, numbers = await effects()
    assert numbers == list(range(60))
    assert len(returned) == 60


@pytest.mark.parametrize("transactional", [False, True])
async def test_goes_back_byte_for_byte(stage, transactional):
    """Key, value and headers come back as they were: repeats, nulls, odd bytes, tombstones."""
    records = [
        stage.record(0, headers=ODD, key=b"\xfe", value=b"\x00\xff{"),
        stage.record(1, headers=ODD, key=None, value=None),
        stage.record(2, value=os.urandom(1_500_000)),
    ]
    await stage.bury(*records)
    wish = ReprocessWish(transactional=transactional)
    assert (await stage.reprocessor().run(stage.queue, wish)).succeeded == 3
    returned = await stage.read(stage.retry("persistence"))
    sent = {(r.key, r.value, r.headers) for r in records}
    assert {(r.key, r.value, tuple(r.headers[:-9])) for r in returned} == sent
    assert all(name.startswith("x-spile-") for r in returned for name, _ in r.headers[-9:])


async def test_hostile_headers_send_nothing_elsewhere(stage):
    """Whatever a letter's headers name, nothing is written but to the topics of its own name."""
    forged = [
        ("x-spile-dlq-original-topic", b"__consumer_offsets"),
        ("x-spile-dlq-consumer-group", b"../mail"),
        ("x-spile-retry-role", b"head"),
    ]
    await stage.bury(stage.record(0, headers=forged), group="mail")
    await stage.sender.send([OutgoingRecord(stage.queue, None, b"raw", forged)])
    async with KafkaAdmin(stage.settings) as admin:
        before = await admin.topics()
        done = await stage.reprocessor().run(stage.queue, ReprocessWish())
        assert [name for name in await admin.topics() if stage.topic in name] == [
            name for name in before if stage.topic in name
        ]
    assert (done.succeeded, done.failed) == (1, 1)
    assert dict(done.targets) == {stage.retry("mail"): 1}


async def _bury_four(stage):
    """Bury letters of three kinds; return what the broken one should have been, and its id."""
    await stage.bury(stage.record(1), stage.record(2), error=KeyError("missing"))
    good = stage.record(3, headers=ODD)
    await stage.bury(msgspec.structs.replace(good, value=b'{"broken'))
    await stage.bury(stage.record(4), group="unknown")
    (place,) = [x.place for x in await stage.open() if x.record.value == b'{"broken']
    return good, place


async def test_people_find_letters(stage, spile):
    """The same letters are listed, searched, shown and counted."""
    _, broken = await _bury_four(stage)
    short = stage.topic.removeprefix("test.")

    listed = await spile("list", short, "--json")
    letters = [json.loads(line) for line in listed.stdout.splitlines()]
    assert len(letters) == 4
    assert stage.queue in (await spile("list")).stdout
    assert [x["id"] for x in letters if x["value"] == '{"broken'] == [broken]
    found = await spile("grep", stage.queue, "BROK", "-i", "--json")
    assert [json.loads(line)["id"] for line in found.stdout.splitlines()] == [broken]
    shown = await spile("show", stage.topic, broken)
    assert '{"broken' in shown.stdout
    counted = json.loads((await spile("stats", short, "--json")).stdout)
    assert counted["open"] == 4
    assert counted["kinds"][0]["count"] == 2


async def test_letters_fit_a_terminal(stage, spile, monkeypatch):
    """On 80 columns nothing is lost: names and numbers are whole, and the error is told."""
    for name, value in {
        "TTY_COMPATIBLE": "1",
        "TERM": "dumb",
        "COLUMNS": "80",
        "LINES": "9",
    }.items():
        monkeypatch.setenv(name, value)
    _, broken = await _bury_four(stage)
    listed = (await spile("list", stage.topic)).stdout.splitlines()
    counted = (await spile("stats", stage.topic)).stdout.splitlines()
    assert max(map(len, listed[1:])) <= 80
    assert max(map(len, counted[1:])) <= 80
    assert sum("KeyError" in line for line in listed) == 2
    assert any(line.startswith(f"{broken}  ") for line in listed)


async def test_people_work_on_letters(stage, spile):
    """People send back, mend and purge letters; a filter leaves the rest, a purge keeps a copy."""
    good, broken = await _bury_four(stage)
    short = stage.topic.removeprefix("test.")
    dry = await spile("reprocess", short, "--dry-run", "--json")
    assert json.loads(dry.stdout)["succeeded"] == 3
    some = await spile("reprocess", short, "--error-type", "KeyError", "--limit", "1", "--json")
    assert json.loads(some.stdout)["succeeded"] == 1
    assert len(await stage.open()) == 3

    mended = stage.folder / "value.json"
    mended.write_bytes(good.value)
    wrong = await spile("edit", short, broken, "--set", "payload.number=1")
    assert wrong.exit_code == 2
    edited = await spile("edit", short, broken, "--value-file", str(mended), "--operator", "ann")
    assert edited.exit_code == 0, edited.output
    *_, last = await stage.read(stage.retry("persistence"))
    assert last.value == mended.read_bytes()
    assert dict(last.headers)["x-spile-edited"].endswith(b" ann")
    assert "it is settled: edited" in (await spile("show", short, broken)).stderr

    left = await spile("reprocess", short, "--json")
    assert left.exit_code == 1
    assert json.loads(left.stdout)["failed"] == 1
    folder = stage.folder / "purged"
    refused = await spile("purge", short, "--archive", str(folder), input="n\n")
    assert refused.exit_code == 1
    assert len(await stage.open()) == 1
    purged = await spile("purge", short, "--archive", str(folder), "--yes", "--json")
    facts = json.loads(purged.stdout)
    assert facts["purged"] == 1
    kept = list(read_lines(Path(facts["archive"])))
    assert sorted(each["value"] for each in kept if each["value"] == b'{"broken') == [b'{"broken']
    assert len(kept) == 4
    assert await stage.read(stage.queue) == []
    marks: dict[bytes, bytes | None] = {}
    for record in await stage.read(f"{stage.queue}.done"):
        marks[record.key] = record.value
        told = dict(record.headers).get("x-spile-dlq-mark")
    assert set(marks.values()) == {None}
    assert json.loads(told)["group"]
    assert "no letters" in (await spile("list", short)).stdout
