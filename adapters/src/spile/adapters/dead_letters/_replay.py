"""Reading a dead letter queue up to where it ends now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol
from uuid import uuid4

import structlog

from spile.adapters.dead_letters._facts import replay_run
from spile.adapters.delivery._backoff import Backoff
from spile.adapters.delivery._message import ReceivedMessage
from spile.adapters.delivery._ports import RecordSource
from spile.spi import ClosedError, PartitionKey, ProtocolEventMessage, ProtocolRecord

log = structlog.get_logger(__name__)

_POLL_S = 0.2
_MAX_RECORDS = 100


class PutBack(Protocol):
    """Writes a record that failed again to the end of its queue."""

    def __call__(
        self, record: ProtocolRecord, error: BaseException, attempts: int, run_id: str
    ) -> Awaitable[None]:
        """Return when the record is acknowledged."""
        ...


class NotDoneError(Exception):
    """Raised for a handler that returned False; its name goes into the headers."""


class DeadLetterReader:
    """
    One run over a queue; its own listener.

    Args:
        source: Not open yet; the run opens and closes it.
        handler: Returns whether a message is done.
        max_retries: Attempts per message.
        backoff: Waits between them.
        idle_s: Seconds without a record after which a queue whose lag is not zero counts as read:
            the rest is no records, but transaction markers.
    """

    def __init__(
        self,
        source: RecordSource,
        handler: Callable[[ProtocolEventMessage], Awaitable[bool]],
        *,
        max_retries: int,
        backoff: Backoff,
        idle_s: float = 5.0,
    ) -> None:
        self._source = source
        self._handler = handler
        self._attempts = max(1, max_retries)
        self._backoff = backoff
        self._idle_s = idle_s
        self._run_id = uuid4().hex
        self._assigned = asyncio.Event()
        self._left: dict[PartitionKey, int] = {}
        self._ends: dict[PartitionKey, int] = {}
        self._counts = {"processed": 0, "succeeded": 0, "failed": 0}

    async def assigned(self, partitions: Sequence[PartitionKey]) -> None:
        """Take partitions over; how far to read them is asked when they are first polled."""
        self._left.update(dict.fromkeys(partitions, -1))
        self._assigned.set()

    async def revoked(self, partitions: Sequence[PartitionKey]) -> None:
        """Leave partitions to others."""
        for partition in partitions:
            self._left.pop(partition, None)
            self._ends.pop(partition, None)

    async def run(self, put_back: PutBack) -> dict[str, int]:
        """Handle what stands there now and return the counts; raises what the source raises."""
        await self._source.open(self)
        try:
            await self._wait_for_assignment()
            await self._read(put_back)
        finally:
            await self._source.close()
        return self._counts

    async def _wait_for_assignment(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + max(self._idle_s, 30.0)
        while not self._assigned.is_set() and loop.time() < until:
            await self._source.poll(timeout_s=_POLL_S, max_records=1)

    async def _read(self, put_back: PutBack) -> None:
        loop = asyncio.get_running_loop()
        last_record = loop.time()
        await self._measure()
        while self._left:
            polled = await self._source.poll(timeout_s=_POLL_S, max_records=_MAX_RECORDS)
            await self._measure()
            for partition, records in polled.items():
                last_record = loop.time()
                await self._handle(partition, records, put_back)
            if not polled and loop.time() - last_record > self._idle_s:
                return

    async def _measure(self) -> None:
        """Ask how far to read the partitions that are new."""
        if any(left < 0 for left in self._left.values()):
            lag = await self._source.lag()
            for partition, left in list(self._left.items()):
                if left < 0 and partition in lag:
                    self._left[partition] = lag[partition]
                    self._drop_if_read(partition)

    def _drop_if_read(self, partition: PartitionKey) -> None:
        if self._left.get(partition, 1) <= 0:
            del self._left[partition]
            self._source.pause([partition])

    async def _handle(
        self, partition: PartitionKey, records: Sequence[ProtocolRecord], put_back: PutBack
    ) -> None:
        for record in records:
            left = self._left.get(partition)
            if left is None:
                return
            end = self._ends.setdefault(partition, record.offset + left)
            if record.offset >= end or replay_run(record) == self._run_id:
                self._left[partition] = 0
                self._drop_if_read(partition)
                return
            await self._settle(record, put_back)
            await self._commit(partition, record.offset + 1)
            self._left[partition] = end - record.offset - 1
            self._drop_if_read(partition)

    async def _settle(self, record: ProtocolRecord, put_back: PutBack) -> None:
        self._counts["processed"] += 1
        error: BaseException | None = None
        for attempt in range(1, self._attempts + 1):
            error = await self._try(record)
            if error is None:
                self._counts["succeeded"] += 1
                return
            if attempt < self._attempts:
                await asyncio.sleep(self._backoff.delay(attempt))
        if error is not None:
            await put_back(record, error, self._attempts, self._run_id)
            self._counts["failed"] += 1

    async def _try(self, record: ProtocolRecord) -> Exception | None:
        try:
            if await self._handler(ReceivedMessage(record)):
                return None
        except Exception as exc:  # noqa: BLE001 - a handler boundary: ends in retry or put back
            return exc
        return NotDoneError("the handler returned False")

    async def _commit(self, partition: PartitionKey, offset: int) -> None:
        try:
            await self._source.commit({partition: offset})
        except ClosedError as exc:
            log.info("offset dropped", reason=str(exc))
