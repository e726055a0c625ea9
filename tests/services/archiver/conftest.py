"""What the tests of the archiver share: archives to fill, and readers that are not ours."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import io
import json
import os
import shutil
import socket
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import avro.datafile
import avro.io
import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from spile.adapters.delivery import Backoff, OutgoingRecord, Record
from spile.adapters.memory import MemoryEventBus
from spile.adapters.subscribing import SubscriptionOptions
from spile.services.archiver import Archiver
from spile.services.archiver.objects import CuttingRule, Manifest, PartitionCutter, SealedObject
from spile.services.archiver.stores import ArchiveStore, FolderStore
from spile.services.archiver.stores._s3 import S3Store

# versitygw is built where Go is; everywhere else moto alone serves.
collect_ignore = [] if shutil.which("go") else ["test_archive_versitygw.py"]

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
    return [made for record in records for made in cutter.add(record)]


def read_avro(data: bytes) -> list[dict[str, Any]]:
    """Read an object as Apache's own package does."""
    with avro.datafile.DataFileReader(io.BytesIO(data), avro.io.DatumReader()) as reader:
        return list(reader)


class Archive:
    """What an archive holds, read from outside."""

    def __init__(self, store: ArchiveStore) -> None:
        self.store = store
        self._read: dict[str, bytes] = {}

    def content(self, prefix: str = "") -> dict[str, bytes]:
        """Return every stored byte by key; what was read once is not read again."""
        keys = [stored.key for stored in list(self.store.list(prefix))]
        for key in keys:
            if key not in self._read:
                with self.store.open(key) as stream:
                    self._read[key] = stream.read()
        return {key: self._read[key] for key in keys}

    def manifests(self, topic: str = TOPIC, partition: int = 0) -> list[Manifest]:
        """Return the manifests of a partition, in order."""
        content = self.content(f"manifests/topic={topic}/partition={partition}/")
        return [Manifest.from_json(data, key=key) for key, data in sorted(content.items())]

    def partitions(self) -> set[tuple[str, int]]:
        """Return the partitions that have something."""
        manifests = [json.loads(data) for data in self.content("manifests/").values()]
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

    def archived(self, topic: str = "") -> int:
        """Return how many records the manifests of a topic count, or those of all."""
        content = self.content(f"manifests/topic={topic}")
        return sum(json.loads(data)["count"] for data in content.values())


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
    options = {"check_s": 0.02, "backoff": Backoff(initial_s=0.02, max_s=0.5), **options}
    async with Archiver(store, rule, publish=bus.adapter.publish_record, **options) as archiver:
        subscription = await bus.subscribe_batches(
            topics, group, archiver, offsets=archiver, manual_commit=True
        )
        archiver.bind(subscription)
        try:
            yield archiver
        finally:
            await subscription.close()


class S3Server:
    """
    moto over real HTTP on a free port, which answers badly when it is told to.

    Attributes:
        faults: Called with method, path and `before` or `after` the request was carried out; what
            it returns is done: `cut` closes the connection, a number is answered as a status.
        seen: Method and path of every request.
        url: Its address.
    """

    def __init__(self) -> None:
        self.faults: Callable[[str, str, str], str | int | None] = lambda *_: None
        self.seen: list[tuple[str, str]] = []
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _answer(self, environ: Any, start_response: Any) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.seen.append((method, path))
        if (answer := self._bad(environ, start_response, method, path, "before")) is not None:
            return answer
        told: list[Any] = []
        body = b"".join(self._moto(environ, lambda *args: told.append(args)))
        if (answer := self._bad(environ, start_response, method, path, "after")) is not None:
            return answer
        start_response(*told[0])
        return [body]

    def _bad(self, environ: Any, start_response: Any, method: str, path: str, when: str) -> Any:
        fault = self.faults(method, path, when)
        if fault is None:
            return None
        if fault == "cut":
            start_response("200 OK", [])
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(f"{fault} Bad", [("Location", "http://127.0.0.2:9/elsewhere")])
        return []

    def make_bucket(self) -> str:
        """Make a bucket."""
        name = f"archive-{uuid.uuid4().hex[:12]}"
        boto3.client("s3", endpoint_url=self.url, region_name="us-east-1").create_bucket(
            Bucket=name
        )
        return name

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Start an S3 server for all tests, and give them credentials."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "spile",
            "AWS_SECRET_ACCESS_KEY": "spile-test",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        server = S3Server()
        yield server
        server.close()


@pytest.fixture
def s3(s3_server: S3Server) -> Iterator[S3Server]:
    """Give the S3 server, behaving well."""
    s3_server.seen.clear()
    yield s3_server
    s3_server.faults = lambda *_: None


@pytest.fixture(scope="session")
def opened_bucket(s3_server: S3Server) -> S3Store:
    """Open a bucket once: boto3 takes long for that."""
    return S3Store(s3_server.make_bucket(), endpoint=s3_server.url, timeout_s=2.0)


@pytest.fixture
def bucket(s3: S3Server, opened_bucket: S3Store) -> S3Store:
    """Open an archive below a prefix of its own."""
    store = copy.copy(opened_bucket)
    store._lead = f"archive/{uuid.uuid4().hex}/"
    return store
