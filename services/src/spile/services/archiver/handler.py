"""The archiver's handler: cut, upload in the background, and say what is done."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from types import TracebackType
from typing import Final, Self

import structlog

from spile.adapters.delivery import Backoff, OutgoingRecord, Tasks
from spile.services.archiver._assignment import Assignment, tick
from spile.services.archiver._metrics import (
    BYTES,
    ERRORS,
    HELD_BYTES,
    OBJECTS,
    PAUSED,
    RECORDS,
    TICKS,
    UPLOAD_SECONDS,
)
from spile.services.archiver._uploading import OvertakenError, archive, newest_manifest
from spile.services.archiver.objects import CuttingRule, Manifest
from spile.services.archiver.stores import ArchiveStore
from spile.spi import (
    ClosedError,
    PartitionKey,
    ProtocolRecord,
    ProtocolSubscription,
    RetriableError,
    SpileError,
)

log = structlog.get_logger(__name__)

_INLINE_RECORDS: Final = 100
_QUIET_S: Final = 5.0
_AGAIN_S: Final = 60.0
_DRY_S: Final = 2.0
_TOLD_AFTER: Final = 2
_BACKOFF: Final = Backoff(initial_s=0.2, max_s=15.0, jitter=0.5)


class Archiver:
    """
    Puts all records that it is handed into the archive, each offset once.

    Objects are cut by the log alone, uploaded one at a time per partition, and only then the
    partition's offsets count as done; what was read beyond the last whole object is read anew by
    whoever gets the partition next. While the archive is away the partitions concerned are paused.
    It is its own offset store: the newest manifest says where a partition goes on.

    Use it as `async with`; leaving it drops what is not archived.

    Args:
        store: Where to.
        rule: Where objects are cut.
        publish: Writes one record; how ticks get into idle partitions.
        uploads: Uploads at once, 4 by default, and lookups at an assignment.
        buffer_bytes: Bytes in memory above which only one partition is read on, 128 MiB by default.
        check_s: Seconds between looks at idle partitions, 1 by default.
        backoff: Waits between tries of an upload, up to 15 s by default.
        clock: Seconds since 1970, to compare with record times.
    """

    def __init__(
        self,
        store: ArchiveStore,
        rule: CuttingRule,
        *,
        publish: Callable[[OutgoingRecord], Awaitable[None]],
        uploads: int = 4,
        buffer_bytes: int = 128 << 20,
        check_s: float = 1.0,
        backoff: Backoff = _BACKOFF,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._rule = rule
        self._publish = publish
        self._buffer_bytes = buffer_bytes
        self._check_s = check_s
        self._backoff = backoff
        self._clock = clock
        self._threads = ThreadPoolExecutor(uploads, thread_name_prefix="archive")
        self._tasks = Tasks(self._fail)
        self._partitions: dict[PartitionKey, Assignment] = {}
        self._favoured: tuple[Assignment, float] | None = None
        self._subscription: ProtocolSubscription | None = None
        self._failure: BaseException | None = None
        self._away: str | None = None

    async def __aenter__(self) -> Self:
        self._tasks.start(self._look_after(), "archive: idle partitions")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for part in self._partitions.values():
            part.current = False
        await self._tasks.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        HELD_BYTES.set(0)
        PAUSED.set(0)

    def bind(self, subscription: ProtocolSubscription) -> None:
        """Take the subscription that hands out the records."""
        self._subscription = subscription

    async def next_offsets(self, partitions: Sequence[PartitionKey]) -> Mapping[PartitionKey, int]:
        """
        Return where each partition goes on, and begin these anew.

        Raises:
            ArchiveUnavailableError: The archive cannot be asked now.
            SpileError: The archiver has failed, or the archive refuses or is damaged.
        """
        self._check()
        for partition in partitions:
            self._drop(partition)
        newest = await self._newest(partitions)
        found: dict[PartitionKey, int] = {}
        for partition, manifest in zip(partitions, newest, strict=True):
            position = None if manifest is None else manifest.next_position
            self._drop(partition)
            self._partitions[partition] = Assignment(
                partition, self._rule, position, time.monotonic()
            )
            if position is not None:
                found[partition] = position
        return found

    async def _newest(self, partitions: Sequence[PartitionKey]) -> list[Manifest | None]:
        loop = asyncio.get_running_loop()
        lookups = [
            loop.run_in_executor(self._threads, newest_manifest, self._store, partition)
            for partition in partitions
        ]
        try:
            found = await asyncio.gather(*lookups)
        except RetriableError as exc:
            self._away = str(exc)
            raise
        self._away = None
        return found

    async def __call__(self, records: Sequence[ProtocolRecord]) -> None:
        """
        Take a batch; returns before it is archived.

        Raises:
            ClosedError: The assignments must be made anew.
            SpileError: What ended the archiver.
        """
        self._check()
        for partition, run in groupby(records, lambda record: (record.topic, record.partition)):
            await self._take(partition, list(run))
        await self._balance()

    def in_hand(self) -> Mapping[PartitionKey, int]:
        """Return how many offsets were read and are not archived, by partition."""
        return {
            key: part.next - part.done
            for key, part in self._partitions.items()
            if part.next is not None and part.done is not None
        }

    def trouble(self) -> str | None:
        """Say which uploads fail, and why; None while they work."""
        if self._away is not None:
            return f"the archive cannot be asked where to go on: {self._away}"
        failing = [part for part in self._partitions.values() if part.failures >= _TOLD_AFTER]
        if not failing:
            return None
        return f"{len(failing)} partitions wait for the archive: {failing[0].trouble}"

    async def _take(self, partition: PartitionKey, records: Sequence[ProtocolRecord]) -> None:
        part = self._partitions.get(partition)
        if part is None:
            raise ClosedError(f"{partition[0]}[{partition[1]}] was handed out without assignment")
        if len(records) > _INLINE_RECORDS:
            sealed = await asyncio.to_thread(part.cut, records)
        else:
            sealed = part.cut(records)
        part.came_at = time.monotonic()
        if not part.current:
            return
        if sealed:
            part.ticked_at = -math.inf
        idle = not part.waiting
        part.waiting.extend(sealed)
        if sealed and idle:
            self._tasks.start(self._upload(part), f"archive: {partition[0]}[{partition[1]}]")

    async def _upload(self, part: Assignment) -> None:
        """Bring what waits into the archive, in order, however long it takes."""
        while part.waiting and part.current:
            sealed = part.waiting[0]
            started = time.perf_counter()
            try:
                archived = await asyncio.get_running_loop().run_in_executor(
                    self._threads, archive, self._store, sealed
                )
            except RetriableError as exc:
                await self._wait_after(part, exc)
                continue
            except OvertakenError as exc:
                await self._rejoin(exc)
                return
            UPLOAD_SECONDS.observe(time.perf_counter() - started)
            OBJECTS.labels("present" if archived.present else "written").inc()
            RECORDS.inc(archived.manifest.count)
            BYTES.inc(archived.manifest.size_bytes)
            if not part.current:
                return
            part.waiting.popleft()
            part.failures, part.trouble = 0, None
            part.done = archived.manifest.next_position
            self._tell(part)
            await self._balance()

    async def _wait_after(self, part: Assignment, error: RetriableError) -> None:
        part.failures += 1
        part.trouble = str(error)
        ERRORS.labels(type(error).__name__).inc()
        delay_s = self._backoff.delay(part.failures)
        log.warning(
            "archive upload failed, tried again",
            topic=part.key[0],
            partition=part.key[1],
            attempt=part.failures,
            reason=str(error),
            retry_in_s=round(delay_s, 2),
        )
        await self._balance()
        await asyncio.sleep(delay_s)

    def _tell(self, part: Assignment) -> None:
        """Tell the group up to where the partition is archived."""
        if self._subscription is not None and part.done is not None:
            self._subscription.done({part.key: part.done})
            part.told = True

    async def _rejoin(self, error: OvertakenError) -> None:
        """Leave the group: the worker joins it anew, and all begin at their newest manifests."""
        log.warning("archive was overtaken", reason=str(error))
        await self._end()

    def _fail(self, error: BaseException) -> None:
        """End because of an error; the next call raises it."""
        if self._failure is None:
            self._failure = error
            log.error("archiver failed", error_type=type(error).__name__, reason=str(error))
            self._tasks.start(self._end(), "archive: end")

    async def _end(self) -> None:
        for partition in list(self._partitions):
            self._drop(partition)
        if self._subscription is not None:
            await self._subscription.close()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _drop(self, partition: PartitionKey) -> None:
        part = self._partitions.pop(partition, None)
        if part is not None:
            part.current = False

    async def _balance(self) -> None:
        """
        Pause the partitions that must wait, and let the others go on.

        Above the bound of the buffer only the partition that is nearest to a whole object goes on:
        memory must not decide where objects are cut.
        """
        subscription, parts = self._subscription, self._partitions.values()
        held_bytes = sum(part.held_bytes for part in parts)
        HELD_BYTES.set(held_bytes)
        if subscription is None:
            return
        blocked = {part.key for part in parts if part.blocked}
        if held_bytes > self._buffer_bytes:
            chosen = self._choose([part for part in parts if not part.blocked])
            blocked = {part.key for part in parts if part is not chosen}
        else:
            self._favoured = None
        pause = [part for part in parts if part.key in blocked and not part.paused]
        resume = [part for part in parts if part.key not in blocked and part.paused]
        for part in (*pause, *resume):
            part.paused = part.key in blocked
        PAUSED.set(len(blocked))
        if pause:
            await subscription.pause([part.key for part in pause])
        if resume:
            await subscription.resume([part.key for part in resume])

    def _choose(self, free: Sequence[Assignment]) -> Assignment | None:
        """Return the partition to read on although memory is short."""
        now = time.monotonic()
        if self._favoured is not None:
            part, since = self._favoured
            part.dry = now - max(since, part.came_at) > _DRY_S
            if part in free and not part.dry:
                return part
        wet = [part for part in free if not part.dry]
        if not wet:
            wet = list(free)
            for part in wet:
                part.dry = False
        chosen = max(wet, key=lambda part: part.cutter.size_bytes, default=None)
        self._favoured = None if chosen is None else (chosen, now)
        return chosen

    async def _look_after(self) -> None:
        """Close the objects of idle partitions in time, again and again."""
        while True:
            await asyncio.sleep(self._check_s)
            now = time.monotonic()
            for part in self._partitions.values():
                if not part.told and now - part.made_at > _QUIET_S:
                    self._tell(part)
            await self._balance()
            idle = [part for part in self._partitions.values() if self._is_due(part, now)]
            if idle and self._subscription is not None:
                await self._tick(self._subscription, idle)

    def _is_due(self, part: Assignment, now: float) -> bool:
        """Say whether an object is open for too long although its partition gave nothing more."""
        first_ms = part.cutter.first_timestamp
        if first_ms is None or part.paused or part.waiting:
            return False
        window_ms = self._rule.window_ms
        quiet_s = min(_QUIET_S, window_ms / 1000)
        return (
            abs(self._clock() * 1000 - first_ms) >= window_ms
            and now - part.came_at >= quiet_s
            and now - part.ticked_at >= _AGAIN_S
        )

    async def _tick(self, subscription: ProtocolSubscription, idle: Sequence[Assignment]) -> None:
        """Publish a tick to each of these; those that belong to others by now are dropped."""
        try:
            mine = await subscription.lag()
            for part in idle:
                if part.key not in mine:
                    if part.current:
                        self._drop(part.key)
                    continue
                part.ticked_at = time.monotonic()
                await self._publish(tick(part.key, self._clock()))
                TICKS.inc()
        except SpileError as exc:
            log.warning("idle partitions not closed now", reason=str(exc))
