"""Publishes what stands in an outbox, in order, until it is acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import structlog

from spile.adapters.delivery import Backoff, RecordSender
from spile.adapters.outbox._metrics import LEADING, OLDEST, PENDING, REFUSED, SENT, STUCK
from spile.adapters.outbox._rows import OutboxRow, OutboxStore
from spile.spi import (
    ClosedError,
    InvalidEventError,
    InvalidTopicError,
    MessageTooLargeError,
    RejectedError,
    SpileError,
    UnknownTopicError,
)

log = structlog.get_logger(__name__)

_ABOUT_THE_ROW = (
    InvalidEventError,
    InvalidTopicError,
    MessageTooLargeError,
    RejectedError,
    UnknownTopicError,
)
"""What a row itself is to blame for; all else, credentials too, may pass."""

_LOOK_S: Final = 1.0
_REASON_LENGTH: Final = 1000
_AWAY: Final = Backoff(initial_s=0.2, max_s=15.0)
_CARE_EVERY_S: Final = 10.0


class OutboxRelay:
    """
    Publishes the rows of one outbox; as many relays as there are may run, one of them works.

    At least once, with one event id: a row is marked once the bus has acknowledged it, so a crash
    in between means that it is published again. Rows of one key are published in the order in
    which they were written, the next one after the last one is acknowledged; keys do not wait for
    one another. A row that the bus refuses is parked with the reason, and the later ones of its key
    wait behind it, until somebody lets it be tried again or drops it.

    Args:
        store: The table.
        sender: Writes records, a `KafkaSender`; stays open.
        name: Tells outboxes apart in logs and metrics.
        batch: Most rows per look at the table, 1,000 by default.
        keep: How long rows that were sent stay in the table, a day by default.
        backoff: Waits while bus or database is away, 0.2 s to 15 s by default.
    """

    def __init__(
        self,
        store: OutboxStore,
        sender: RecordSender,
        *,
        name: str = "outbox",
        batch: int = 1000,
        keep: timedelta = timedelta(days=1),
        backoff: Backoff = _AWAY,
    ) -> None:
        self._store = store
        self._sender = sender
        self._name = name
        self._batch = batch
        self._keep = keep
        self._backoff = backoff
        self._care_at = 0.0

    async def run(self) -> None:
        """
        Publish for ever; ends by cancelling, which leaves every row as it is or published.

        Raises:
            ClosedError: The sender is closed.
        """
        failures = 0
        try:
            while True:
                try:
                    await self._step()
                except SpileError as exc:
                    if isinstance(exc, _SenderClosedError):
                        raise ClosedError(str(exc)) from exc
                    failures += 1
                    await self._wait(exc, failures)
                else:
                    failures = 0
        finally:
            LEADING.labels(self._name).set(0)
            await self._store.close()

    async def drain(self) -> int:
        """
        Publish what stands in the table now, once; for tests and for the end of a batch job.

        Returns:
            How many rows were published; 0 also when another relay leads.

        Raises:
            SpileError: Bus or database is away; call it again.
        """
        published = 0
        while await self._store.lead():
            rows = await self._store.pending(self._batch)
            if not rows:
                break
            published += await self._publish(rows)
        return published

    async def _step(self) -> None:
        """Publish what there is, or wait for news."""
        leads = await self._store.lead()
        LEADING.labels(self._name).set(int(leads))
        if not leads:
            await asyncio.sleep(_LOOK_S)
            return
        if time.monotonic() >= self._care_at:
            await self._care()
        rows = await self._store.pending(self._batch)
        if rows:
            await self._publish(rows)
        else:
            await self._store.news(_LOOK_S)

    async def _publish(self, rows: Sequence[OutboxRow]) -> int:
        """
        Publish rows in waves, of each key one, those of a key up to the first that fails.

        Raises:
            SpileError: Some were not acknowledged; what was is marked.
        """
        lines: dict[tuple[str, bytes | None], deque[OutboxRow]] = {}
        for row in rows:
            lines.setdefault((row.record.topic, row.record.key), deque()).append(row)
        published = 0
        failure: SpileError | None = None
        while lines:
            wave = {place: line.popleft() for place, line in lines.items()}
            errors = await self._send(list(wave.values()))
            refused = {
                row_id: f"{type(error).__name__}: {error}"[:_REASON_LENGTH]
                for row_id, error in errors.items()
                if isinstance(error, _ABOUT_THE_ROW)
            }
            sent = [row.row_id for row in wave.values() if row.row_id not in errors]
            if sent or refused:
                await self._store.settle(sent, refused)
            published += len(sent)
            self._note(len(sent), refused)
            lasting = (error for row_id, error in errors.items() if row_id not in refused)
            failure = failure or next(lasting, None)
            lines = {
                place: line
                for place, line in lines.items()
                if line and wave[place].row_id not in errors
            }
        if failure is not None:
            raise failure
        return published

    async def _send(self, rows: Sequence[OutboxRow]) -> dict[int, SpileError]:
        """
        Send rows that have nothing to do with one another; what failed, by row.

        Raises:
            _SenderClosedError: The sender is closed.
        """
        errors: dict[int, SpileError] = {}

        def settled(indexes: Sequence[int], error: SpileError | None) -> None:
            if error is not None:
                errors.update((rows[index].row_id, error) for index in indexes)

        try:
            receipt = await self._sender.send([row.record for row in rows], settled=settled)
        except ClosedError as exc:
            raise _SenderClosedError(str(exc)) from exc
        errors.update((rows[index].row_id, error) for index, error in receipt.failures.items())
        return errors

    def _note(self, sent: int, refused: Mapping[int, str]) -> None:
        if sent:
            SENT.labels(self._name).inc(sent)
        for row_id, reason in refused.items():
            REFUSED.labels(self._name).inc()
            log.error("outbox row refused", outbox=self._name, row_id=row_id, reason=reason)

    async def _care(self) -> None:
        """Clean away what was sent long ago, and tell how full the table is."""
        try:
            await self._store.clean(self._keep)
            counts = await self._store.counts(sent=False)
        finally:  # even where that takes long and fails, events are published in between
            self._care_at = time.monotonic() + _CARE_EVERY_S
        PENDING.labels(self._name).set(counts.pending)
        STUCK.labels(self._name).set(counts.stuck)
        OLDEST.labels(self._name).set(counts.oldest_s)

    async def _wait(self, error: SpileError, failures: int) -> None:
        delay_s = self._backoff.delay(failures)
        log.warning(
            "outbox waits",
            outbox=self._name,
            error=str(error),
            error_type=type(error).__name__,
            failures=failures,
            retry_in_s=round(delay_s, 2),
        )
        await asyncio.sleep(delay_s)


class _SenderClosedError(ClosedError):
    """Raised when the sender is closed, unlike a store that another relay holds."""
