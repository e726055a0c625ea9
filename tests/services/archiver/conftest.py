"""What the tests of the archiver share: archives to fill, and eyes that are not ours to read them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import avro.datafile
import avro.io
import pytest

from spile.adapters.delivery import OutgoingRecord, Record
from spile.adapters.memory import MemoryEventBus
from spile.adapters.subscribing import SubscriptionOptions
from spile.services.archiver import Archiver
from spile.services.archiver.objects import CuttingRule, Manifest, PartitionCutter, SealedObject
from spile.services.archiver.stores import ArchiveStore, FolderStore

TOPIC = "dev.agent.tool.recorded.v1"
NOON = 1_767_268_800_000
"""2026-01-01, 12 o'clock UTC, in milliseconds."""


def make_records(count: int, *, first: int = 0, step_ms: int = 1, **changes: Any) -> list[Record]:
    """Make records of one partition in the order of their offsets."""
    return [
        Record(
            **{
                "topic": TOPIC,
                "partition": 0,
                "offset": offset,
                "timestamp": NOON + offset * step_ms,
                "key": b"key",
                "value": b'{"number":%d}' % offset,
                "headers": (("event_type", b"PRE_TOOL_USE"),),
                **changes,
            }
        )
        for offset in range(first, first + count)
    ]


def seal(records: list[Record], rule: CuttingRule | None = None) -> list[SealedObject]:
    """Cut records into objects."""
    cutter = PartitionCutter(rule or CuttingRule(records=len(records)), TOPIC, 0)
    return [made for record in records if (made := cutter.add(record)) is not None]


def read_avro(data: bytes) -> list[dict[str, Any]]:
    """Read an object as Apache's own package does."""
    with avro.datafile.DataFileReader(io.BytesIO(data), avro.io.DatumReader()) as reader:
        return list(reader)


class Archive:
    """What an archive holds, read from outside."""

    def __init__(self, store: ArchiveStore) -> None:
        self.store = store

    def content(self) -> dict[str, bytes]:
        """Return every stored byte by key."""
        found = {}
        for stored in list(self.store.list()):
            with self.store.open(stored.key) as stream:
                found[stored.key] = stream.read()
        return found

    def manifests(self, topic: str = TOPIC, partition: int = 0) -> list[Manifest]:
        """Return the manifests of a partition, in order."""
        prefix = f"manifests/topic={topic}/partition={partition}/"
        content = self.content()
        return [
            Manifest.from_json(content[key], key=key)
            for key in sorted(content)
            if key.startswith(prefix)
        ]

    def partitions(self) -> set[tuple[str, int]]:
        """Return the partitions that have something."""
        manifests = [
            json.loads(data) for key, data in self.content().items() if key.startswith("manifests/")
        ]
        return {(found["topic"], found["partition"]) for found in manifests}

    def records(self, topic: str = TOPIC, partition: int = 0) -> list[dict[str, Any]]:
        """Return the records of a partition, as the manifests lead to them; checks the chain."""
        found: list[dict[str, Any]] = []
        position = None
        content = self.content()
        for manifest in self.manifests(topic, partition):
            assert position in {None, manifest.start_position}
            rows = read_avro(content[manifest.object])
            assert [rows[0]["offset"], rows[-1]["offset"]] == [
                manifest.first_offset,
                manifest.last_offset,
            ]
            assert len(rows) == manifest.count
            found += rows
            position = manifest.next_position
        return found

    def offsets(self, topic: str = TOPIC, partition: int = 0) -> list[int]:
        """Return the offsets of a partition, in the order of the archive."""
        return [row["offset"] for row in self.records(topic, partition)]

    def archived(self) -> int:
        """Return how many records the manifests count."""
        manifests = [
            json.loads(data) for key, data in self.content().items() if key.startswith("manifests/")
        ]
        return sum(manifest["count"] for manifest in manifests)


async def until(holds: Callable[[], bool], limit_s: float = 10.0) -> None:
    """Wait until something holds that tells nobody."""
    async with asyncio.timeout(limit_s):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - a store tells nobody
            await asyncio.sleep(0.01)


@pytest.fixture
def topic() -> str:
    """Return the topic that is archived."""
    return TOPIC


@pytest.fixture
def noon() -> int:
    """Return the record time of the first record of `numbered`."""
    return NOON


@pytest.fixture(name="numbered")
def _numbered() -> Callable[..., list[Record]]:
    return make_records


@pytest.fixture(name="seal")
def _seal() -> Callable[..., list[SealedObject]]:
    return seal


@pytest.fixture(name="read_avro")
def _read_avro() -> Callable[[bytes], list[dict[str, Any]]]:
    return read_avro


@pytest.fixture
def look() -> Callable[[ArchiveStore], Archive]:
    """Look at an archive from outside."""
    return Archive


@pytest.fixture(name="until")
def _until() -> Callable[..., Any]:
    return until


@pytest.fixture(name="archiving")
def _archiving() -> Callable[..., Any]:
    return archiving


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    """Open an archive in a folder."""
    return FolderStore(tmp_path / "archive")


@pytest.fixture
async def bus() -> AsyncIterator[MemoryEventBus]:
    """Open a bus in memory."""
    async with MemoryEventBus(options=SubscriptionOptions(poll_timeout_s=0.02)) as opened:
        yield opened


@pytest.fixture
def publish(bus: MemoryEventBus) -> Callable[..., Any]:
    """Publish numbered records to one partition."""

    async def send(count: int, *, topic: str = TOPIC, partition: int = 0, size: int = 10) -> None:
        headers = [("event_type", b"PRE_TOOL_USE"), ("timestamp", b"2026-01-01T12:00:01.5Z")]
        await bus.cluster.sender().send(
            [
                OutgoingRecord(topic, b"key", b"%0*d" % (size, number), headers, partition)
                for number in range(count)
            ]
        )

    return send


@contextlib.asynccontextmanager
async def archiving(
    bus: Any,
    store: ArchiveStore,
    *,
    group: str = "archiver",
    topics: tuple[str, ...] = (TOPIC,),
    records: int = 100,
    window: timedelta = timedelta(hours=1),
    **options: Any,
) -> AsyncIterator[Archiver]:
    """Run an archiver."""
    rule = CuttingRule(records=records, window=window)
    async with Archiver(
        store, rule, publish=bus.adapter.publish_record, check_s=0.02, **options
    ) as archiver:
        subscription = await bus.subscribe_batches(
            topics, group, archiver, offsets=archiver, manual_commit=True
        )
        archiver.bind(subscription)
        try:
            yield archiver
        finally:
            await subscription.close()
