"""Reading the log of Kafka without a group."""

from __future__ import annotations

import asyncio
import socket

import pytest

from spile.adapters.kafka import KafkaAdmin, KafkaLogReader
from spile.spi import BrokerUnavailableError, ClosedError, RejectedError, UnknownTopicError


@pytest.fixture
async def reader(bench):
    made = KafkaLogReader(bench.settings)
    yield made
    await made.close()


async def _read(reader, count):
    values = []
    async with asyncio.timeout(15):
        while len(values) < count:
            polled = await reader.poll(timeout_s=0.3, max_records=100)
            values += [record.value for records in polled.values() for record in records]
    return values


async def test_reads_from_the_positions_given(bench, reader):
    """A reader gets what stands from its positions on, also after it was opened anew."""
    topic = await bench.topic(partitions=2)
    await bench.send(topic, b"0", b"1", b"2")
    await bench.send(topic, b"other", partition=1)
    partitions = await reader.partitions([topic])
    assert partitions == [(topic, 0), (topic, 1)]
    assert await reader.beginnings(partitions) == {(topic, 0): 0, (topic, 1): 0}
    assert await reader.ends(partitions) == {(topic, 0): 3, (topic, 1): 1}
    await reader.open({(topic, 0): 1})
    assert await _read(reader, 2) == [b"1", b"2"]
    assert reader.positions() == {(topic, 0): 3}
    await reader.open({(topic, 1): 0, (topic, 0): 2})
    assert sorted(await _read(reader, 2)) == [b"2", b"other"]


async def test_commits_nothing(bench, reader):
    """No consumer group appears on the broker."""
    topic = await bench.topic()
    await bench.send(topic, b"0")
    async with KafkaAdmin(bench.settings) as admin:
        before = await admin.groups()
        await reader.open({(topic, 0): 0})
        await _read(reader, 1)
        await reader.close()
        assert set(await admin.groups()) - set(before) == set()


async def test_positions_pass_what_is_no_record(bench, reader):
    """Aborted records stay hidden, and the position reaches the end behind markers."""
    topic = await bench.topic()
    await bench.send(topic, b"plain")
    producer = await bench.producer(transactional_id=bench.unique("t"))
    async with producer.transaction():
        await producer.send_and_wait(topic, b"committed")
    await producer.begin_transaction()
    await producer.send_and_wait(topic, b"aborted")
    assert (await reader.ends([(topic, 0)]))[topic, 0] == 3
    await producer.abort_transaction()
    await reader.open({(topic, 0): 0})
    assert await _read(reader, 2) == [b"plain", b"committed"]
    async with asyncio.timeout(10):
        # The broker writes the marker of an aborted transaction after it has said so.
        while (await reader.ends([(topic, 0)]))[topic, 0] < 5:  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)
        while reader.positions()[topic, 0] < 5:
            assert await reader.poll(timeout_s=0.1, max_records=10) == {}


async def test_refuses_what_is_not_there(bench, reader):
    """A missing topic, an offset that was freed, and a closed reader are errors."""
    topic = await bench.topic()
    await bench.send(topic, b"0", b"1")
    with pytest.raises(UnknownTopicError):
        await reader.partitions([bench.unique("missing")])
    async with KafkaAdmin(bench.settings) as admin:
        await admin.delete_records({(topic, 0): 1})
    await reader.open({(topic, 0): 0})
    with pytest.raises(RejectedError) as caught:
        await _read(reader, 1)
    assert caught.value.code == "OFFSET_OUT_OF_RANGE"
    await reader.open({(topic, 0): 1})
    assert await _read(reader, 1) == [b"1"]
    await reader.close()
    with pytest.raises(ClosedError):
        await reader.poll(timeout_s=0, max_records=1)


async def test_no_broker_is_told_in_time(kafka_settings):
    """With no broker the first call ends at the start deadline."""
    with socket.socket() as held:  # bound, but nobody listens
        held.bind(("127.0.0.1", 0))
        settings = kafka_settings.model_copy(
            update={
                "bootstrap_servers": f"127.0.0.1:{held.getsockname()[1]}",
                "start_timeout_ms": 500,
            }
        )
        reader = KafkaLogReader(settings)
        with pytest.raises(BrokerUnavailableError):
            await reader.partitions(["dev.a.b.c.v1"])
        await reader.close()


async def test_finds_where_a_time_begins(bench, reader):
    """`since` is the first offset of a time or later, and the end where all are older."""
    topic = await bench.topic(partitions=2)
    await bench.send(topic, b"0", b"1")
    await reader.open({(topic, 0): 0})
    async with asyncio.timeout(15):
        while not (polled := await reader.poll(timeout_s=0.3, max_records=1)):
            pass
    stamp = polled[topic, 0][0].timestamp
    places = [(topic, 0), (topic, 1)]
    assert await reader.since(places, stamp) == {(topic, 0): 0, (topic, 1): 0}
    assert await reader.since(places, stamp + 3_600_000) == {(topic, 0): 2, (topic, 1): 0}
