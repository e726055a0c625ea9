"""Records that no publisher of ours would write, by a plain producer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer
from tests.faults.rig import DLQ, POISON, TOPIC, Rig

from spile.adapters.delivery import plain_headers
from spile.testkit.load import EVENT_TYPE
from spile.topics import encode_envelope, uuid7_text

MARK = (POISON, b"1")
"""Header of each record that was made here and is no event of a load."""

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Raw:
    """A record to write as it is."""

    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    key: bytes | None = None


def event_record(key: str = "poison", seq: int = 0, **headers: bytes) -> Raw:
    """Return a sound record of the load's topic, with some headers changed."""
    event_id, correlation_id = uuid7_text(), uuid7_text()
    value = encode_envelope(
        event_id=event_id,
        event_type=EVENT_TYPE,
        correlation_id=correlation_id,
        causation_id=None,
        timestamp="2026-01-02T03:04:05Z",
        service_json=b'"load"',
        payload_json=json.dumps({"key": key, "seq": seq}).encode(),
    )
    sound = dict(plain_headers(source="load", event_type=EVENT_TYPE, now=datetime.now(UTC)))
    sound |= {
        "content_type": b"application/json",
        "message_id": event_id.encode(),
        "correlation_id": correlation_id.encode(),
        "schema_version": b"1.0.0",
    }
    return Raw(value, (*(sound | headers).items(), MARK), key.encode())


def bad_json() -> Raw:
    one = event_record()
    return Raw(one.value[:-3], one.headers, one.key)


def unknown_schema() -> Raw:
    one = event_record(content_type=b"application/vnd.confluent.avro")
    return Raw(b"\x00\x00\x0f\x42\x3f" + one.value, one.headers, one.key)


def wrong_type() -> Raw:
    one = event_record()
    return Raw(one.value.replace(b'"event_type":"', b'"event_type":5,"x":"'), one.headers, one.key)


KINDS: tuple[Callable[[], Raw], ...] = (bad_json, wrong_type)
"""What a worker without a schema registry can tell to be broken."""


@contextlib.asynccontextmanager
async def producer(rig: Rig) -> AsyncIterator[AIOKafkaProducer]:
    """Open a plain producer on the brokers themselves."""
    made = AIOKafkaProducer(
        bootstrap_servers=rig.broker.bootstrap_servers,
        enable_idempotence=True,
        max_request_size=3_000_000,
        request_timeout_ms=5000,
    )
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def write(made: AIOKafkaProducer, raw: Raw, partition: int | None = None) -> Place:
    """Write one record and return its place."""
    done = await made.send_and_wait(
        TOPIC, raw.value, key=raw.key, headers=list(raw.headers), partition=partition
    )
    return done.partition, done.offset


@dataclass(frozen=True, slots=True)
class Buried:
    """The dead letters of a topic: where they came from, and how many stand there twice."""

    places: set[Place]
    repeats: int
    damaged: int


@dataclass(slots=True)
class Poison:
    """What was injected, and a look at what became of it."""

    rig: Rig
    places: set[Place] = field(default_factory=set)
    values: dict[Place, bytes | None] = field(default_factory=dict)

    def note(self, place: Place, raw: Raw) -> None:
        self.places.add(place)
        self.values[place] = raw.value

    async def buried(self) -> Buried:
        """Read the dead letter queue; `damaged` counts values that are not as they were."""
        found, damaged = [], 0
        for record in await self.rig.read(DLQ):
            facts = {
                name: (value or b"").decode(errors="replace") for name, value in record.headers
            }
            place = (
                int(facts["x-spile-dlq-original-partition"]),
                int(facts["x-spile-dlq-original-offset"]),
            )
            found.append(place)
            damaged += self.values.get(place, record.value) != record.value
        return Buried(set(found), len(found) - len(set(found)), damaged)


@contextlib.asynccontextmanager
async def poisoned(
    rig: Rig,
    *,
    every_s: float,
    seed: int = 1,
    kinds: Sequence[Callable[[], Raw]] = KINDS,
) -> AsyncIterator[Poison]:
    """Write a record that cannot be stored again and again while this lasts."""
    poison, chance = Poison(rig), random.Random(seed)
    async with producer(rig) as made, asyncio.TaskGroup() as tasks:

        async def inject() -> None:
            while True:
                raw = chance.choice(kinds)()
                poison.note(await write(made, raw, chance.randrange(6)), raw)
                await asyncio.sleep(every_s)

        injecting = tasks.create_task(inject())
        try:
            yield poison
        finally:
            injecting.cancel()
