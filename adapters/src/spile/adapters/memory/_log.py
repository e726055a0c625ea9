"""The log in memory: topics, their partitions, and what groups committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from zlib import crc32

from spile.adapters.delivery import OutgoingRecord, Record
from spile.spi import ConfigurationError, PartitionKey, RejectedError, UnknownTopicError

Operation: TypeAlias = Literal["open", "send", "poll", "commit", "lag"]
FaultHook: TypeAlias = Callable[[Operation, object], Awaitable[None]]

DEFAULT_MAX_MESSAGE_BYTES = 2_000_000


def wall_clock_ms() -> int:
    """Return the time in milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTopic:
    """
    How a topic is set up.

    Attributes:
        partitions: At least 1.
        max_message_bytes: Key, value and headers together; larger records are refused.
    """

    partitions: int = 1
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES


@dataclass(slots=True)
class Faults:
    """
    Makes operations fail or wait, for tests.

    Attributes:
        hook: Awaited before each operation with its name and what it is about: the records to send,
            the partitions polled, the offsets to commit. Raise in it to fail, wait in it to delay.
    """

    hook: FaultHook | None = None
    _planned: dict[Operation, list[BaseException]] = field(
        default_factory=dict[Operation, list[BaseException]]
    )

    def fail(self, operation: Operation, error: BaseException, *, times: int = 1) -> None:
        """Let the next `times` operations of a kind fail with an error."""
        self._planned.setdefault(operation, []).extend([error] * times)

    def clear(self) -> None:
        """Let everything succeed again."""
        self.hook = None
        self._planned.clear()

    async def before(self, operation: Operation, about: object) -> None:
        """Fail or wait as was asked."""
        planned = self._planned.get(operation)
        if planned:
            raise planned.pop(0)
        if self.hook is not None:
            await self.hook(operation, about)


class MemoryLog:
    """
    Appends records to partitions and keeps all of them in order.

    Args:
        topics: Set-up by full name.
        clock: Milliseconds since 1970; stamps records.
    """

    def __init__(self, topics: Mapping[str, MemoryTopic], clock: Callable[[], int]) -> None:
        self.topics: dict[str, MemoryTopic] = {}
        self.history: list[Record] = []
        self._clock = clock
        self._partitions: dict[PartitionKey, list[Record]] = {}
        self._spread: dict[str, int] = {}
        self._readers: set[asyncio.Event] = set()
        for name, topic in topics.items():
            self.create(name, topic)

    def create(self, name: str, topic: MemoryTopic) -> None:
        """Add a topic; raises `ConfigurationError` when there is one of that name."""
        if name in self.topics:
            raise ConfigurationError(f"topic {name!r} exists already")
        if topic.partitions < 1:
            raise ConfigurationError(f"topic {name!r} needs at least 1 partition")
        self.topics[name] = topic
        for number in range(topic.partitions):
            self._partitions[name, number] = []

    def require(self, name: str) -> MemoryTopic:
        """Return the set-up of a topic; raises `UnknownTopicError`."""
        topic = self.topics.get(name)
        if topic is None:
            raise UnknownTopicError(f"there is no topic {name!r} in the cluster", topic=name)
        return topic

    def append(self, record: OutgoingRecord) -> Record:
        """Write one record; raises `RejectedError` when it is too large or has no partition."""
        topic = self.require(record.topic)
        size = len(record.key or b"") + len(record.value or b"")
        size += sum(len(name.encode()) + len(value or b"") for name, value in record.headers)
        if size > topic.max_message_bytes:
            raise RejectedError(
                f"record of {size} bytes is over the {topic.max_message_bytes} of {record.topic}",
                code="MESSAGE_TOO_LARGE",
            )
        partition = self._partition_of(record, topic.partitions)
        log = self._partitions[record.topic, partition]
        written = Record(
            topic=record.topic,
            partition=partition,
            offset=len(log),
            timestamp=self._clock(),
            key=record.key,
            value=record.value,
            headers=tuple(record.headers),
        )
        log.append(written)
        self.history.append(written)
        return written

    def end(self, partition: PartitionKey) -> int:
        """Return the offset that the next record gets."""
        return len(self._partitions[partition])

    def read(self, partition: PartitionKey, offset: int, limit: int) -> list[Record]:
        """Return up to `limit` records from an offset on."""
        return self._partitions[partition][offset : offset + limit]

    def wake(self) -> None:
        """Tell readers that there is something new."""
        for reader in self._readers:
            reader.set()

    def attach(self, reader: asyncio.Event) -> None:
        """Set this event at each `wake`."""
        self._readers.add(reader)

    def detach(self, reader: asyncio.Event) -> None:
        """End `attach`."""
        self._readers.discard(reader)

    def _partition_of(self, record: OutgoingRecord, partitions: int) -> int:
        if record.partition is not None:
            if not 0 <= record.partition < partitions:
                raise RejectedError(
                    f"{record.topic} has no partition {record.partition}, only {partitions}",
                    code="UNKNOWN_TOPIC_OR_PARTITION",
                )
            return record.partition
        if record.key is not None:
            return crc32(record.key) % partitions
        turn = self._spread.get(record.topic, 0)
        self._spread[record.topic] = turn + 1
        return turn % partitions
