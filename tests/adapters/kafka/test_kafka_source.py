"""What `KafkaSource` promises to the engine."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka.record.util import calc_crc32c

from spile.adapters.kafka import KafkaAdmin, KafkaSettings, KafkaSource
from spile.spi import (
    BrokerUnavailableError,
    ClosedError,
    PermanentError,
    RetriableError,
    UnknownTopicError,
)

pytestmark = pytest.mark.kafka


async def test_a_new_group_starts_at_the_beginning_and_that_is_committed(bench, kafka_settings):
    topic, group = await bench.topic(2), bench.unique("g")
    await bench.send(topic, b"1", b"2")
    source = await bench.source([topic], group)
    async with KafkaAdmin(kafka_settings) as admin:
        committed = await admin.committed(group, [(topic, 0), (topic, 1)])
    assert committed == {(topic, 0): 0, (topic, 1): 0}
    assert [record.value for record in await bench.read(source, 2)] == [b"1", b"2"]


async def test_a_group_goes_on_at_its_committed_offset(bench):
    topic, group = await bench.topic(), bench.unique("g")
    await bench.send(topic, b"1", b"2", b"3")
    first = await bench.source([topic], group)
    await bench.read(first, 3)
    await first.commit({(topic, 0): 2})
    await first.close()
    second = await bench.source([topic], group)
    assert [record.value for record in await bench.read(second, 1)] == [b"3"]


async def test_records_carry_what_was_written(bench):
    topic = await bench.topic()
    producer = await bench.producer()
    moment = int(time.time() * 1000) - 60_000  # an older one may fall to retention meanwhile
    sent = await producer.send_and_wait(
        topic, None, key=b"k", headers=[("a", b"1"), ("a", b"2")], timestamp_ms=moment
    )
    source = await bench.source([topic])
    (record,) = await bench.read(source, 1)
    assert (record.topic, record.partition, record.offset) == (topic, 0, sent.offset)
    assert (record.key, record.value, record.timestamp) == (b"k", None, moment)
    assert record.headers == (("a", b"1"), ("a", b"2"))


async def test_nothing_is_handed_out_before_the_listener_has_taken_over(bench):
    topic, listener = await bench.topic(), bench.Listener()
    await bench.send(topic, b"0", b"1", b"2")
    source = KafkaSource(bench.settings, [topic], bench.unique("g"))
    inside = asyncio.Event()

    async def slowly(partitions):
        inside.set()
        for _ in range(3):
            assert await source.poll(timeout_s=0.1, max_records=10) == {}
        source.seek((topic, 0), 2)

    listener.on_assigned = slowly
    await source.open(listener)
    try:
        assert inside.is_set()
        assert source.callback_failures == 0
        assert [record.value for record in await bench.read(source, 1)] == [b"2"]
    finally:
        await source.close()


async def test_a_partition_moves_only_after_the_old_owner_has_committed(bench):
    topic, group = await bench.topic(2), bench.unique("g")
    await bench.send(topic, b"a0", b"a1", partition=0)
    await bench.send(topic, b"b0", b"b1", partition=1)
    old, new = bench.Listener(), bench.Listener()
    first = await bench.source([topic], group, old)
    await bench.read(first, 4)

    async def drain(partitions):
        assert new.assigned_to == []
        await first.commit(dict.fromkeys(partitions, 2))

    old.on_revoked = drain
    opening = asyncio.ensure_future(bench.source([topic], group, new))
    await bench.polling(first, opening.done)
    second = await opening
    assert first.callback_failures == 0
    assert sorted(old.revoked_from) == [(topic, 0), (topic, 1)]
    assert len(new.assigned_to) == 1
    assert await second.poll(timeout_s=0.3, max_records=10) == {}
    assert await second.lag() == {new.assigned_to[0]: 0}


async def test_offsets_of_a_lost_partition_are_refused(bench):
    topic, group = await bench.topic(2), bench.unique("g")
    listener = bench.Listener()
    first = await bench.source([topic], group, listener)
    opening = asyncio.ensure_future(bench.source([topic], group))
    await bench.polling(first, opening.done)
    await opening
    await bench.polling(first, lambda: len(listener.assigned_to) == 3)
    (lost,) = {(topic, 0), (topic, 1)} - {listener.assigned_to[-1]}
    with pytest.raises(ClosedError, match="belong to somebody else"):
        await first.commit({lost: 1})


async def test_lag_is_exact_also_when_idle_behind_a_transaction_marker(bench):
    topic = await bench.topic()
    await bench.send(topic, b"1", b"2")
    producer = await bench.producer(transactional_id=bench.unique("tx"))
    async with producer.transaction():
        await producer.send_and_wait(topic, b"3", partition=0)
    source = await bench.source([topic])
    assert await source.lag() == {(topic, 0): 4}
    await bench.read(source, 3)
    await source.commit({(topic, 0): 3})
    await bench.polling(source, lambda: True)
    await source.poll(timeout_s=0.2, max_records=10)
    assert await source.lag() == {(topic, 0): 0}


async def test_records_of_an_aborted_transaction_are_not_read(bench):
    topic = await bench.topic()
    producer = await bench.producer(transactional_id=bench.unique("tx"))
    await producer.begin_transaction()
    await producer.send_and_wait(topic, b"aborted", partition=0)
    await producer.abort_transaction()
    await bench.send(topic, b"kept")
    source = await bench.source([topic])
    assert [record.value for record in await bench.read(source, 1)] == [b"kept"]


async def test_an_unknown_topic_is_named_and_never_asked_for(bench):
    missing = f"dev.{bench.unique('none')}.a.b.v1"
    with pytest.raises(UnknownTopicError, match="spile topics apply") as caught:
        await bench.source([missing])
    assert caught.value.topic == missing
    async with KafkaAdmin(bench.settings) as admin:
        assert missing not in await admin.topics()


async def test_without_a_broker_opening_ends_in_time():
    settings = KafkaSettings(bootstrap_servers="127.0.0.1:1", start_timeout_ms=500)
    source = KafkaSource(settings, ["dev.a.b.c.v1"], "g")
    began = time.monotonic()
    with pytest.raises(BrokerUnavailableError, match=r"127\.0\.0\.1:1 within 0\.5 s"):
        await source.open(_Deaf())
    await source.close()
    assert time.monotonic() - began < 2


class _Deaf:
    async def assigned(self, partitions):
        raise AssertionError

    async def revoked(self, partitions):
        raise AssertionError


async def test_a_pattern_takes_in_topics_made_later(bench):
    stem = bench.unique("p")
    first = await bench.topic(name=f"dev.{stem}.one.x.v1")
    await bench.send(first, b"1")
    source = await bench.source([rf"^dev\.{stem}\."], consumer_metadata_max_age_ms=300)
    assert [record.value for record in await bench.read(source, 1)] == [b"1"]
    await source.commit({(first, 0): 1})
    second = await bench.topic(name=f"dev.{stem}.two.x.v1")
    await bench.send(second, b"2")
    assert [record.value for record in await bench.read(source, 1)] == [b"2"]


async def test_records_in_hand_can_be_committed_when_a_pattern_changes(bench):
    stem, listener = bench.unique("p"), bench.Listener()
    first = await bench.topic(name=f"dev.{stem}.one.x.v1")
    await bench.send(first, b"1")
    source = await bench.source(
        [rf"^dev\.{stem}\."], "", listener, consumer_metadata_max_age_ms=300
    )
    await bench.read(source, 1)

    async def drain(partitions):
        await source.commit(dict.fromkeys(partitions, 1))

    listener.on_revoked = drain
    await bench.topic(name=f"dev.{stem}.two.x.v1")
    await bench.polling(source, lambda: len(listener.assigned_to) == 3)
    assert source.callback_failures == 0
    assert await bench.read(source, 1, limit_s=0.5) == []


async def test_new_partitions_are_read_from_their_beginning(bench):
    topic = await bench.topic()
    source = await bench.source([topic], consumer_metadata_max_age_ms=300)
    async with KafkaAdmin(bench.settings) as admin:
        await admin.grow(topic, 2)
    producer = await bench.producer()
    while len(await producer.partitions_for(topic)) < 2:
        await producer.client.force_metadata_update()
    await bench.send(topic, b"new", partition=1)
    assert [record.value for record in await bench.read(source, 1)] == [b"new"]


async def test_a_paused_partition_stays_assigned_and_goes_on_where_it_was(bench):
    topic = await bench.topic(2)
    source = await bench.source([topic])
    source.pause([(topic, 0)])
    await bench.send(topic, b"paused", partition=0)
    await bench.send(topic, b"free", partition=1)
    assert [record.value for record in await bench.read(source, 2, limit_s=0.6)] == [b"free"]
    source.resume([(topic, 0)])
    assert [record.value for record in await bench.read(source, 1)] == [b"paused"]


async def test_reopening_revokes_all_and_goes_on_at_the_committed_offset(bench):
    topic, listener = await bench.topic(), bench.Listener()
    await bench.send(topic, b"1", b"2")
    source = await bench.source([topic], "", listener)
    await bench.read(source, 2)
    await source.commit({(topic, 0): 1})
    await source.reopen()
    assert listener.revoked_from == [(topic, 0)]
    assert listener.assigned_to == [(topic, 0), (topic, 0)]
    assert [record.value for record in await bench.read(source, 1)] == [b"2"]


async def test_a_listener_that_fails_to_take_over_is_not_passed_over(bench):
    topic, listener = await bench.topic(), bench.Listener()

    async def fail(partitions):
        raise LookupError("store is locked")

    listener.on_assigned = fail
    with pytest.raises(RetriableError, match="take its partitions over"):
        await bench.source([topic], "", listener)


async def test_an_offset_that_the_log_has_lost_ends_reading_with_the_reason(bench):
    topic, group = await bench.topic(), bench.unique("g")
    await bench.send(topic, b"1")
    source = await bench.source([topic], group)
    await source.commit({(topic, 0): 7})
    await source.close()
    again = await bench.source([topic], group)
    with pytest.raises(PermanentError, match=r"holds offsets 0 to 1, but .* go on at 7"):
        await bench.read(again, 1)


async def test_a_cancelled_poll_loses_nothing_and_leaves_no_fetch_running(bench):
    topic = await bench.topic()
    source = await bench.source([topic])
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await source.poll(timeout_s=30, max_records=10)
    await bench.send(topic, b"1")
    assert [record.value for record in await bench.read(source, 1)] == [b"1"]


async def test_a_header_name_that_is_not_text_does_not_stop_its_partition(bench):
    topic, gone = await bench.topic(), []
    await bench.send(topic, b"before")
    producer = await bench.producer()
    batch = producer.create_batch()
    batch.append(key=None, value=b"hostile", timestamp=None, headers=[("name", b"")])
    body = bytearray(batch._build().replace(b"name", b"\xff\xfe\xfd\xfc"))
    body[17:21] = calc_crc32c(body[21:]).to_bytes(4, "big")
    batch._buffer = body
    await (await producer.send_batch(batch, topic, partition=0))
    await bench.send(topic, b"after")
    source = await bench.source([topic], on_quarantine=lambda key, at: gone.append((*key, at)))
    assert [record.value for record in await bench.read(source, 2)] == [b"before", b"after"]
    assert gone == [(topic, 0, 1)]
