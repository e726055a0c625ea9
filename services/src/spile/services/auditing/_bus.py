"""What stands on the bus, by minute; 28 bytes a record are kept, one topic at a time."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from spile.adapters.delivery import LogReader
from spile.services.auditing._minutes import event_minute, minute_after
from spile.services.auditing._values import Window
from spile.services.auditing._walking import Span, walk
from spile.spi import PartitionKey, ProtocolRecord
from spile.topics import TICK

_TICK: Final = TICK.encode()
_ID_BYTES: Final = 16
_NO_EVENT: Final = bytes(_ID_BYTES)
_NOW: Final = "~"  # sorts behind every minute


class MinuteRecords:
    """
    The records of one topic and minute.

    Attributes:
        services: Records of those services that report, by service.
    """

    __slots__ = ("_ids", "_offsets", "_partitions", "services")

    def __init__(self) -> None:
        self._ids = bytearray()
        self._partitions = array("i")
        self._offsets = array("q")
        self.services: Counter[str] = Counter()

    def add(self, event_id: bytes, partition: int, offset: int) -> None:
        """Add a record; 16 zero bytes are the id of one that holds no event."""
        self._ids += event_id
        self._partitions.append(partition)
        self._offsets.append(offset)

    def __len__(self) -> int:
        return len(self._offsets)

    def places(self) -> Iterator[tuple[int, int]]:
        """Return partition and offset of each record."""
        return zip(self._partitions, self._offsets, strict=True)

    def events(self) -> dict[bytes, list[tuple[int, int]]]:
        """Return the places of each event, by its id; tombstones are none."""
        found: dict[bytes, list[tuple[int, int]]] = {}
        for index, place in enumerate(self.places()):
            event_id = bytes(self._ids[index * _ID_BYTES : (index + 1) * _ID_BYTES])
            if event_id != _NO_EVENT:
                found.setdefault(event_id, []).append(place)
        return found


@dataclass(slots=True, kw_only=True)
class BusTopic:
    """
    What stands on the bus of one topic.

    Attributes:
        topic: Full name.
        minutes: By minute, those of the window only.
        whole_from: First minute of which retention has taken nothing.
    """

    topic: str
    minutes: dict[str, MinuteRecords] = field(default_factory=dict[str, MinuteRecords])
    whole_from: str = ""


async def read_topic(
    reader: LogReader, topic: str, span: Span, window: Window, services: Collection[str]
) -> BusTopic:
    """
    Read a topic.

    Args:
        reader: Of the log.
        topic: Full name.
        span: Which part of it.
        window: Which minutes matter.
        services: Whose records are counted apart.

    Raises:
        RejectedError: Records were deleted while they were read; try again.
        RetriableError: The broker is away.
    """
    found = BusTopic(topic=topic)
    names = {name.encode(): name for name in services}
    firsts: dict[PartitionKey, int] = {}
    async for records in walk(reader, span):
        for record in records:
            firsts.setdefault((record.topic, record.partition), record.timestamp)
            _add(found, record, window, names)
    for key, first in span.beginnings.items():
        if first > 0 and span.starts[key] == first:
            stamp = firsts.get(key)
            found.whole_from = max(found.whole_from, _NOW if stamp is None else minute_after(stamp))
    return found


def _add(
    found: BusTopic, record: ProtocolRecord, window: Window, names: Mapping[bytes, str]
) -> None:
    headers = dict(record.headers)
    if headers.get("event_type") == _TICK:
        return
    minute = event_minute(headers.get("timestamp"), record.timestamp)
    records = found.minutes.get(minute)
    if records is None:
        if not window.holds(minute):
            return
        records = found.minutes[minute] = MinuteRecords()
    if record.value is None:
        event_id = _NO_EVENT
    else:
        event_id = _event_id(headers.get("message_id"), record)
        source = names.get(headers.get("source", b""))
        if source is not None:
            records.services[source] += 1
    records.add(event_id, record.partition, record.offset)


def _event_id(raw: bytes | None, record: ProtocolRecord) -> bytes:
    """Return the id of an event; one made of its place where it has none that can be read."""
    try:
        return UUID((raw or b"").decode()).bytes
    except ValueError:
        place = record.partition.to_bytes(4, "big") + record.offset.to_bytes(8, "big")
        return b"\xff" * 4 + place
