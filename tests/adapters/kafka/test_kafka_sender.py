"""The sender on a real broker, and probes of what it relies on in the client."""

import asyncio
import os
import time
from random import randbytes
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder

from spile.adapters.delivery import OutgoingRecord
from spile.adapters.kafka import KafkaAdmin, KafkaClient, KafkaSender, KafkaSettings
from spile.adapters.kafka import _pump as pump
from spile.adapters.kafka._partitioner import Partitioner
from spile.adapters.kafka._producer_client import Batch
from spile.spi import (
    ClosedError,
    DeliveryTimeoutError,
    InvalidEventError,
    MessageTooLargeError,
    RejectedError,
    UnknownTopicError,
)
from spile.topics import TopicSetup


@pytest.fixture
def settings(kafka):
    return KafkaSettings(bootstrap_servers=kafka, environment="dev")


@pytest.fixture
async def sender(settings):
    sender = KafkaSender(settings)
    yield sender
    await sender.close()


@pytest.fixture
async def topic(settings, unique):
    """A topic of three partitions that takes 1,000,000 bytes a batch."""
    name = f"dev.{unique('s')}.a.b.v1"
    async with KafkaAdmin(settings) as admin:
        await admin.create(
            TopicSetup(
                topic=name,
                partitions=3,
                replication=1,
                config={"max.message.bytes": "1000000"},
            )
        )
    return name


async def log_of(settings, topic):
    """Return what stands in a topic, by partition, read by a plain consumer."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(3)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found = {number: [] for number in range(3)}
        while [tp for tp in partitions if await consumer.position(tp) < ends[tp]]:
            for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                found[tp.partition] += records
        return found
    finally:
        await consumer.stop()


async def test_a_receipt_tells_where_each_record_stands(sender, settings, topic):
    """Position by position, what the receipt says is what the log holds."""
    records = [OutgoingRecord(topic, b"k%d" % (n % 9), b"v%d" % n, []) for n in range(500)]
    receipt = await sender.send(records)
    assert not receipt.failures
    log = await log_of(settings, topic)
    for index, position in receipt.positions().items():
        stored = log[position.partition][position.offset]
        assert (stored.key, stored.value) == (records[index].key, records[index].value)
    assert len(receipt.positions()) == 500


async def test_keys_go_where_other_clients_put_them():
    """The partition of a key is that of Kafka's own clients, so that topics can be shared."""
    theirs = DefaultPartitioner()
    ours = Partitioner(7)
    texts = [f"key-{number}-{uuid4()}".encode() for number in range(300)]
    for key in [*texts, *map(randbytes, range(300))]:
        assert ours.choose(key) == theirs(key, list(range(7)), list(range(7)))
        assert ours.choose(key) == ours.choose(key)


async def test_order_per_key_holds_across_concurrent_sends(sender, settings, topic):
    """Calls that are begun one after the other are written in that order, the first ones too."""
    calls = [
        sender.send(
            [OutgoingRecord(topic, b"key", b"%d" % (n * 3 + part), []) for part in range(3)]
        )
        for n in range(300)
    ]
    await asyncio.gather(*calls)
    log = await log_of(settings, topic)
    (values,) = [[r.value for r in records] for records in log.values() if records]
    assert values == [b"%d" % n for n in range(900)]


async def test_headers_key_and_value_arrive_byte_for_byte(sender, settings, topic):
    """Repeated names, empty values, bytes that are no text, no key, no value."""
    odd = [("a", b""), ("a", b"\xff\x00"), ("b", "é".encode())]
    await sender.send(
        [
            OutgoingRecord(topic, None, b"\x00\xff", odd, partition=0),
            OutgoingRecord(topic, b"\xfe", None, odd, partition=1),
        ]
    )
    log = await log_of(settings, topic)
    (first,), (second,) = log[0], log[1]
    assert (first.key, first.value, list(first.headers)) == (None, b"\x00\xff", odd)
    assert (second.key, second.value, list(second.headers)) == (b"\xfe", None, odd)


async def test_an_unknown_topic_is_refused_at_once_and_forgotten(sender, topic):
    """PITFALLS P15: no wait, no new topic, and the name does not stay in the client."""
    await sender.send([OutgoingRecord(topic, b"k", b"v", [])])
    producer = sender._pool.current._producer
    known = set(producer.client._topics)
    begun = time.monotonic()
    for number in range(50):
        with pytest.raises(UnknownTopicError, match="spile topics apply"):
            await sender.send([OutgoingRecord(f"dev.no.such.t{number}.v1", b"k", b"v", [])])
    assert time.monotonic() - begun < 5
    assert set(producer.client._topics) == known


async def test_a_refused_record_fails_alone_and_poisons_nothing(sender, settings, topic):
    """PITFALLS P2, P21: neighbours in its batch get through, and so do the next hundred."""
    big = OutgoingRecord(topic, b"k", os.urandom(1_200_000), [])  # over the topic's limit
    small = [OutgoingRecord(topic, b"k", b"%d" % n, []) for n in range(6)]
    receipt = await sender.send([*small[:3], big, *small[3:]])
    assert list(receipt.failures) == [3]
    assert isinstance(receipt.failures[3], RejectedError)
    after = [OutgoingRecord(topic, b"k", b"%d" % n, []) for n in range(6, 106)]
    receipts = await asyncio.gather(*(sender.send([record]) for record in after))
    assert not any(receipt.failures for receipt in receipts)
    log = await log_of(settings, topic)
    values = [r.value for records in log.values() for r in records]
    assert sorted(values, key=int) == [b"%d" % n for n in range(106)]
    assert sender.generation == 2


async def test_what_no_topic_takes_never_reaches_the_client(sender, topic):
    """Over 1,600,000 bytes is refused before sending; a dead letter queue takes 2,200,000."""
    with pytest.raises(MessageTooLargeError) as caught:
        await sender.send([OutgoingRecord(topic, b"k", bytes(1_600_001), [])])
    assert caught.value.limit_bytes == 1_600_000
    assert sender.generation <= 1


async def test_a_partition_that_is_not_there_is_refused(sender, topic):
    """The error says which there are."""
    with pytest.raises(UnknownTopicError, match="partitions 0 to 2, not 3"):
        await sender.send([OutgoingRecord(topic, b"k", b"v", [], partition=3)])


async def test_the_news_of_one_partition_does_not_wait_for_others(sender, topic):
    """`settled` hears of each group of records on its own, each index once."""
    heard = []
    records = [OutgoingRecord(topic, b"k%d" % n, b"v", []) for n in range(50)]
    await sender.send(records, settled=lambda indexes, error: heard.append((list(indexes), error)))
    assert sorted(index for indexes, _ in heard for index in indexes) == list(range(50))
    assert all(error is None for _, error in heard)
    assert len(heard) == 3


async def test_closing_flushes(settings, topic):
    """What was begun before the close is acknowledged by it; afterwards nothing is taken."""
    sender = KafkaSender(settings)
    calls = [
        asyncio.ensure_future(sender.send([OutgoingRecord(topic, b"k", b"%d" % n, [])]))
        for n in range(200)
    ]
    await asyncio.sleep(0)
    await sender.close()
    receipts = await asyncio.gather(*calls)
    assert not any(receipt.failures for receipt in receipts)
    with pytest.raises(ClosedError):
        await sender.send([OutgoingRecord(topic, b"k", b"late", [])])
    assert sum(map(len, (await log_of(settings, topic)).values())) == 200


@pytest.mark.parametrize(
    ("limit", "value"), [("_RECYCLE_AFTER_S", 0.05), ("_RECYCLE_AFTER_RECORDS", 7)]
)
async def test_an_aged_producer_is_replaced_without_loss(
    sender, settings, topic, monkeypatch, limit, value
):
    """P20: a producer is recycled by age and by count, before its sequence numbers wrap."""
    monkeypatch.setattr(pump, limit, value)
    for number in range(20):
        receipt = await sender.send([OutgoingRecord(topic, b"k", b"%d" % number, [])])
        assert not receipt.failures
        await asyncio.sleep(0.01)
    assert sender.generation > 1
    log = await log_of(settings, topic)
    (values,) = [[r.value for r in records] for records in log.values() if records]
    assert values == [b"%d" % n for n in range(20)]


async def test_a_cancelled_send_takes_back_what_waits(settings, topic):
    """Records that the client does not have yet are never written."""
    sender = KafkaSender(settings)
    await sender.connect()
    begun = [OutgoingRecord(topic, b"k", b"first", [])]
    under_way = asyncio.ensure_future(sender.send(begun))
    while not sender._pumps or next(iter(sender._pumps.values()))._waiting:  # noqa: ASYNC110 - one turn
        await asyncio.sleep(0)
    waiting = asyncio.ensure_future(sender.send([OutgoingRecord(topic, b"k", b"never", [])]))
    await asyncio.sleep(0)  # it is queued behind the batch that is under way
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not (await under_way).failures
    await sender.send([OutgoingRecord(topic, b"k", b"last", [])])
    await sender.close()
    log = await log_of(settings, topic)
    assert [r.value for records in log.values() for r in records] == [b"first", b"last"]


async def test_the_smallest_client_sends_bytes(settings, topic):
    """Start, send, stop; before and after it refuses."""
    client = KafkaClient(settings)
    with pytest.raises(ClosedError, match="not started"):
        await client.send_and_wait(topic, b"v")
    await client.start()
    await client.send_and_wait(topic, b"v", b"k")
    await client.stop()
    await client.stop()
    assert client.bootstrap_servers() == settings.bootstrap_servers.split(",")
    log = await log_of(settings, topic)
    assert [r.value for records in log.values() for r in records] == [b"v"]


def test_batches_are_filled_below_the_wrapper_with_the_same_bytes():
    """A probe: the short cut writes what the client's own `append` writes."""
    records = [OutgoingRecord("t", b"k%d" % n, b"v" * n, [("h", b"%d" % n)]) for n in range(100)]
    slow, quick = (BatchBuilder(4_000, 0) for _ in "ab")
    taken = 0
    for record in records:
        if (
            slow.append(
                timestamp=1_700_000_000_000,
                key=record.key,
                value=record.value,
                headers=record.headers,
            )
            is None
        ):
            break
        taken += 1
    assert Batch(quick).fill(records, 0, 1_700_000_000_000) == taken < 100
    assert quick.record_count() == slow.record_count()
    assert bytes(quick._build()) == bytes(slow._build())


async def test_one_refused_record_still_poisons_a_bare_producer(settings, topic):
    """
    A probe of PITFALLS P2: when this fails, the client recovers by itself.

    Then the producer need not be replaced after a refusal any more.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap_servers,
        enable_idempotence=True,
        max_request_size=3_000_000,
        request_timeout_ms=3_000,
    )
    await producer.start()
    try:
        await producer.send_and_wait(topic, b"good", partition=0)
        with pytest.raises(Exception, match="MessageSizeTooLarge"):
            await producer.send_and_wait(topic, bytes(1_500_000), partition=0)
        with pytest.raises(Exception, match="OutOfOrder"):
            async with asyncio.timeout(10):
                await producer.send_and_wait(topic, b"innocent", partition=0)
    finally:
        await producer.stop()


async def test_a_record_that_is_refused_takes_nobody_along_when_somebody_listens(
    sender, settings, topic
):
    """With `settled` an unknown topic and a giant fail alone, and the rest keeps its order."""
    heard = {}

    def settled(indexes, error):
        heard.update(dict.fromkeys(indexes, error))

    records = [
        OutgoingRecord(topic, b"k", b"0", []),
        OutgoingRecord("dev.no.such.topic.v1", b"k", b"1", []),
        OutgoingRecord(topic, b"k", bytes(1_700_000), []),
        OutgoingRecord(topic, b"k", b"3", []),
    ]
    first = asyncio.ensure_future(sender.send(records, settled=settled))
    await asyncio.sleep(0)
    await sender.send([OutgoingRecord(topic, b"k", b"4", [])])
    await first
    assert heard[0] is heard[3] is None
    assert isinstance(heard[1], UnknownTopicError)
    assert isinstance(heard[2], MessageTooLargeError)
    log = await log_of(settings, topic)
    assert [r.value for records in log.values() for r in records] == [b"0", b"3", b"4"]


async def test_a_client_that_cancels_itself_is_replaced(sender, topic, monkeypatch):
    """A cancellation that nobody asked for is an error of the client, not the end of the pump."""
    await sender.send([OutgoingRecord(topic, b"k", b"v", [])])
    client = sender._pool.current

    async def gives_up(*_args, **_named):
        raise asyncio.CancelledError

    monkeypatch.setattr(client._producer, "send_batch", gives_up)
    receipt = await sender.send([OutgoingRecord(topic, b"k", b"v", [])])
    assert not receipt.failures
    assert sender.generation == 2


async def test_a_value_that_is_no_bytes_is_refused_and_poisons_nothing(sender, settings, topic):
    """The error names the record; the partition goes on."""
    with pytest.raises(InvalidEventError, match=r"record 0 .* value must be bytes, got str"):
        await sender.send([OutgoingRecord(topic, b"k", "text", [])])
    assert not (await sender.send([OutgoingRecord(topic, b"k", b"v", [])])).failures
    log = await log_of(settings, topic)
    assert [r.value for records in log.values() for r in records] == [b"v"]


async def test_an_overdue_record_does_not_fail_the_young_ones_behind_it(sender, topic):
    """After a stall the front of the queue is told; what came later has its own time."""
    await sender.send([OutgoingRecord(topic, b"k", b"first", [])])
    place = next(iter(sender._pumps))
    old = pump.Call(1, time.monotonic() - 1, asyncio.get_running_loop().create_future())
    segment = pump.Segment(old)
    segment.records.append(OutgoingRecord(topic, b"k", b"old", []))
    segment.indexes.append(0)
    sender._pumps[place].add(segment)
    receipt = await sender.send([OutgoingRecord(topic, b"k", b"young", [])])
    assert not receipt.failures
    assert isinstance(old.receipt.failures[0], DeliveryTimeoutError)
    assert sender.generation == 1
