"""Giving the records of an archive to a target again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from spile.adapters.delivery import Record
from spile.services.archiver.reading._index import ArchiveIndex
from spile.services.archiver.reading._resuming import Progress
from spile.services.archiver.reading._selection import Selection
from spile.services.archiver.reading._targets import Pace, ReplayTarget, Written
from spile.spi import PartitionKey, PermanentError

_BATCH_RECORDS: Final = 2_000
_BATCH_BYTES: Final = 4 * 1024 * 1024
_SCANNED: Final = 20_000


class ArchiveGapError(PermanentError):
    """
    Raised when offsets are missing between what a target has and what the archive holds next.

    Attributes:
        topic: Of the partition.
        partition: Its number.
        first: First missing offset.
        end: Offset behind the last missing one.
    """

    def __init__(self, partition: PartitionKey, first: int, end: int) -> None:
        super().__init__(
            f"offsets {first} to {end - 1} of {partition[0]}/{partition[1]} are not in the "
            "archive, nothing behind them was taken; `spile archive verify` says what is missing"
        )
        self.topic, self.partition = partition
        self.first = first
        self.end = end


@dataclass(slots=True, kw_only=True)
class Replay:
    """
    What a replay did.

    Attributes:
        read: Records that were read.
        selected: Those of them that were meant.
        written: What became of these.
        next_offsets: First offset that was not replayed, by partition: where somebody who reads
            the live topic goes on.
        is_complete: Whether the end of the archive was reached; a limit may end it before.
    """

    read: int = 0
    selected: int = 0
    written: Written = field(default_factory=Written)
    next_offsets: dict[PartitionKey, int] = field(default_factory=dict[PartitionKey, int])
    is_complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """
    The next records of a partition.

    Attributes:
        first: Offset where it begins, with a record or without.
        end: Offset where the next one begins.
        read: Records in it.
        records: Those that are meant.
    """

    first: int
    end: int
    read: int
    records: list[Record]


def stretches(
    index: ArchiveIndex,
    partition: PartitionKey,
    selection: Selection,
    *,
    position: int | None = None,
    batch: int = _BATCH_RECORDS,
) -> Generator[Stretch]:
    """
    Give what a partition holds, each offset once and in order; blocks.

    Args:
        index: Of the archive.
        partition: One of the index.
        selection: Which records are meant; objects without any are not opened.
        position: Offset to begin at; where the archive begins by default.
        batch: Most records of a stretch.

    Raises:
        ArchiveGapError: Offsets are missing in between.
        UndecodableError: A manifest or an object is damaged.
        ObjectMissingError: A manifest or an object is gone.
        RetriableError: The store is away.
    """
    reached = position
    for manifest in index.usable(partition, position=position or 0):
        start = manifest.start_position
        if reached is not None and start > reached:
            raise ArchiveGapError(partition, reached, start)
        reached = start if reached is None else reached
        if not selection.meets(manifest.earliest_timestamp, manifest.latest_timestamp):
            end = manifest.next_position
            yield Stretch(first=reached, end=end, read=0, records=[])
            reached = end
            continue
        taken = _Taken(reached, batch)
        for record in index.opened(manifest).records():
            if record.offset < reached:
                continue
            taken.add(record, meant=selection.takes(record))
            if taken.is_full:
                yield taken.stretch(record.offset + 1)
                taken = _Taken(record.offset + 1, batch)
        yield taken.stretch(manifest.next_position)
        reached = manifest.next_position


class _Taken:
    """Records that make the next stretch."""

    def __init__(self, first: int, batch: int) -> None:
        self._first = first
        self._batch = batch
        self._read = self._bytes = 0
        self._records: list[Record] = []

    @property
    def is_full(self) -> bool:
        return (
            len(self._records) >= self._batch
            or self._bytes >= _BATCH_BYTES
            or self._read >= _SCANNED
        )

    def add(self, record: Record, *, meant: bool) -> None:
        self._read += 1
        if meant:
            self._records.append(record)
            self._bytes += len(record.value or b"") + len(record.key or b"")

    def stretch(self, end: int) -> Stretch:
        return Stretch(first=self._first, end=end, read=self._read, records=self._records)


async def replay(
    index: ArchiveIndex,
    selection: Selection,
    target: ReplayTarget | None,
    *,
    progress: Progress | None = None,
    pace: Pace | None = None,
    limit: int | None = None,
    on_read: Callable[[int], None] | None = None,
) -> Replay:
    """
    Give a target what is meant of an archive: at least once, each event id once.

    One partition after the other, each in the order of its offsets. What ended half-way goes on
    where it was when it is called again with the same target (a store) or progress (a topic).

    Args:
        index: Of the archive.
        selection: Which records.
        target: Where to; None only counts.
        progress: Remembers what was done, for targets that do not themselves.
        pace: Slows down.
        limit: Most records.
        on_read: Told how many records were read, again and again.

    Raises:
        ArchiveGapError: Offsets are missing; nothing behind them was taken.
        UndecodableError: A manifest or an object is damaged; nothing of that object was taken.
        RetriableError: Archive or target are away.
        PermanentError: The target cannot take the records.
    """
    if target is not None:
        for partition in index.partitions:
            await target.position(partition)  # refuse what it cannot take before it has anything
    run = _Run(selection, target, progress, pace or Pace(None), limit, on_read)
    for partition in index.partitions:
        if run.is_spent:
            run.result.is_complete = False
            break
        await run.partition(index, partition)
    return run.result


class _Run:
    """One replay on its way."""

    def __init__(
        self,
        selection: Selection,
        target: ReplayTarget | None,
        progress: Progress | None,
        pace: Pace,
        limit: int | None,
        on_read: Callable[[int], None] | None,
    ) -> None:
        self.result = Replay()
        self._selection = selection
        self._target = target
        self._progress = progress
        self._pace = pace
        self._left = limit
        self._on_read = on_read

    @property
    def is_spent(self) -> bool:
        return self._left == 0

    async def partition(self, index: ArchiveIndex, partition: PartitionKey) -> None:
        position = None if self._target is None else await self._target.position(partition)
        if self._progress is not None and (done := self._progress.reached().get(partition)):
            position = max(done, position or 0)
        if position is not None:
            self.result.next_offsets[partition] = position
        batch = self._pace.batch or _BATCH_RECORDS
        source = stretches(index, partition, self._selection, position=position, batch=batch)
        with closing(source):
            while not self.is_spent and (stretch := await _pulled(source)) is not None:
                await self._take(partition, stretch)
            if self.is_spent and await _pulled(source) is not None:
                self.result.is_complete = False

    async def _take(self, partition: PartitionKey, stretch: Stretch) -> None:
        records, end, result = stretch.records, stretch.end, self.result
        if self._left is not None and len(records) >= self._left:
            if len(records) > self._left:
                end = records[self._left].offset
                result.is_complete = False
            records = records[: self._left]
        await self._write(partition, records, first=stretch.first, end=end)
        if self._left is not None:
            self._left -= len(records)
        result.read += stretch.read
        result.selected += len(records)
        result.next_offsets[partition] = end
        if self._on_read is not None:
            self._on_read(stretch.read)

    async def _write(
        self, partition: PartitionKey, records: list[Record], *, first: int, end: int
    ) -> None:
        if self._target is None:
            return
        fresh = records if self._progress is None else self._progress.fresh(records)
        await self._pace.wait(len(fresh))
        written = await self._target.write(partition, fresh, first=first, end=end)
        if self._progress is not None:
            self._progress.note(fresh, partition, end)
        written.repeats += len(records) - len(fresh)
        self.result.written.add(written)


async def _pulled(source: Iterator[Stretch]) -> Stretch | None:
    """Return the next stretch, made in a thread; None at the end."""
    pulling = asyncio.get_running_loop().run_in_executor(None, next, source, None)
    try:
        return await asyncio.shield(pulling)
    except asyncio.CancelledError:
        await asyncio.wait([pulling])  # the thread still uses the iterator
        raise
