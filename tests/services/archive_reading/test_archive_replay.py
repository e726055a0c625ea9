"""Records come back from an archive: once each, marked, where they are meant to go."""

from __future__ import annotations

import asyncio

import pytest

from spile.adapters.delivery import Record
from spile.adapters.memory import MemoryCluster
from spile.services.archiver.reading import (
    REPLAY_HEADER,
    ArchiveGapError,
    ArchiveIndex,
    Pace,
    Progress,
    Selection,
    TopicTarget,
    Written,
    replay,
)
from spile.services.command.archive._replay import ReplayJob
from spile.spi import (
    BrokerUnavailableError,
    ConfigurationError,
    UndecodableError,
    UnknownTopicError,
)
from spile.topics import default_catalogue, uuid7_text

TOPIC = "dev.agent.tool.recorded.v1"
OTHER = "dev.agent.agent.recorded.v1"
ALL = Selection()
TICK = {"event_type": b"TICK"}


class Noted:
    """A target that keeps what it is given."""

    def __init__(self, position=None):
        self.at = position
        self.records = []
        self.ranges = []

    async def position(self, partition):
        """Return what was set."""
        return self.at

    async def write(self, partition, records, *, first, end):
        """Keep it."""
        self.records.extend(records)
        self.ranges.append((first, end))
        return Written(written=len(records))


def offsets(target):
    """Return the offsets that a target was given."""
    return [record.offset for record in target.records]


async def test_gives_each_record_as_it_was(folder, fill, make_record):
    """Key, value, headers, times and places come back byte for byte, in order."""
    odd = (("a", b"1"), ("a", None), ("ü", b"\xff"))
    records = [
        Record(TOPIC, 0, 7, -1, None, None, ()),
        Record(TOPIC, 0, 9, 1_767_323_045_000, b"\xff", b"", odd),
        make_record(10, event_type="PRE_TOOL_USE"),
    ]
    fill(records, per_object=3)
    target = Noted()

    result = await replay(ArchiveIndex(folder), ALL, target)

    assert target.records == records
    assert target.ranges == [(7, 11)]
    assert result.next_offsets == {(TOPIC, 0): 11}
    assert result.is_complete


async def test_filters_by_time_type_key_and_place(folder, fill, make_record):
    """What a filter leaves out is not given, and the offsets behind it are."""
    records = [
        make_record(n, key=b"%d" % (n % 3), timestamp=1_000 * n, event_type=kind)
        for n, kind in enumerate(["PRE_TOOL_USE", "POST_TOOL_USE"] * 10)
    ]
    records = [
        Record(r.topic, 0, r.offset, 1_000 * r.offset, r.key, r.value, r.headers) for r in records
    ]
    fill(records, per_object=5)
    fill([make_record(n, partition=1) for n in range(5)], per_object=5)
    index = ArchiveIndex(folder)

    async def found(**which):
        target = Noted()
        selection = Selection(partitions=frozenset({0}), **which)
        result = await replay(ArchiveIndex(folder, selection), selection, target)
        assert result.next_offsets == {(TOPIC, 0): 20}
        assert target.ranges[-1][1] == 20
        return offsets(target)

    assert await found() == list(range(20))
    assert await found(since_ms=4_000, until_ms=9_000) == [4, 5, 6, 7, 8]
    assert await found(event_types=frozenset({"POST_TOOL_USE"})) == list(range(1, 20, 2))
    assert await found(keys=frozenset({b"2"}), since_ms=11_000) == [11, 14, 17]
    assert [*index.partitions] == [(TOPIC, 0), (TOPIC, 1)]


async def test_objects_outside_the_time_are_not_opened(folder, root, fill, make_record):
    """Manifests tell which objects a time range needs."""
    records = [make_record(n) for n in range(20)]
    records = [Record(TOPIC, 0, r.offset, r.offset, r.key, r.value, ()) for r in records]
    sealed = fill(records, per_object=10)
    (root / sealed[0].manifest.object).unlink()
    target = Noted()
    await replay(ArchiveIndex(folder), Selection(since_ms=10), target)
    assert offsets(target) == list(range(10, 20))


async def test_starts_where_the_target_stands(folder, fill, make_record):
    """What a store has already is not read again; whole objects are passed by."""
    fill([make_record(n) for n in range(30)])
    target = Noted(position=17)
    await replay(ArchiveIndex(folder), ALL, target)
    assert offsets(target) == list(range(17, 30))
    done = Noted(position=30)
    await replay(ArchiveIndex(folder), ALL, done)
    assert done.records == []


async def test_limit_ends_at_an_exact_offset(folder, fill, make_record):
    """After a limit the next run goes on with the very next record."""
    fill([make_record(n) for n in range(30)])
    index = ArchiveIndex(folder)
    first = Noted()
    result = await replay(index, ALL, first, limit=13)
    assert (offsets(first), result.is_complete) == (list(range(13)), False)
    second = Noted(position=result.next_offsets[TOPIC, 0])
    result = await replay(index, ALL, second, limit=17)
    assert (offsets(second), result.is_complete) == (list(range(13, 30)), True)


async def test_a_gap_stops_before_what_is_behind(folder, root, fill, make_record):
    """Missing offsets are named, and nothing behind them is given."""
    sealed = fill([make_record(n) for n in range(30)])
    (root / sealed[1].manifest.key).unlink()
    target = Noted()
    with pytest.raises(ArchiveGapError, match="offsets 10 to 19 of") as caught:
        await replay(ArchiveIndex(folder), ALL, target)
    assert (caught.value.first, caught.value.end) == (10, 20)
    assert offsets(target) == list(range(10))
    fill([make_record(n, topic=OTHER) for n in range(7, 17)])
    other = ArchiveIndex(folder, Selection(topics=frozenset({OTHER})))
    with pytest.raises(ArchiveGapError, match="offsets 4 to 6 of"):
        await replay(other, ALL, Noted(position=4))


async def test_nothing_of_a_damaged_object_is_given(folder, root, fill, make_record):
    """A changed object ends the replay before its first record."""
    sealed = fill([make_record(n) for n in range(30)])
    path = root / sealed[1].manifest.object
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    target = Noted()
    with pytest.raises(UndecodableError, match="sha256"):
        await replay(ArchiveIndex(folder), ALL, target)
    assert offsets(target) == list(range(10))


async def test_overlapping_objects_give_each_offset_once(folder, fill, make_record):
    """Offsets that two objects hold are given once."""
    fill([make_record(n) for n in range(10)])
    fill([make_record(n) for n in range(5, 15)])
    target = Noted()
    await replay(ArchiveIndex(folder), ALL, target)
    assert offsets(target) == list(range(15))


async def test_pace_keeps_to_the_rate():
    """Ten records a second are ten a second, and a pause is not caught up."""
    now = 0.0
    slept = []

    async def sleep(seconds):
        nonlocal now
        now += seconds
        slept.append(round(seconds, 6))

    pace = Pace(10, clock=lambda: now, sleep=sleep)
    assert pace.batch == 2
    for _ in range(3):
        await pace.wait(2)
    now += 60
    await pace.wait(2)
    await pace.wait(2)
    assert slept == [0.2, 0.2, 0.2]


@pytest.fixture
def cluster():
    """A whole bus in memory, with the topics of the catalogue."""
    return MemoryCluster.of_catalogue(default_catalogue(), "dev")


@pytest.fixture
def into(cluster):
    """Make a target that publishes."""

    def make(topic=None):
        return TopicTarget(
            cluster.sender(), catalogue=default_catalogue(), environment="dev", topic=topic
        )

    return make


async def test_topic_gets_marked_copies(cluster, into, folder, fill, make_record):
    """Key, value and headers stay, the mark says where each stood; ticks are left out."""
    records = [make_record(n) for n in range(3)]
    old = (REPLAY_HEADER, b"elsewhere/0:1")
    again = records[1]
    records[1] = Record(
        TOPIC, 0, 1, again.timestamp, None, again.value, (old, *again.headers, ("n", None))
    )
    tick = make_record(3, headers=TICK)
    gone = Record(TOPIC, 0, 4, tick.timestamp, b"key", None, ())
    fill([*records, tick, gone], per_object=5)

    result = await replay(ArchiveIndex(folder), ALL, into())

    sent = sorted(cluster.records(TOPIC), key=lambda record: dict(record.headers)[REPLAY_HEADER])
    kept = [records[0], records[1], records[2], gone]
    assert [(r.key, r.value) for r in sent] == [(r.key, r.value) for r in kept]
    for record, original in zip(sent, kept, strict=True):
        mark = (REPLAY_HEADER, f"{TOPIC}/0:{original.offset}".encode())
        clean = [header for header in original.headers if header != old]
        assert list(record.headers) == [*clean, mark]
    assert (result.written.written, result.written.ignored) == (4, 1)


async def test_repeats_of_an_event_are_left_out(cluster, into, folder, fill, make_record):
    """The archive keeps records, repeats included; each event id is replayed once."""
    ids = [uuid7_text() for _ in range(4)]
    fill([make_record(n, event_id=ids[n % 4]) for n in range(10)])
    fill([make_record(n, event_id=ids[n % 4], partition=1) for n in range(10)])
    with Progress(None, "job") as progress:
        result = await replay(ArchiveIndex(folder), ALL, into(), progress=progress)
    assert len(cluster.records(TOPIC)) == 4
    assert (result.written.written, result.written.repeats) == (4, 16)


async def test_another_topic_must_hold_the_type(cluster, into, folder, fill, make_record):
    """What the target topic's catalogue entry does not hold is refused with its place."""
    fill([make_record(n) for n in range(10)])
    result = await replay(ArchiveIndex(folder), ALL, into(OTHER))
    assert result.written.refused == 10
    assert f"{TOPIC}/0:0: topic {OTHER} holds" in result.written.reasons[0]
    assert cluster.records(OTHER) == []


@pytest.mark.parametrize(
    "topic",
    [
        "dev.agent.nobody.knows.v1",
        f"{TOPIC}.dlq",
        f"{TOPIC}.persistence.retry.0",
        "prod.agent.tool.recorded.v1",
    ],
)
async def test_topics_outside_the_catalogue_are_never_written(
    cluster, into, folder, fill, make_record, topic
):
    """Neither --to nor an archived name leads to a topic that is no event topic of ours."""
    fill([make_record(n) for n in range(10)])
    with pytest.raises(UnknownTopicError):
        into(topic)
    assert not [record for name in cluster.topics for record in cluster.records(name)]


async def test_archived_topic_that_the_catalogue_lost_is_refused(into, folder, fill, make_record):
    """A topic that is archived and no longer in the catalogue is named, not made."""
    fill([make_record(n, topic="dev.agent.old.gone.v1") for n in range(10)])
    with pytest.raises(UnknownTopicError, match=r"dev\.agent\.old\.gone\.v1"):
        await replay(ArchiveIndex(folder), ALL, into())


class Failing:
    """A sender whose broker goes away after some records."""

    def __init__(self, sender, after):
        self.sender = sender
        self.left = after

    async def send(self, records, *, settled=None):
        """Send a few, and fail the rest."""
        kept = records[: self.left]
        self.left -= len(kept)
        receipt = await self.sender.send(kept, settled=settled)
        for index in range(len(kept), len(records)):
            receipt.failures[index] = BrokerUnavailableError("away")
        return receipt


async def test_resumes_where_it_failed(cluster, folder, fill, make_record, tmp_path):
    """After an outage the same file goes on: nothing is lost, no event is sent by plan twice."""
    fill([make_record(n) for n in range(300)], per_object=100)
    path = tmp_path / "progress"
    index = ArchiveIndex(folder)
    catalogue = default_catalogue()
    pace = Pace(1_000_000_000)

    def target(sender):
        return TopicTarget(sender, catalogue=catalogue, environment="dev", topic=None)

    failing = target(Failing(cluster.sender(), 130))
    with Progress(path, "job") as progress, pytest.raises(BrokerUnavailableError):
        await replay(index, ALL, failing, progress=progress, pace=pace)
    with Progress(path, "job") as progress:
        assert progress.reached() == {(TOPIC, 0): 100}
        await replay(index, ALL, target(cluster.sender()), progress=progress)
        again = await replay(index, ALL, target(cluster.sender()), progress=progress)

    marks = [dict(record.headers)[REPLAY_HEADER] for record in cluster.records(TOPIC)]
    assert len(set(marks)) == 300
    assert len(marks) == 330  # at least once: the batch that failed half-way came again
    assert again.written.written == 0
    assert again.next_offsets == {(TOPIC, 0): 300}


def test_progress_of_another_job_is_refused(tmp_path):
    """A file that remembers another replay is not mixed into this one."""
    path = tmp_path / "progress"
    with Progress(path, "one"):
        pass
    with pytest.raises(ConfigurationError, match="another replay"):
        Progress(path, "two")
    path.write_bytes(b"no database" * 100)
    with pytest.raises(ConfigurationError, match="cannot hold"):
        Progress(path, "one")


async def test_cancelling_leaves_nothing_open(folder, fill, make_record):
    """A replay that is cancelled ends at once, without a thread that still reads."""
    fill([make_record(n) for n in range(100)], per_object=100)
    started = asyncio.Event()

    class Stuck(Noted):
        async def write(self, partition, records, *, first, end):
            started.set()
            await asyncio.Event().wait()

    async with asyncio.timeout(10):
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(replay(ArchiveIndex(folder), ALL, Stuck()))
            await started.wait()
            running.cancel()
    assert running.cancelled()


def test_progress_of_one_cluster_is_none_of_another(folder):
    """What was sent to one cluster is not taken for sent to another; the order of names is free."""
    job = ReplayJob(archive=folder, which=ALL, where="topics")
    assert job.description("b:1, a:1") == job.description("a:1,b:1")
    assert job.description("a:1") != job.description("c:1")
