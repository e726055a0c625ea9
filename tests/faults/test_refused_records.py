"""Records that the broker refuses must not poison the producer (idempotent sequence numbers)."""

import asyncio
import base64
import json
import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from spile.adapters.delivery import OutgoingEvent
from spile.adapters.kafka import KafkaAdmin, create_publisher
from spile.testkit.load import EVENT_TYPE, LOAD_CATALOGUE
from spile.topics import uuid7_text

TOPIC = "dev.spile.load.sequenced.v1"
DLQ = f"{TOPIC}.dlq"
TOPIC_LIMIT = 60_000
TWO_HOURS_S = 7200


def event(key, seq=0, padding="", **changes):
    """Return an event with an id and a time of its own, so that it can be encoded again."""
    return OutgoingEvent(
        event_type=EVENT_TYPE,
        payload={"key": key, "seq": seq, "padding": padding},
        partition_key=key,
        event_id=uuid7_text(),
        **({"timestamp": datetime.now(UTC)} | changes),
    )


def bulk():
    """Return 90 kB that compression does not bring below the limit of the topic."""
    return base64.b64encode(os.urandom(67_000)).decode()


@pytest.fixture
async def rig(make_rig):
    return await make_rig()


@pytest.fixture
async def publisher(rig):
    async with create_publisher(rig.settings, LOAD_CATALOGUE, service="load") as made:
        yield made


def ids(records):
    return [json.loads(record.value)["event_id"] for record in records]


async def test_oversized_record_spares_its_neighbours(rig, publisher):
    """
    The broker refuses one record of a batch: its neighbours and the next 100 get through, once and
    in order, under their own ids; the refused one stands in the dead letter queue byte for byte.
    """
    async with KafkaAdmin(rig.settings) as admin:
        await admin.configure(TOPIC, {"max.message.bytes": str(TOPIC_LIMIT)})
    batch = [event("one", seq, bulk() if seq == 5 else "") for seq in range(10)]
    refused = batch[5]

    results = await publisher.publish_many(batch)
    following = [event("one", 10 + seq) for seq in range(50)]
    elsewhere = [event(f"other-{seq}") for seq in range(50)]
    after = await asyncio.gather(*map(publisher.publish_event, [*following, *elsewhere]))

    on_bus = await rig.read()
    dead = await rig.read(DLQ)
    metrics = await publisher.get_metrics()
    rig.report(
        "oversized record",
        neighbours_of_9=sum(results),
        next_of_100=sum(after),
        dead=len(dead),
        on_bus=len(on_bus),
        breaker=metrics["circuit_breaker_status"],
    )
    assert results == [True] * 5 + [False] + [True] * 4
    assert after == [True] * 100
    assert metrics["circuit_breaker_opens"] == 0
    one = [r for r in on_bus if r.key == b"one"]
    assert ids(one) == [e.event_id for e in [*batch[:5], *batch[6:], *following]]
    assert len(on_bus) == len(set(ids(on_bus))) == 109

    async with KafkaAdmin(rig.settings) as admin:
        await admin.configure(TOPIC, {"max.message.bytes": "3000000"})
    assert await publisher.publish_event(refused)
    original = next(r for r in await rig.read() if refused.event_id in ids([r]))
    (kept,) = dead
    assert (kept.key, kept.value) == (original.key, original.value)
    assert kept.headers[: len(original.headers)] == original.headers


async def test_single_oversized_publish_does_not_poison(rig, publisher):
    """Refused one by one, again and again, with others under way: only the refused ones fail."""
    async with KafkaAdmin(rig.settings) as admin:
        await admin.configure(TOPIC, {"max.message.bytes": str(TOPIC_LIMIT)})
    for _ in range(3):
        good = [event(f"key-{number}", number) for number in range(33)]
        calls = [publisher.publish_event(e) for e in [*good, event("key-0", 99, bulk())]]
        assert await asyncio.gather(*calls) == [True] * 33 + [False]
    after = await asyncio.gather(*(publisher.publish_event(event("key-0")) for _ in range(100)))
    assert after == [True] * 100
    on_bus = ids(await rig.read())
    assert len(on_bus) == len(set(on_bus)) == 199
    assert len(await rig.read(DLQ)) == 3
    assert (await publisher.get_metrics())["events_sent_to_dlq"] == 3


class Clock:
    """Stands in for the module `time` where records are stamped; may run ahead."""

    def __init__(self):
        self.ahead_s = 0.0
        self.monotonic = time.monotonic

    def time(self):
        return time.time() + self.ahead_s


async def test_clock_that_runs_ahead_does_not_poison(rig, publisher, monkeypatch):
    """A record stamped two hours ahead is refused; once the clock is right the next 100 pass."""
    clock = Clock()
    monkeypatch.setattr("spile.adapters.kafka._pump.time", clock)
    assert await publisher.publish_event(event("one"))
    clock.ahead_s = TWO_HOURS_S
    ahead = event("one", 1)
    assert await publisher.publish_event(ahead) is False
    clock.ahead_s = 0.0
    after = await asyncio.gather(*(publisher.publish_event(event("one")) for _ in range(99)))
    assert [await publisher.publish_event(ahead), *after] == [True] * 100
    on_bus = ids(await rig.read())
    assert len(on_bus) == len(set(on_bus)) == 101
    assert (await publisher.get_metrics())["circuit_breaker_opens"] == 0

    # An event that says it happens tomorrow is another matter: records bear the time of sending.
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert await publisher.publish_event(event("one", 1, timestamp=tomorrow))
    stamps = [record.timestamp / 1000 for record in await rig.read()]
    assert all(abs(stamp - time.time()) < 60 for stamp in stamps)
    assert await rig.read(DLQ) == []
