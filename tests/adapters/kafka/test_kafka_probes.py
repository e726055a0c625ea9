"""
What the seam relies on in aiokafka, and what it works around.

A test here that fails after an upgrade of aiokafka says which workaround can go or must change.
"""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    CorruptRecordException,
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    NotCoordinatorForGroupError,
    for_code,
)
from aiokafka.protocol import commit as wire

from spile.adapters.kafka import KafkaSettings, KafkaSource
from spile.adapters.kafka._client import pin_log_levels
from spile.adapters.kafka._consumer_client import ConsumerClient, ConsumerTimes
from spile.testkit.broker import EmbeddedBroker

pytestmark = pytest.mark.kafka

TIMES = ConsumerTimes(
    session_timeout_ms=6000,
    heartbeat_interval_ms=500,
    rebalance_timeout_ms=6000,
    max_poll_interval_ms=60000,
    metadata_max_age_ms=10000,
)


@pytest.fixture(scope="module")
def two_brokers():
    """Two brokers, so that one is not the coordinator of a group."""
    with EmbeddedBroker(brokers=2) as broker:
        yield broker.bootstrap_servers


@pytest.fixture
async def moved(two_brokers):
    """A consumer with offset 5 committed that asks the wrong coordinator once."""
    admin = AIOKafkaAdminClient(bootstrap_servers=two_brokers)
    await admin.start()
    names = await admin.list_topics()
    if "t" not in names:
        await admin.create_topics([NewTopic("t", 1, 1)])
    await admin.close()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=two_brokers, group_id="g", enable_auto_commit=False
    )
    partition = TopicPartition("t", 0)
    await consumer.start()
    consumer.assign([partition])
    await consumer.commit({partition: 5})
    coordinator = consumer._coordinator
    coordinator.coordinator_id = 3 - coordinator.coordinator_id
    yield consumer, partition
    await consumer.stop()


def test_only_the_version_of_offset_fetch_with_errors_per_partition_is_spoken():
    """P1: the pin is in force."""
    pinned = wire.OffsetFetchRequest._CLASSES
    assert pinned == (wire.OffsetFetchRequest_v1,)


async def test_version_1_tells_a_moved_coordinator_per_partition(moved):
    """P1: what the pin relies on, as it is on the wire."""
    consumer, _ = moved
    request = wire.OffsetFetchRequest("g", [("t", [0])])
    response = await consumer._client.send(consumer._coordinator.coordinator_id, request)
    ((_, ((_, offset, _, code),)),) = response.topics
    assert (offset, for_code(code)) == (-1, NotCoordinatorForGroupError)


async def test_the_client_still_takes_a_moved_coordinator_for_no_offset(moved, monkeypatch):
    """P1: when this fails the client reads the top-level error, and the pin can go."""
    consumer, partition = moved
    monkeypatch.setattr(wire.OffsetFetchRequest, "_CLASSES", (wire.OffsetFetchRequest_v3,))
    assert await consumer.committed(partition) is None


async def test_with_the_pin_a_moved_coordinator_is_found_and_asked(moved):
    """P1: the pin helps."""
    consumer, partition = moved
    assert await consumer.committed(partition) == 5


async def test_the_client_still_counts_a_cancelled_fetch_for_ever(bench):
    """P9: when this fails, `poll` may call `getmany` with a timeout."""
    topic = await bench.topic()
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bench.settings.bootstrap_servers)
    await consumer.start()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await consumer.getmany(timeout_ms=5000)
    assert consumer._subscription._fetch_count == 1
    await consumer.stop()


async def test_a_failed_fetch_is_not_counted_for_ever_by_the_seam(bench, monkeypatch):
    """P9: an error inside a fetch leaves the guard against stalls in force."""
    topic = await bench.topic()
    await bench.send(topic, b"1")
    source = await bench.source([topic])
    client = source._client
    assert isinstance(client, ConsumerClient)

    async def fail(*_, **__):
        raise CorruptRecordException

    with monkeypatch.context() as patch:
        patch.setattr(client._consumer._fetcher, "fetched_records", fail)
        assert await source.poll(timeout_s=0.1, max_records=1) == {}
    assert client.fetches_running() == 0
    assert len(await bench.read(source, 1)) == 1


async def test_a_rejected_name_never_enters_the_list_of_the_client(bench):
    """P15: a name in that list would be asked for at each refresh, for ever."""
    client = ConsumerClient(bench.settings.connection(), group_id=bench.unique("g"), times=TIMES)
    await client.start(deadline_s=5)
    try:
        assert "dev.none.a.b.v1" not in await client.topics(deadline_s=5)
        assert client._consumer._client._topics == set()
    finally:
        await client.close(limit_s=2)


async def test_the_client_looks_for_new_partitions_at_least_every_30_s():
    """P4: what comes into a new partition is found by a refresh of the metadata."""
    settings = KafkaSettings(bootstrap_servers="127.0.0.1:9092")
    assert settings.consumer_metadata_max_age_ms <= 30_000
    assert settings.producer_metadata_max_age_ms <= 30_000


async def test_nothing_below_info_leaves_the_loggers_of_the_client(bench, caplog):
    """P24: at DEBUG the client would log keys, values and SASL messages."""
    topic = await bench.topic()
    caplog.set_level(logging.DEBUG)
    for name in ("aiokafka", "aiokafka.conn", "aiokafka.producer.producer"):
        caplog.set_level(logging.DEBUG, logger=name)
    await bench.send(topic, b"canary-4711")
    source = await bench.source([topic])
    await bench.read(source, 1)
    assert any(record.name.startswith("aiokafka") for record in caplog.records)
    assert "canary-4711" not in caplog.text
    assert [
        record.name
        for record in caplog.records
        if record.name.startswith("aiokafka") and record.levelno < logging.INFO
    ] == []
    pin_log_levels()


def test_what_the_client_tries_again_is_no_error_in_the_log(caplog):
    """P24: the first group on a new cluster, and an unreachable broker, are warnings at most."""
    pin_log_levels()
    again = GroupCoordinatorNotAvailableError()
    refused = GroupAuthorizationFailedError("g")
    client = logging.getLogger("aiokafka")
    coordinator = logging.getLogger("aiokafka.consumer.group_coordinator")
    with caplog.at_level(logging.INFO, logger="aiokafka"):
        client.error('Unable connect to "%s:%s": %s', "127.0.0.1", 1, OSError("refused"))
        coordinator.error("Group Coordinator Request failed: %s", again)
        coordinator.error("Group Coordinator Request failed: %s", refused)
        coordinator.error("Heartbeat failed: %r", refused)
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "WARNING", "ERROR", "ERROR"]
    caplog.clear()
    with caplog.at_level(logging.ERROR, logger="aiokafka"):
        client.error('Unable connect to "%s:%s": %s', "127.0.0.1", 1, OSError("refused"))
        client.error("Unable to update metadata from %s", [1])
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_consumer_that_never_started_can_be_closed():
    """P5: `stop` after a failed start, without a warning about an unclosed client."""
    settings = KafkaSettings(bootstrap_servers="127.0.0.1:1", start_timeout_ms=100)
    client = ConsumerClient(settings.connection(), group_id="g", times=TIMES)
    await client.close(limit_s=1)
    source = KafkaSource(settings, ["t"], "g")
    await source.close()


async def test_a_member_is_never_static_and_never_decodes(kafka):
    """P13, P22: no deserializers in the client, and no static membership, which is not fenced."""
    connection = KafkaSettings(bootstrap_servers=kafka, environment="dev").connection()
    client = ConsumerClient(connection, group_id="g", times=TIMES)
    try:
        assert client._consumer._group_instance_id is None
        assert client._consumer._key_deserializer is None
        assert client._consumer._value_deserializer is None
        assert client._consumer._enable_auto_commit is False
        assert client._consumer._auto_offset_reset == "none"
    finally:
        await client.close(limit_s=5)
