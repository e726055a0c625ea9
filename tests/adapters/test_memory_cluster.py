"""The cluster in memory: log, groups, rebalances, faults."""

from __future__ import annotations

import asyncio

import pytest

from spile.adapters.delivery import OutgoingRecord, Position
from spile.adapters.memory import MemoryCluster, MemoryTopic
from spile.spi import (
    BrokerUnavailableError,
    ClosedError,
    ConfigurationError,
    RejectedError,
    UnknownTopicError,
)
from spile.topics import default_catalogue


class Listener:
    """Notes what it hears; a revocation waits until it may end."""

    def __init__(self):
        self.heard: list[tuple[str, tuple]] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def assigned(self, partitions):
        self.heard.append(("assigned", tuple(number for _, number in partitions)))

    async def revoked(self, partitions):
        self.heard.append(("revoked", tuple(number for _, number in partitions)))
        await self.may_end.wait()


@pytest.fixture
def cluster():
    return MemoryCluster({"t": 4, "small": MemoryTopic(max_message_bytes=10)}, clock=lambda: 1234)


def _record(topic="t", key=b"k", value=b"v", partition=None):
    return OutgoingRecord(topic, key, value, [("h", b"1")], partition)


async def test_append(cluster):
    """A record gets partition, offset and time; the receipt says where it stands."""
    receipt = await cluster.sender().send([_record(), _record(), _record(partition=3)])
    positions = receipt.positions()
    home = positions[0].partition
    assert positions[1] == Position("t", home, positions[0].offset + 1)
    assert positions[2].partition == 3
    (first, *_) = cluster.records("t", home)
    assert (first.timestamp, first.headers, first.value) == (1234, (("h", b"1"),), b"v")


async def test_keys_share_a_partition(cluster):
    """Records of one key share a partition; those without spread."""
    sender = cluster.sender()
    await sender.send([_record(key=b"%d" % (n % 20)) for n in range(100)])
    homes: dict[bytes, set[int]] = {}
    for record in cluster.records("t"):
        homes.setdefault(record.key, set()).add(record.partition)
    assert {len(home) for home in homes.values()} == {1}
    receipt = await sender.send([_record(key=None) for _ in range(4)])
    assert {position.partition for position in receipt.positions().values()} == {0, 1, 2, 3}


async def test_refusals(cluster):
    """An unknown topic raises and sends nothing; what is too large is refused by itself."""
    sender = cluster.sender()
    with pytest.raises(UnknownTopicError):
        await sender.send([_record(), _record(topic="nowhere")])
    assert cluster.history == ()
    receipt = await sender.send([_record("small", value=b"x" * 20), _record("small", value=b"")])
    assert isinstance(receipt.failures[0], RejectedError)
    assert list(receipt.positions()) == [1]
    receipt = await sender.send([_record(partition=9)])
    assert isinstance(receipt.failures[0], RejectedError)
    await sender.close()
    with pytest.raises(ClosedError):
        await sender.send([_record()])


async def test_history(cluster):
    """The history has all records in the order of writing; clearing it leaves the log alone."""
    await cluster.sender().send([_record(value=b"%d" % n, partition=n % 4) for n in range(9)])
    assert [record.value for record in cluster.history] == [b"%d" % n for n in range(9)]
    cluster.clear_history()
    assert cluster.history == ()
    assert len(cluster.records("t")) == 9


async def test_topics(cluster):
    """Topics can be added once, and come from a catalogue with their dead letter queues."""
    cluster.create_topic("new", 2, max_message_bytes=5)
    assert cluster.topics["new"] == MemoryTopic(partitions=2, max_message_bytes=5)
    with pytest.raises(ConfigurationError):
        cluster.create_topic("new")
    with pytest.raises(ConfigurationError):
        cluster.create_topic("none", 0)
    full = MemoryCluster.of_catalogue(default_catalogue(), "test")
    assert full.topics.keys() == default_catalogue().topics("test").keys()


async def test_group_starts_at_the_beginning(cluster):
    """A new group reads from the beginning; a later member goes on at the committed offsets."""
    await cluster.sender().send([_record(value=b"%d" % n, partition=0) for n in range(5)])
    source = cluster.source(["t"], "g")
    await source.open(Listener())
    assert set(cluster.committed("g").values()) == {0}
    polled = await source.poll(timeout_s=0, max_records=3)
    assert [r.value for r in polled["t", 0]] == [b"0", b"1", b"2"]
    await source.commit({("t", 0): 2})
    assert (await source.lag())["t", 0] == 3
    await source.close()
    follower = cluster.source(["t"], "g")
    await follower.open(Listener())
    polled = await follower.poll(timeout_s=0, max_records=1)
    assert [r.value for r in polled["t", 0]] == [b"2"]
    await follower.close()


async def test_poll_waits_for_news(cluster):
    """A poll returns as soon as a record comes, and empty-handed after its time-out."""
    source = cluster.source(["t"], "g")
    await source.open(Listener())
    assert await source.poll(timeout_s=0.01, max_records=1) == {}
    waiting = asyncio.ensure_future(source.poll(timeout_s=30, max_records=1))
    await asyncio.sleep(0)
    await cluster.sender().send([_record()])
    async with asyncio.timeout(1):
        assert len(await waiting) == 1
    await source.close()


async def test_pause_and_seek(cluster):
    """Paused partitions hand out nothing; a seek changes what is read next."""
    await cluster.sender().send([_record(value=b"%d" % n, partition=0) for n in range(5)])
    source = cluster.source(["t"], "g")
    await source.open(Listener())
    source.pause([("t", 0)])
    assert await source.poll(timeout_s=0, max_records=9) == {}
    source.resume([("t", 0)])
    source.seek(("t", 0), 4)
    assert [r.offset for r in (await source.poll(timeout_s=0, max_records=9))["t", 0]] == [4]
    await source.close()
    with pytest.raises(ClosedError):
        source.seek(("t", 0), 0)


async def test_eager_rebalance(cluster):
    """A join takes everything back first, waits for it, then shares ranges of the partitions."""
    one, two = Listener(), Listener()
    first, second = cluster.source(["t"], "g"), cluster.source(["t"], "g")
    await first.open(one)
    one.may_end.clear()
    joining = asyncio.ensure_future(second.open(two))
    await asyncio.sleep(0.01)
    assert not joining.done()
    await first.commit({("t", 3): 0})
    one.may_end.set()
    await joining
    assert one.heard == [
        ("assigned", (0, 1, 2, 3)),
        ("revoked", (0, 1, 2, 3)),
        ("assigned", (0, 1)),
    ]
    assert two.heard == [("assigned", (2, 3))]
    with pytest.raises(ClosedError):
        await first.commit({("t", 3): 1})
    await second.close()
    async with asyncio.timeout(1):
        while len(first.held) < 4:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0)
    assert two.heard == [("assigned", (2, 3))]
    await first.close()


async def test_groups_are_strangers(cluster):
    """Each group gets every record; a member without a partition waits for its turn."""
    await cluster.sender().send([_record("small", value=b"1")])
    sources = [cluster.source(["small"], group) for group in ("a", "a", "b")]
    for source in sources:
        await source.open(Listener())
    polled = [await source.poll(timeout_s=0, max_records=9) for source in sources]
    assert [len(p) for p in polled] == [1, 0, 1]
    for source in sources:
        await source.close()


async def test_patterns(cluster):
    """A pattern covers the topics that it matches; one that matches none is unknown."""
    source = cluster.source(["^(t|small)$"], "g")
    await source.open(Listener())
    assert {topic for topic, _ in source.held} == {"t", "small"}
    await source.close()
    with pytest.raises(UnknownTopicError):
        await cluster.source(["^nothing"], "g").open(Listener())
    with pytest.raises(UnknownTopicError):
        await cluster.source(["nothing"], "g").open(Listener())


async def test_faults(cluster):
    """Planned faults fail as many operations as asked; a hook can fail or delay any."""
    source = cluster.source(["t"], "g")
    cluster.faults.fail("open", BrokerUnavailableError("away"))
    with pytest.raises(BrokerUnavailableError):
        await source.open(Listener())
    await source.open(Listener())
    cluster.faults.fail("poll", BrokerUnavailableError("away"), times=2)
    for _ in range(2):
        with pytest.raises(BrokerUnavailableError):
            await source.poll(timeout_s=0, max_records=1)
    assert await source.poll(timeout_s=0, max_records=1) == {}
    cluster.faults.fail("send", BrokerUnavailableError("away"))
    receipt = await cluster.sender().send([_record(), _record()])
    assert {type(error) for error in receipt.failures.values()} == {BrokerUnavailableError}
    gate = asyncio.Event()

    async def hold(operation, about):
        if operation == "commit":
            await gate.wait()

    cluster.faults.hook = hold
    committing = asyncio.ensure_future(source.commit({("t", 0): 0}))
    await asyncio.sleep(0.01)
    assert not committing.done()
    gate.set()
    await committing
    await source.close()


async def test_nothing_before_assigned_for_a_member_that_had_nothing(cluster):
    """A member that was idle gets no record of its first partition before `assigned` returned."""
    await cluster.sender().send([_record("small")])
    busy, idle, slow = cluster.source(["small"], "g"), cluster.source(["small"], "g"), Listener()
    await busy.open(Listener())
    may_begin = asyncio.Event()

    async def assigned(partitions):
        await may_begin.wait()

    slow.assigned = assigned
    await idle.open(slow)
    await busy.close()
    assert await idle.poll(timeout_s=0.02, max_records=10) == {}
    may_begin.set()
    polled = await idle.poll(timeout_s=1.0, max_records=10)
    assert [record.offset for record in polled["small", 0]] == [0]
    await idle.close()
