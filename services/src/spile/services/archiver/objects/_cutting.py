"""Where one object ends and the next begins: a function of the log, never of the clock."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from spile.services.archiver.objects._container import (
    MAX_READ_BYTES,
    SCHEMA_SHA256,
    ObjectWriter,
)
from spile.services.archiver.objects._keys import ObjectKey
from spile.services.archiver.objects._manifests import Manifest
from spile.spi import ProtocolRecord
from spile.topics import TICK

_WRITER: Final = "spile-archiver 1"
_MOST_MINUTES: Final = 10_000
_MINUTE: Final = re.compile(
    rb"(\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d)"
    rb"(?::[0-5]\d(?:\.\d{1,9})?)?(?:Z|\+00:00)"
)
_MINUTE_BYTES: Final = 16
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class CuttingRule:
    """
    When an object is full: with the first record that reaches one of the limits, which is its last.

    A record that readers do not take (`MAX_READ_BYTES`) has an object of its own, so that they take
    its neighbours.

    Attributes:
        records: Records of an object, 50,000 by default.
        size_bytes: Bytes of its records, uncompressed Avro, 32 MiB by default.
        window: Distance of a record's time from the first one's, 10 minutes by default; also when
            it lies before, so that one record from the future cannot hold an object open.
    """

    records: int = 50_000
    size_bytes: int = 32 << 20
    window: timedelta = timedelta(minutes=10)

    def __post_init__(self) -> None:
        if self.records < 1 or self.size_bytes < 1 or self.window_ms < 1:
            raise ValueError("records, size_bytes and window (in milliseconds) must be at least 1")

    @property
    def window_ms(self) -> int:
        """The window in milliseconds."""
        return self.window // timedelta(milliseconds=1)

    @property
    def name(self) -> str:
        """Name of the rule: another rule, or another form of the objects, has another one."""
        text = (
            f"{self.records} records, {self.size_bytes} bytes, {self.window_ms} ms, "
            f"alone beyond {MAX_READ_BYTES} bytes"
        )
        digest = hashlib.sha256(f"{text}, schema {SCHEMA_SHA256}".encode())
        return f"v1-{digest.hexdigest()[:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedObject:
    """An object that is complete, with its manifest; the key is `manifest.object`."""

    data: bytes
    manifest: Manifest


class PartitionCutter:
    """
    Makes objects of the records of one partition.

    Args:
        rule: When an object is full.
        topic: Full name.
        partition: Number of the partition.
        position: Where the archive of the partition goes on; by default where the first record is.
    """

    def __init__(
        self, rule: CuttingRule, topic: str, partition: int, *, position: int | None = None
    ) -> None:
        self._rule = rule
        self._name = rule.name
        self._window_ms = rule.window_ms
        self._topic = topic
        self._partition = partition
        self._position = position
        self._open: _OpenObject | None = None

    @property
    def first_timestamp(self) -> int | None:
        """Record time of the open object's first record, in milliseconds; None without one."""
        return None if self._open is None else self._open.first.timestamp

    @property
    def size_bytes(self) -> int:
        """Uncompressed bytes of the open object."""
        return 0 if self._open is None else self._open.size_bytes

    @property
    def held_bytes(self) -> int:
        """Bytes of the open object in memory."""
        return 0 if self._open is None else self._open.writer.held_bytes

    def add(self, record: ProtocolRecord) -> tuple[SealedObject, ...]:
        """
        Take the partition's next record; return the objects that it ends, in order.

        That is the one it completes, and before it the open one when the record stands alone.

        Raises:
            InvalidTopicError: The topic's name could leave the archive.
        """
        opened = self._open or self._begin(record)
        data = opened.writer.encoded(record)
        is_alone = len(data) > MAX_READ_BYTES
        sealed: list[SealedObject] = []
        if is_alone and opened.count:
            sealed.append(self._seal(opened))
            opened = self._begin(record)
        opened.add(record, data)
        self._open = opened
        rule = self._rule
        if (
            is_alone
            or opened.count >= rule.records
            or opened.size_bytes >= rule.size_bytes
            or abs(record.timestamp - opened.first.timestamp) >= self._window_ms
        ):
            sealed.append(self._seal(opened))
        return tuple(sealed)

    def _begin(self, record: ProtocolRecord) -> _OpenObject:
        key = ObjectKey.of(
            self._name,
            self._topic,
            self._partition,
            first_offset=record.offset,
            timestamp=record.timestamp,
        )
        return _OpenObject(key, record, record.offset if self._position is None else self._position)

    def _seal(self, opened: _OpenObject) -> SealedObject:
        self._open = None
        self._position = opened.last.offset + 1
        return opened.sealed()


class _OpenObject:
    """An object that records are added to."""

    def __init__(self, key: ObjectKey, first: ProtocolRecord, position: int) -> None:
        self.writer = ObjectWriter(str(key), topic=key.topic, partition=key.partition)
        self.first = self.last = first
        self.earliest = self.latest = first.timestamp
        self.count = self.size_bytes = 0
        self._key = key
        self._position = position
        self._minutes: Counter[str] = Counter()
        self._ticks = 0

    def add(self, record: ProtocolRecord, data: bytes) -> None:
        self.writer.add(data)
        self.size_bytes += len(data)
        self.count += 1
        self.last = record
        self.earliest = min(self.earliest, record.timestamp)
        self.latest = max(self.latest, record.timestamp)
        headers = dict(record.headers)
        if headers.get("event_type") == _TICK:
            self._ticks += 1
            return
        minute = _minute(headers.get("timestamp"), record.timestamp)
        if minute not in self._minutes and len(self._minutes) >= _MOST_MINUTES:
            minute = "other"
        self._minutes[minute] += 1

    def sealed(self) -> SealedObject:
        data = self.writer.close()
        return SealedObject(
            data=data,
            manifest=Manifest(
                writer=_WRITER,
                rule=self._key.rule,
                object=str(self._key),
                sha256=hashlib.sha256(data).hexdigest(),
                size_bytes=len(data),
                schema_sha256=SCHEMA_SHA256,
                topic=self._key.topic,
                partition=self._key.partition,
                count=self.count,
                start_position=self._position,
                first_offset=self.first.offset,
                last_offset=self.last.offset,
                next_position=self.last.offset + 1,
                first_timestamp=self.first.timestamp,
                last_timestamp=self.last.timestamp,
                earliest_timestamp=self.earliest,
                latest_timestamp=self.latest,
                ticks=self._ticks,
                event_minutes=dict(sorted(self._minutes.items())),
            ),
        )


_TICK: Final = TICK.encode()


def _minute(stamp: bytes | None, record_ms: int) -> str:
    """Return the minute of an event: by its header, by record time when that is unreadable."""
    if stamp and _MINUTE.fullmatch(stamp):
        return stamp[:_MINUTE_BYTES].decode() + "Z"
    try:
        moment = _EPOCH + timedelta(milliseconds=record_ms)
    except OverflowError:
        return "other"
    return moment.strftime("%Y-%m-%dT%H:%MZ")
