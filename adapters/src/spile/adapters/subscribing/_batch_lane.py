"""The one lane of a batch subscription: all partitions, no work per record."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence

import structlog

from spile.adapters.delivery._backoff import Backoff
from spile.adapters.subscribing._holding import Committer, Holding
from spile.adapters.subscribing._lanes import Chunk
from spile.adapters.subscribing._observer import SubscriptionObserver
from spile.adapters.subscribing._ticks import without_ticks
from spile.spi import (
    BatchHandler,
    PartitionKey,
    ProtocolRecord,
    RetriableError,
)

log = structlog.get_logger(__name__)


class _Batch:
    """Records in hand, and where each partition goes on after them."""

    __slots__ = ("counts", "finished", "records", "resume_at", "stir", "taken")

    def __init__(self) -> None:
        self.taken = 0
        self.records: Chunk = ()
        self.counts: Counter[str] = Counter()
        self.resume_at: dict[Holding, int] = {}
        self.finished = asyncio.Event()
        self.stir = asyncio.Event()

    def trim(self) -> None:
        """Leave out the partitions that ended since the last attempt."""
        if any(holding.ending for holding in self.resume_at):
            self.resume_at = {h: at for h, at in self.resume_at.items() if not h.ending}
            kept = {holding.partition for holding in self.resume_at}
            self.records = [r for r in self.records if (r.topic, r.partition) in kept]
            self.counts = Counter(record.topic for record in self.records)


class BatchLane:
    """
    Buffers chunks as they were polled and hands them out concatenated.

    A retriable error of the handler means the same batch again, after a backoff, until its
    partitions are revoked or the subscription closes; any other error is raised.

    Args:
        handler: What the subscriber gave.
        committer: Hears which offsets are done.
        max_records: Most records per call.
        capacity: Records above which nothing is polled.
        backoff: Waits between attempts.
        observer: Hears what happens.
        manual_commit: Whether somebody else says which offsets are done.
        skip_ticks: Whether ticks are done without the handler.
    """

    def __init__(
        self,
        handler: BatchHandler,
        *,
        committer: Committer,
        max_records: int,
        capacity: int,
        backoff: Backoff,
        observer: SubscriptionObserver,
        manual_commit: bool = False,
        skip_ticks: bool = False,
    ) -> None:
        self.room = asyncio.Event()
        self._handler = handler
        self._committer = committer
        self._max_records = max_records
        self._capacity = capacity
        self._backoff = backoff
        self._observer = observer
        self._manual_commit = manual_commit
        self._skip_ticks = skip_ticks
        self._held: dict[PartitionKey, Holding] = {}
        self._chunks: deque[tuple[Holding, Chunk]] = deque()
        self._buffered = 0
        self._in_hand: _Batch | None = None
        self._called_at: float | None = None
        self._ready = asyncio.Event()
        self._is_open = True
        self.is_scanning = False

    async def prepare(self, partitions: Sequence[PartitionKey]) -> None:
        """Nothing needs to be known."""

    @property
    def full(self) -> bool:
        """Whether nothing more must be polled."""
        return self._buffered >= self._capacity

    @property
    def wanted(self) -> int:
        """A batch, or what the buffer still takes."""
        return max(1, min(self._max_records, self._capacity - self._buffered))

    def take_on(self, holding: Holding) -> None:
        """Begin with a partition."""
        self._held[holding.partition] = holding

    def accept(self, polled: Mapping[PartitionKey, Chunk]) -> None:
        """Buffer the chunks as they are."""
        for partition, chunk in polled.items():
            holding = self._held.get(partition)
            if holding is not None and chunk:
                self._chunks.append((holding, chunk))
                self._buffered += len(chunk)
                self._observer.in_hand(len(chunk))
        if self.full:
            self.room.clear()
        self._ready.set()

    def let_go(self, holdings: Collection[Holding]) -> None:
        """Drop what is buffered of these; a batch in hand may finish and counts."""
        for holding in holdings:
            holding.end()
            if self._held.get(holding.partition) is holding:
                del self._held[holding.partition]
        kept = [(holding, chunk) for holding, chunk in self._chunks if not holding.ending]
        buffered = sum(len(chunk) for _, chunk in kept)
        self._observer.in_hand(buffered - self._buffered)
        self._chunks, self._buffered = deque(kept), buffered
        self._say_room()
        batch = self._in_hand
        if batch is not None and any(holding.ending for holding in batch.resume_at):
            batch.stir.set()

    async def drained(self, holdings: Collection[Holding]) -> None:
        """Wait until no batch with records of these is in hand."""
        batch = self._in_hand
        if batch is not None and not batch.resume_at.keys().isdisjoint(holdings):
            await batch.finished.wait()

    def called_at(self) -> float | None:
        """Return when the handler that runs now was called."""
        return self._called_at

    def set_open(self, *, is_open: bool) -> None:
        """Stop handing out, or go on."""
        self._is_open = is_open
        self._ready.set()

    async def run(self) -> None:
        """Hand out batches; ends by cancelling, or by an error of the handler."""
        while True:
            if not self._chunks or not self._is_open:
                self._ready.clear()
                await self._ready.wait()
                continue
            batch = self._in_hand = self._take()
            taken = batch.taken
            self._say_room()
            try:
                await self._handle(batch)
            finally:
                self._in_hand = None
                self._observer.in_hand(-taken)
                batch.finished.set()

    def _say_room(self) -> None:
        if self._buffered <= self._capacity // 2:
            self.room.set()

    def _take(self) -> _Batch:
        """Take what is buffered, at most a batch; a chunk that is too long is cut."""
        batch = _Batch()
        parts: list[Chunk] = []
        free = self._max_records
        while self._chunks and free:
            holding, chunk = self._chunks.popleft()
            if len(chunk) > free:
                self._chunks.appendleft((holding, chunk[free:]))
                chunk = chunk[:free]
            parts.append(chunk)
            batch.resume_at[holding] = chunk[-1].offset + 1
            batch.counts[holding.partition[0]] += len(chunk)
            free -= len(chunk)
        batch.taken = self._max_records - free
        self._buffered -= batch.taken
        batch.records = parts[0] if len(parts) == 1 else _join(parts)
        if self._skip_ticks and (kept := without_ticks(batch.records)) is not batch.records:
            batch.records = kept
            batch.counts = Counter(record.topic for record in kept)
        return batch

    async def _handle(self, batch: _Batch) -> None:
        attempt = 0
        while True:
            batch.trim()
            if not batch.resume_at:
                return
            attempt += 1
            try:
                await self._call(batch)
            except RetriableError as exc:
                log.warning(
                    "batch handler failed, same batch again",
                    records=len(batch.records),
                    attempt=attempt,
                    error_type=type(exc).__name__,
                    reason=str(exc),  # says what is away, to whoever must bring it back
                )
            else:
                if not self._manual_commit:
                    for holding, offset in batch.resume_at.items():
                        self._committer.done(holding, offset)
                return
            if not any(holding.ending for holding in batch.resume_at):
                batch.stir.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._backoff.delay(attempt)):
                        await batch.stir.wait()
            for topic, count in batch.counts.items():
                self._observer.retried(topic, count)

    async def _call(self, batch: _Batch) -> None:
        if not batch.records:
            return
        loop = asyncio.get_running_loop()
        self._called_at = started = loop.time()
        try:
            await self._handler(batch.records)
        finally:
            self._called_at = None
        share_s = (loop.time() - started) / len(batch.records)
        for topic, count in batch.counts.items():
            self._observer.handled(topic, count, share_s * count)


def _join(parts: list[Chunk]) -> list[ProtocolRecord]:
    joined: list[ProtocolRecord] = []
    for part in parts:
        joined.extend(part)
    return joined
