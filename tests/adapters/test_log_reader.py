"""Reading the log in memory without a group."""

from __future__ import annotations

import pytest

from spile.adapters.delivery import OutgoingRecord
from spile.adapters.memory import MemoryCluster, MemoryEventBus
from spile.spi import ClosedError, RejectedError, UnknownTopicError

TOPIC = "dev.shop.orders.placed.v1"


@pytest.fixture
def cluster():
    return MemoryCluster({TOPIC: 2})


async def _send(cluster, *values, partition=0):
    await cluster.sender().send([OutgoingRecord(TOPIC, None, v, [], partition) for v in values])


async def test_reads_from_the_positions_given(cluster):
    """A reader gets what stands from its positions on, and no group hears of it."""
    await _send(cluster, b"0", b"1", b"2")
    await _send(cluster, b"other", partition=1)
    reader = cluster.reader()
    partitions = await reader.partitions([TOPIC])
    assert partitions == [(TOPIC, 0), (TOPIC, 1)]
    assert await reader.beginnings(partitions) == {(TOPIC, 0): 0, (TOPIC, 1): 0}
    assert await reader.ends(partitions) == {(TOPIC, 0): 3, (TOPIC, 1): 1}
    await reader.open({(TOPIC, 0): 1})
    polled = await reader.poll(timeout_s=0, max_records=10)
    assert [record.value for record in polled[TOPIC, 0]] == [b"1", b"2"]
    assert reader.positions() == {(TOPIC, 0): 3}
    await reader.close()


async def test_two_readers_each_read_all(cluster):
    """Readers share nothing: each gets every record."""
    await _send(cluster, b"0")
    for reader in (cluster.reader(), cluster.reader()):
        await reader.open({(TOPIC, 0): 0})
        assert len((await reader.poll(timeout_s=0, max_records=10))[TOPIC, 0]) == 1


async def test_opens_anew_elsewhere(cluster):
    """Opening again leaves what was read before."""
    await _send(cluster, b"0", b"1")
    reader = cluster.reader()
    await reader.open({(TOPIC, 0): 2})
    assert await reader.poll(timeout_s=0.001, max_records=10) == {}
    await reader.open({(TOPIC, 0): 0})
    assert len((await reader.poll(timeout_s=0, max_records=1))[TOPIC, 0]) == 1
    assert reader.positions() == {(TOPIC, 0): 1}


async def test_refuses_what_is_not_there(cluster):
    """A missing topic, an offset beyond the end and a closed reader are errors."""
    reader = cluster.reader()
    with pytest.raises(UnknownTopicError):
        await reader.partitions(["dev.a.b.c.v1"])
    await reader.open({(TOPIC, 0): 5})
    with pytest.raises(RejectedError) as caught:
        await reader.poll(timeout_s=0, max_records=1)
    assert caught.value.code == "OFFSET_OUT_OF_RANGE"
    await reader.close()
    with pytest.raises(ClosedError):
        await reader.poll(timeout_s=0, max_records=1)


async def test_a_bus_gives_readers(cluster):
    """The adapter of a bus makes readers of its own log."""
    async with MemoryEventBus(cluster) as bus:
        reader = bus.adapter.reader()
        assert await reader.partitions([TOPIC]) == [(TOPIC, 0), (TOPIC, 1)]
        await reader.close()


async def test_finds_where_a_time_begins():
    """`since` is the first offset of a time or later, and the end where all are older."""
    now = [1_000]
    cluster = MemoryCluster({TOPIC: 2}, clock=lambda: now[0])
    for now[0] in (1_000, 2_000, 3_000):
        await _send(cluster, b"x")
    reader = cluster.reader()
    places = [(TOPIC, 0), (TOPIC, 1)]
    assert await reader.since(places, 1_500) == {(TOPIC, 0): 1, (TOPIC, 1): 0}
    assert await reader.since(places, 3_001) == {(TOPIC, 0): 3, (TOPIC, 1): 0}
    await reader.close()
