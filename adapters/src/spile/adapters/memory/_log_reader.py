"""Reading the log in memory without a group."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from spile.adapters.delivery import LogReader, Record
from spile.adapters.memory._log import Faults, MemoryLog
from spile.spi import ClosedError, PartitionKey, RejectedError


class MemoryLogReader(LogReader):
    """Reads a log in memory; made by `MemoryCluster.reader`."""

    def __init__(self, records: MemoryLog, faults: Faults) -> None:
        self._log = records
        self._faults = faults
        self._next: dict[PartitionKey, int] = {}
        self._news = asyncio.Event()
        self._closed = False
        self.passed_over = 0

    async def partitions(self, topics: Sequence[str]) -> Sequence[PartitionKey]:
        """Return the partitions of topics; see `LogReader.partitions`."""
        self._check_open()
        return [(t, number) for t in topics for number in range(self._log.require(t).partitions)]

    async def beginnings(self, partitions: Sequence[PartitionKey]) -> Mapping[PartitionKey, int]:
        """Return 0 for each: nothing is ever removed."""
        self._check_open()
        return dict.fromkeys(partitions, 0)

    async def ends(self, partitions: Sequence[PartitionKey]) -> Mapping[PartitionKey, int]:
        """Return the offset that each partition writes next."""
        self._check_open()
        return {partition: self._log.end(partition) for partition in partitions}

    async def since(
        self, partitions: Sequence[PartitionKey], timestamp_ms: int
    ) -> Mapping[PartitionKey, int]:
        """Return the first offset of this time or later, for each partition."""
        self._check_open()
        found: dict[PartitionKey, int] = {}
        for partition in partitions:
            end = self._log.end(partition)
            records = self._log.read(partition, 0, end)
            found[partition] = next(
                (record.offset for record in records if record.timestamp >= timestamp_ms), end
            )
        return found

    async def open(self, positions: Mapping[PartitionKey, int]) -> None:
        """Read these partitions from these offsets on."""
        self._check_open()
        await self._faults.before("open", tuple(positions))
        self._next = dict(positions)
        self._log.attach(self._news)

    async def poll(
        self, *, timeout_s: float, max_records: int
    ) -> Mapping[PartitionKey, Sequence[Record]]:
        """Return records that came; see `LogReader.poll`."""
        await self._faults.before("poll", tuple(self._next))
        polled = self._take(max_records)
        if polled or timeout_s <= 0:
            await asyncio.sleep(0)
            return polled
        try:
            async with asyncio.timeout(timeout_s):
                while not polled:
                    self._news.clear()
                    await self._news.wait()
                    polled = self._take(max_records)
        except TimeoutError:
            return {}
        return polled

    def positions(self) -> Mapping[PartitionKey, int]:
        """Return the offset to read next, by partition."""
        return dict(self._next)

    async def close(self) -> None:
        """Read no more; a poll that waits ends with `ClosedError`."""
        self._closed = True
        self._log.detach(self._news)
        self._news.set()

    def _take(self, max_records: int) -> dict[PartitionKey, Sequence[Record]]:
        self._check_open()
        polled: dict[PartitionKey, Sequence[Record]] = {}
        for partition, position in self._next.items():
            end = self._log.end(partition)
            if position > end:
                raise RejectedError(
                    f"{partition[0]}[{partition[1]}] holds offsets 0 to {end}, not {position}",
                    code="OFFSET_OUT_OF_RANGE",
                )
            records = self._log.read(partition, position, max_records)
            if records:
                polled[partition] = records
                max_records -= len(records)
        for partition, records in polled.items():
            self._next[partition] = records[-1].offset + 1
        return polled

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the reader is closed")
