"""Records that are poison, damaged, or come twice (F10, F12, F14, F22)."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from tests.faults.matrix.stage import Stage, cell
from tests.faults.raw import (
    KINDS,
    MARK,
    Poison,
    Raw,
    event_record,
    poisoned,
    producer,
    unknown_schema,
    write,
)
from tests.faults.rig import DLQ, POISON, TOPIC, Rig

from spile.adapters.registry import RegistrySettings

MIB = 1 << 20
FLIPS = 5_000
COVERED_FROM = 21
"""A batch's checksum covers what stands behind it (KIP-98); before are base offset and length."""


@cell("F10", "poison, about 1 record in 97: bad JSON, unknown schema id, wrong type")
async def poison_records(stage: Stage) -> None:
    rig = stage.rig
    address = (rig.folder / "registry").as_uri()
    registry = RegistrySettings(url=address).open()
    assert registry is not None
    async with registry:
        await registry.register_schema("poison-value", {"type": "string"})
    await stage.begin(rate=290, SPILE_REGISTRY_URL=address)
    async with poisoned(
        rig, every_s=1 / 3, seed=stage.seed, kinds=(*KINDS, unknown_schema)
    ) as poison:
        standstill_s = await longest_standstill(rig, 12.0)
    stage.healed()
    stage.hit(len(poison.places))
    await stage.finish()
    buried = await poison.buried()
    stage.figures |= {"poison": len(poison.places), "standstill_s": standstill_s}
    stage.require(buried.places == poison.places, "dead letters are not those that were injected")
    stage.require(buried.repeats == buried.damaged == 0, "dead letters doubled or damaged")
    stage.require(standstill_s < 5, "neighbours were held up")


async def longest_standstill(rig: Rig, seconds: float) -> float:
    """Watch the store for so long; return the longest time in which it did not grow."""
    now = last = time.monotonic()
    until, seen, longest_s = now + seconds, rig.stored(), 0.0
    while now < until:
        await asyncio.sleep(0.02)
        now, count = time.monotonic(), await asyncio.to_thread(rig.stored)
        longest_s = max(longest_s, now - last)
        if count > seen:
            seen, last = count, now
    return longest_s


@cell("F12", "memory poison: records that unpack to 100 MiB of zeros, 5 of them")
async def memory_poison(stage: Stage) -> None:
    rig = stage.rig
    await stage.begin(rate=250)
    (worker,) = stage.workers
    before = worker.resident_bytes
    poison = Poison(rig)
    bomb = AIOKafkaProducer(
        bootstrap_servers=rig.broker.bootstrap_servers,
        compression_type="zstd",
        max_request_size=200 * MIB,
        max_batch_size=200 * MIB,
        request_timeout_ms=20_000,
    )
    await bomb.start()
    try:
        for number in range(5):
            one = Raw(b"\x00" * (100 * MIB), event_record().headers, b"poison")
            poison.note(await write(bomb, one, number % 2), one)
            stage.hit()
    finally:
        await bomb.stop()
    await stage.progress(300)
    stage.healed()
    await stage.finish()
    most = peak_bytes(worker.pid)
    buried = await poison.buried()
    stage.figures |= {"peak_MiB": most / MIB, "before_MiB": before / MIB}
    stage.require(buried.places == poison.places, "dead letters are not those that were injected")
    stage.require(most < 1024 * MIB, "the worker took 1 GiB")
    stage.require(worker.running, "the worker ended")


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process ever held."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the process is gone")


@cell("F14", "bits flipped: 5,000 times in batches of the log, and 5 times on the leader's disk")
async def bits_flipped(stage: Stage) -> None:
    rig = stage.rig
    await stage.begin(rate=250)
    await stage.progress(500)
    (first,) = stage.workers
    assert await stage.stop_worker(first) == 0
    async with producer(rig) as made:
        marked = [event_record(f"poison-{stage.seed}-{number}" * 4) for number in range(5)]
        places = [await write(made, one, number) for number, one in enumerate(marked)]
    for place, one in zip(places, marked, strict=True):
        stage.hit(await flip_on_disk(rig, place[0], one))
    last = rig.worker()
    stage.workers.append(last)

    def passed_over() -> int:
        return last.log.read_text().count("damaged record passed over")

    await rig.until(lambda: passed_over() >= len(marked))
    for place, one in zip(places, marked, strict=True):
        await flip_on_disk(rig, place[0], one, back=True)
    stage.healed()
    await stage.finish()
    passed = passed_over()
    batches = await asyncio.to_thread(batches_on_disk, rig)
    undetected = await asyncio.to_thread(undetected_flips, batches, stage)
    stage.figures |= {"undetected_of_5000": undetected, "passed_over": passed}
    stage.require(undetected == 0, "a flipped bit went unnoticed")
    stage.require(passed == 5, "not every damaged record was passed over and told")
    stage.require(rows_of(rig, "poison%") == 0, "a damaged record was stored")


async def flip_on_disk(rig: Rig, partition: int, record: Raw, *, back: bool = False) -> bool:
    """Flip one bit of a record's key in the log of the broker that leads its partition."""
    async with asyncio.timeout(10):
        leader = await leader_of(rig, partition)
    (path,) = rig.broker.folder.glob(f"*{leader}*/data/{TOPIC}-{partition}/*.log")
    with path.open("r+b") as log:
        data = log.read()
        at = data.find(record.key[1:] if back else record.key) - back
        assert at > 0, "the record is not there"
        log.seek(at)
        log.write(bytes([data[at] ^ 1]))
    return True


async def leader_of(rig: Rig, partition: int) -> int:
    from aiokafka.admin import AIOKafkaAdminClient  # noqa: PLC0415 - for this cell alone

    admin = AIOKafkaAdminClient(bootstrap_servers=rig.broker.bootstrap_servers)
    await admin.start()
    try:
        (topic,) = await admin.describe_topics([TOPIC])
        return next(p["leader"] for p in topic["partitions"] if p["partition"] == partition)
    finally:
        await admin.close()


def batches_on_disk(rig: Rig) -> list[bytes]:
    """Return record batches as they stand in the logs of the first broker, the sound ones."""
    found = []
    for path in rig.broker.folder.glob(f"*/data/{TOPIC}-*/*.log"):
        data = path.read_bytes()
        while len(data) > COVERED_FROM:
            size = 12 + int.from_bytes(data[8:12], "big")
            batch, data = data[:size], data[size:]
            if len(batch) == size and crc_holds(batch):
                found.append(batch)
    return found


def crc_holds(batch: bytes) -> bool:
    """Ask the client's own reader whether the checksum of a batch is right."""
    with contextlib.suppress(CorruptRecordException, ValueError):
        records = MemoryRecords(batch)
        return records.has_next() and records.next_batch().validate_crc()
    return False


def undetected_flips(batches: list[bytes], stage: Stage) -> int:
    """Flip one bit 5,000 times in what the checksum covers; return how often nobody noticed."""
    unnoticed = 0
    for _ in range(FLIPS):
        batch = bytearray(stage.chance.choice(batches))
        at = stage.chance.randrange(COVERED_FROM, len(batch))
        batch[at] ^= 1 << stage.chance.randrange(8)
        unnoticed += crc_holds(bytes(batch))
    return unnoticed


def rows_of(rig: Rig, key: str) -> int:
    """Count rows by the key of their payload, with SQL of our own."""
    with contextlib.closing(sqlite3.connect(f"file:{rig.database}?mode=ro", uri=True)) as database:
        query = "SELECT count(*) FROM events WHERE json_extract(envelope, '$.payload.key') LIKE ?"
        return database.execute(query, (key,)).fetchone()[0]


@cell("F22", "every event twice in a batch, again in later batches and in other partitions")
async def delivered_twice(stage: Stage) -> None:
    rig = stage.rig
    await stage.begin(rate=250)
    (worker,) = stage.workers
    copies = 0
    async with producer(rig) as made:
        new = [event_record(f"poison-{number}") for number in range(50)]
        for number, one in enumerate(new):
            for _ in range(2):
                await made.send(
                    TOPIC, one.value, key=one.key, headers=list(one.headers), partition=number % 6
                )
        for _ in range(3):
            await stage.progress(200)
            stored = {row.event_id for row in rig.observe_store().rows}
            found = await rig.read()
            for record in stage.chance.sample(found, min(300, len(found))):
                headers = dict(record.headers)
                if POISON in headers or headers["message_id"].decode() not in stored:
                    continue
                partition = stage.chance.randrange(6)
                for _ in range(2):
                    await made.send(
                        TOPIC,
                        record.value,
                        key=record.key,
                        headers=[*record.headers, MARK],
                        partition=partition,
                    )
                    copies += 1
            await made.flush()
    stage.hit(copies)
    stage.healed()
    await stage.finish()
    duplicates = await worker.metric("spile_store_records_total", outcome="duplicate")
    stage.figures |= {"copies_written": copies, "copies_refused": int(duplicates)}
    stage.require(rows_of(rig, "poison-%") == 50, "rows per id are not 1")
    stage.require(duplicates >= copies, "fewer copies were refused than written")
    stage.require(len(await rig.read(DLQ)) == 0, "a copy became a dead letter")
