"""Reading the log without a group: the caller says where, and nothing is committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from spile.spi import PartitionKey, ProtocolRecord


class LogReader(Protocol):
    """
    Reads partitions from positions that the caller gives; one task uses it at a time.

    Only what committed transactions wrote is read, and only records whose checksum holds: a damaged
    record is passed over, logged and counted in `passed_over`. Connects at the first use. Every
    call is bounded, and raises besides what it names:

    - UnauthorisedError: The credentials are refused, or may not read the topic.
    - RetriableError: No answer in time; call it again, or `open` anew.
    - ClosedError: The reader is closed.

    Attributes:
        passed_over: How many damaged records were passed over.
    """

    passed_over: int

    async def partitions(self, topics: Sequence[str]) -> Sequence[PartitionKey]:
        """
        Return the partitions of topics, in order.

        Raises:
            UnknownTopicError: There is no such topic.
        """
        ...

    async def beginnings(self, partitions: Sequence[PartitionKey]) -> Mapping[PartitionKey, int]:
        """Return the first offset that the log still has, for each partition."""
        ...

    async def ends(self, partitions: Sequence[PartitionKey]) -> Mapping[PartitionKey, int]:
        """
        Return the offset behind the last one that can be read, for each partition.

        An open transaction holds it back.
        """
        ...

    async def since(
        self, partitions: Sequence[PartitionKey], timestamp_ms: int
    ) -> Mapping[PartitionKey, int]:
        """
        Return the first offset whose record is of this time or later, for each partition.

        It is the end where all are older.

        Args:
            partitions: Which.
            timestamp_ms: Record time in milliseconds.
        """
        ...

    async def open(self, positions: Mapping[PartitionKey, int]) -> None:
        """
        Read these partitions from these offsets on; what was read before is left.

        Args:
            positions: Offset to read next, by partition.
        """
        ...

    async def poll(
        self, *, timeout_s: float, max_records: int
    ) -> Mapping[PartitionKey, Sequence[ProtocolRecord]]:
        """
        Return records that came, in order per partition; empty after the timeout.

        Raises:
            RejectedError: The log does not hold the offset to read (`OFFSET_OUT_OF_RANGE`); open
                anew elsewhere.
        """
        ...

    def positions(self) -> Mapping[PartitionKey, int]:
        """
        Return the offset to read next, by partition.

        A partition is read when this reaches its end. Offsets that hold no record (markers of
        transactions, what compaction took) are passed by polling.
        """
        ...

    async def close(self) -> None:
        """Disconnect within the close deadline; never raises."""
        ...


class LogReaderFactory(Protocol):
    """Makes readers."""

    def __call__(self) -> LogReader:
        """Return a reader that is not connected yet."""
        ...
