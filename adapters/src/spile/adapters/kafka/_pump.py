"""
One partition's way out: what waits is packed into a batch, sent, and retried in order.

One batch per partition is under way at a time, so a retry can never overtake what came before it.
While it is under way new records gather, so a thousand concurrent publishes become a few batches.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from spile.adapters.delivery._backoff import Backoff
from spile.adapters.delivery._ports import Settled
from spile.adapters.delivery._records import OutgoingRecord, Receipt
from spile.adapters.kafka._producer_client import Batch, ProducerClient
from spile.spi import (
    BrokerUnavailableError,
    DeliveryTimeoutError,
    MessageTooLargeError,
    PermanentError,
    RejectedError,
    SpileError,
)

_PER_RECORD = (RejectedError, MessageTooLargeError)
"""Refusals that are about one record, not about the topic or the credentials."""

_RECYCLE_AFTER_RECORDS = 1_000_000_000
_RECYCLE_AFTER_S = 24 * 3600.0
"""Age at which a producer is replaced: after 2**31 records its sequence numbers wrap wrongly."""

_RETIRE_S = 5.0


class Call:
    """One `send`: its records are done when `remaining` reaches zero."""

    __slots__ = ("cancelled", "deadline", "done", "receipt", "remaining", "settled")

    def __init__(
        self,
        records: int,
        deadline: float,
        done: asyncio.Future[None],
        settled: Settled | None = None,
    ) -> None:
        self.receipt = Receipt()
        self.remaining = records
        self.deadline = deadline
        self.done = done
        self.cancelled = False
        self.settled = settled

    def settle(self, indexes: list[int], error: SpileError | None) -> None:
        """Note that some records are acknowledged or failed."""
        self.remaining -= len(indexes)
        if error is not None:
            self.receipt.failures.update(dict.fromkeys(indexes, error))
        if self.settled is not None:
            self.settled(indexes, error)
        if self.remaining <= 0 and not self.done.done():
            self.done.set_result(None)


class Segment:
    """The records of one call that go to one partition, and how far they are packed."""

    __slots__ = ("call", "cursor", "indexes", "records")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.records: list[OutgoingRecord] = []
        self.indexes: list[int] = []
        self.cursor = 0


class _Slice:
    """A part of a segment that stands in one batch."""

    __slots__ = ("segment", "start", "stop")

    def __init__(self, segment: Segment, start: int, stop: int) -> None:
        self.segment = segment
        self.start = start
        self.stop = stop

    def acknowledge(self, topic: str, partition: int, base: int) -> None:
        call = self.segment.call
        indexes = self.segment.indexes[self.start : self.stop]
        call.receipt.acknowledge(indexes, topic, partition, base)
        call.settle(indexes, None)

    def fail(self, error: SpileError) -> None:
        self.segment.call.settle(self.segment.indexes[self.start : self.stop], error)


class ClientPool:
    """
    Hands out the current client and replaces it when it is of no use any more.

    Args:
        connect: Returns a started client; raises a SpileError when that fails in the time given.
    """

    def __init__(self, connect: Callable[[float], Awaitable[ProducerClient]]) -> None:
        self._connect = connect
        self._client: ProducerClient | None = None
        self._lock = asyncio.Lock()
        self._recycle_at = 0.0
        self._records = 0
        self._closed = False
        self.generation = 0

    @property
    def current(self) -> ProducerClient | None:
        """The client if it is alive."""
        client = self._client
        return client if client is not None and not client.dead.is_set() else None

    async def get(self, *, deadline_s: float) -> ProducerClient:
        """
        Return a live client, connecting if need be.

        Raises:
            SpileError: It could not be connected within the deadline.
        """
        client = self.current
        if client is not None and time.monotonic() < self._recycle_at:
            return client
        try:
            async with asyncio.timeout(max(deadline_s, 0.0)), self._lock:
                if self.current is None:
                    await self.drop()
                    await self._replace(deadline_s)
                elif time.monotonic() >= self._recycle_at:
                    retired = self._client
                    await self._replace(deadline_s)
                    if retired is not None:
                        await retired.close(deadline_s=_RETIRE_S)
        except TimeoutError as exc:
            raise BrokerUnavailableError(
                f"no broker could be reached within {max(deadline_s, 0.0):.1f} s"
            ) from exc
        client = self.current
        if client is None:
            raise BrokerUnavailableError("the producer failed right after it was connected")
        return client

    def count(self, records: int) -> None:
        """Note records that the client has written; after a billion it is replaced."""
        self._records += records
        if self._records >= _RECYCLE_AFTER_RECORDS:
            self._recycle_at = 0.0

    async def _replace(self, deadline_s: float) -> None:
        client = await self._connect(deadline_s)
        if self._closed:
            await client.abort()
            raise BrokerUnavailableError("the sender was closed while it connected")
        self._client = client
        self._recycle_at = time.monotonic() + _RECYCLE_AFTER_S
        self._records = 0
        self.generation += 1

    async def drop(self, client: ProducerClient | None = None) -> None:
        """Abort a client without a flush: the current one, or the given one and no newer."""
        client = client or self._client
        if client is self._client:
            self._client = None
        if client is not None:
            await client.abort()

    async def close(self, *, deadline_s: float) -> None:
        """Flush and disconnect; what connects from now on is dropped at once."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.close(deadline_s=deadline_s)


class PartitionPump:
    """
    Sends what waits for one partition.

    Args:
        topic: Full name.
        partition: Number.
        pool: Where clients come from.
        attempt_timeout_s: Time for one attempt, after which the client is replaced.
        linger_s: How long the first record of a batch may wait for company.
        retries: Attempts after the first one.
        backoff: Wait between attempts.
        on_retry: Called with the number of records that are tried again.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        pool: ClientPool,
        *,
        attempt_timeout_s: float,
        linger_s: float,
        retries: int,
        backoff: Backoff,
        on_retry: Callable[[int], None],
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._pool = pool
        self._attempt_timeout_s = attempt_timeout_s
        self._linger_s = linger_s
        self._retries = retries
        self._backoff = backoff
        self._on_retry = on_retry
        self._waiting: deque[Segment] = deque()
        self.running = False

    def add(self, segment: Segment) -> None:
        """Queue a segment behind those that wait."""
        self._waiting.append(segment)

    async def run(self) -> None:
        """Send until nothing waits."""
        try:
            while self._waiting:
                if self._linger_s > 0:
                    await asyncio.sleep(self._linger_s)
                await self._next_batch()
        except BaseException as exc:
            # Whatever stands in front must not bring the next pump down too.
            self.fail_waiting(BrokerUnavailableError(f"the pump of its partition ended: {exc!r}"))
            raise
        finally:
            self.running = False

    def fail_waiting(self, error: SpileError) -> None:
        """Give up on what was not handed to the client."""
        while self._waiting:
            segment = self._waiting.popleft()
            _Slice(segment, segment.cursor, len(segment.records)).fail(error)

    async def _next_batch(self) -> None:
        self._fail_overdue(
            DeliveryTimeoutError("the delivery deadline passed before the record could be sent")
        )
        if not self._waiting:
            return
        deadline = self._waiting[0].call.deadline
        try:
            client = await self._pool.get(deadline_s=deadline - time.monotonic())
        except PermanentError as exc:
            self.fail_waiting(exc)
            return
        except SpileError as exc:
            self._fail_overdue(exc)
            return
        batch, slices = self._pack(client)
        if slices:
            await self._deliver(client, batch, slices)

    def _fail_overdue(self, error: SpileError) -> None:
        """No client: what is past its deadline fails, the rest waits for the next try."""
        now = time.monotonic()
        while self._waiting and self._waiting[0].call.deadline <= now + 0.01:
            segment = self._waiting.popleft()
            _Slice(segment, segment.cursor, len(segment.records)).fail(error)

    def _pack(self, client: ProducerClient) -> tuple[Batch, list[_Slice]]:
        """Fill a batch from the front of the queue."""
        batch = client.new_batch()
        slices: list[_Slice] = []
        now_ms = int(time.time() * 1000)
        waiting = self._waiting
        while waiting:
            segment = waiting[0]
            if segment.call.cancelled:
                waiting.popleft()
                continue
            start = segment.cursor
            position = batch.fill(segment.records, start, now_ms)
            segment.cursor = position
            if position > start:
                slices.append(_Slice(segment, start, position))
            if position < len(segment.records):
                break
            waiting.popleft()
        return batch, slices

    def _repack(self, client: ProducerClient, slices: list[_Slice]) -> Batch:
        """Build the same batch again for another attempt."""
        batch = client.new_batch()
        now_ms = int(time.time() * 1000)
        for part in slices:
            batch.fill(part.segment.records[part.start : part.stop], 0, now_ms)
        return batch

    async def _deliver(self, client: ProducerClient, batch: Batch, slices: list[_Slice]) -> None:
        """Send a batch until it is acknowledged, refused, or out of attempts or time."""
        attempt = 1
        while True:
            try:
                base = await self._attempt(client, batch, self._limit_s(slices))
            except PermanentError as exc:
                await self._refused(client, exc, slices)
                return
            except SpileError as exc:
                error = exc
            else:
                self._acknowledge(slices, base)
                return
            wait = self._backoff.delay(attempt)
            over = time.monotonic() + wait
            late = [part for part in slices if over >= part.segment.call.deadline]
            if attempt > self._retries or len(late) == len(slices):
                self._give_up(slices, error, attempt)
                return
            self._give_up(late, error, attempt)
            slices = [part for part in slices if over < part.segment.call.deadline]
            self._on_retry(sum(part.stop - part.start for part in slices))
            await asyncio.sleep(wait)
            try:
                deadline = max(part.segment.call.deadline for part in slices)
                client = await self._pool.get(deadline_s=deadline - time.monotonic())
            except SpileError as exc:
                self._give_up(slices, exc, attempt)
                return
            batch = self._repack(client, slices)
            attempt += 1

    def _limit_s(self, slices: list[_Slice]) -> float:
        """
        Return the time for an attempt: what its oldest record has left.

        Where younger ones share the batch it gets a third of an attempt at least, about one
        request, rather than fail them and the client for the sake of the oldest.
        """
        now = time.monotonic()
        left = [part.segment.call.deadline - now for part in slices]
        patience = min(max(left), self._attempt_timeout_s / 3)
        return min(self._attempt_timeout_s, max(min(left), patience))

    async def _attempt(self, client: ProducerClient, batch: Batch, limit: float) -> int:
        if limit <= 0:
            raise BrokerUnavailableError("the delivery deadline passed before an attempt began")
        try:
            async with asyncio.timeout(limit):
                return await client.submit(batch, self._topic, self._partition)
        except TimeoutError as exc:
            # The client may still deliver the batch, and would keep it for ever: replace it.
            await client.abort()
            if isinstance(exc, SpileError):
                raise
            raise DeliveryTimeoutError(
                f"no acknowledgement from {self._topic}[{self._partition}] within {limit:.1f} s; "
                f"the records may or may not be written"
            ) from exc

    def _acknowledge(self, slices: list[_Slice], base: int) -> None:
        for part in slices:
            part.acknowledge(self._topic, self._partition, base)
            base += part.stop - part.start
            self._pool.count(part.stop - part.start)

    def _give_up(self, slices: list[_Slice], error: SpileError, attempts: int) -> None:
        error.add_note(f"after {attempts} attempts")
        for part in slices:
            part.fail(error)

    async def _refused(
        self, client: ProducerClient, error: SpileError, slices: list[_Slice]
    ) -> None:
        """
        Handle a refusal by the broker.

        One bad record fails its whole batch and leaves the idempotent producer unusable for the
        partition: replace it, then try the records one by one, so that the innocent get through.
        """
        await self._pool.drop(client)
        singles = [
            _Slice(part.segment, at, at + 1)
            for part in slices
            for at in range(part.start, part.stop)
        ]
        if len(singles) == 1 or not isinstance(error, _PER_RECORD):
            for part in slices:
                part.fail(error)
            return
        for single in singles:
            deadline = single.segment.call.deadline
            try:
                client = await self._pool.get(deadline_s=deadline - time.monotonic())
            except SpileError as exc:
                single.fail(exc)
                continue
            await self._deliver(client, self._repack(client, [single]), [single])
