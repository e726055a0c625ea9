"""A broker that goes away, and a log with a flipped bit."""

from __future__ import annotations

import asyncio
import time

import pytest

from spile.adapters.kafka import KafkaSettings
from spile.spi import BrokerUnavailableError, RetriableError
from spile.testkit.broker import EmbeddedBroker

pytestmark = [pytest.mark.kafka, pytest.mark.faults]


@pytest.fixture(scope="module")
def own_broker():
    """A broker that tests here may kill."""
    with EmbeddedBroker(overrides={"group.min.session.timeout.ms": "1000"}) as broker:
        yield broker


@pytest.fixture
async def own(own_broker, kafka_bench):
    """A bench on it, with a short session."""
    if not own_broker.is_running(1):
        await asyncio.to_thread(own_broker.restart)
    bench = kafka_bench(
        KafkaSettings(
            environment="test",
            bootstrap_servers=own_broker.bootstrap_servers,
            session_timeout_ms=2_000,
            heartbeat_interval_ms=200,
            request_timeout_ms=1_000,
            start_timeout_ms=20_000,
            delivery_timeout_ms=5_000,
        )
    )
    yield bench
    await bench.close()


def _flip(own_broker, topic, value):
    (segment,) = own_broker.folder.rglob(f"{topic}-0/00000000000000000000.log")
    raw = bytearray(segment.read_bytes())
    at = raw.index(value)
    raw[at] ^= 0x20
    segment.write_bytes(raw)


async def test_a_damaged_record_is_passed_over_alone(own, own_broker):
    """P13: what stands before and behind it is delivered, also in other partitions."""
    gone: list[tuple[str, int, int]] = []
    topic = await own.topic(2)
    await own.send(topic, b"good-1", b"poisoned", b"good-2", partition=0)
    await own.send(topic, b"other", partition=1)
    own_broker.stop()
    _flip(own_broker, topic, b"poisoned")
    await asyncio.to_thread(own_broker.restart)
    source = await own.source([topic], on_quarantine=lambda key, at: gone.append((*key, at)))
    records = await own.read(source, 3)
    assert sorted(record.value for record in records) == [b"good-1", b"good-2", b"other"]
    assert gone == [(topic, 0, 1)]
    assert await source.poll(timeout_s=0.2, max_records=10) == {}
    await source.commit({(topic, 0): 3, (topic, 1): 1})
    assert set((await source.lag()).values()) == {0}


async def test_without_brokers_every_call_ends_and_a_rebuilt_consumer_goes_on(own, own_broker):
    """P5, P14: commit, lag and poll say so in time; reopen and close do not hang."""
    topic = await own.topic()
    await own.send(topic, b"1")
    source = await own.source([topic])
    other = await own.source([topic], "", own.Listener())
    await own.read(source, 1)
    await asyncio.to_thread(own_broker.kill)
    began = time.monotonic()
    with pytest.raises(RetriableError):
        await source.commit({(topic, 0): 1})
    with pytest.raises(RetriableError):
        await source.lag()
    with pytest.raises(BrokerUnavailableError, match="has answered"):
        await own.polling(source, lambda: False, limit_s=8)
    await other.close()
    assert time.monotonic() - began < 15
    reopening = asyncio.ensure_future(source.reopen())
    await asyncio.to_thread(own_broker.restart)
    await reopening
    assert [record.value for record in await own.read(source, 1)] == [b"1"]
