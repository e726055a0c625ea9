"""The persistence worker's handler: decode, bury what is poison, store the rest."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import structlog

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.subscribing import FailureGuard
from spile.services.persistence._decoding import Decoded, Decoder
from spile.services.persistence._metrics import APPEND_SECONDS, ERRORS, EVENTS, ROWS
from spile.services.persistence._values import Appended, EventStore
from spile.services.runtime import CrashGuard
from spile.spi import ProtocolRecord

log = structlog.get_logger(__name__)

_INLINE_RECORDS = 100


class PersistenceHandler:
    """
    Stores batches. Idempotent, by event id and by offset.

    Poison (bad JSON, missing headers, unknown version, broken contract) is acknowledged by the dead
    letter queue before the transaction that moves the offset beyond it.

    Args:
        store: Where to.
        decoder: Makes rows.
        dead_letters: Takes poison.
        group: Consumer group, named in dead letters.
        guard: Stops instead of filling the dead letter queue.
        crash_guard: That of the decoder; hears what is stored.
    """

    def __init__(
        self,
        store: EventStore,
        decoder: Decoder,
        dead_letters: DeadLetterQueue,
        *,
        group: str,
        guard: FailureGuard | None = None,
        crash_guard: CrashGuard | None = None,
    ) -> None:
        self._store = store
        self._decoder = decoder
        self._dead_letters = dead_letters
        self._group = group
        self._guard = guard or FailureGuard()
        self._crash_guard = crash_guard
        self._counted: ProtocolRecord | None = None
        self._buried: set[tuple[str, int, int]] = set()

    async def __call__(self, records: Sequence[ProtocolRecord]) -> None:
        """
        Store a batch.

        Raises:
            RetriableError: Store, dead letter queue or schema registry are away; the same batch may
                follow again.
            StaleOffsetsError: The store stands elsewhere; the offsets must be read anew.
            TooManyFailuresError: Stop; the offsets stay before this batch.
            PermanentError: The store is damaged, or a topic has no dead letter queue.
        """
        await self._decoder.prepare(records)
        if len(records) > _INLINE_RECORDS:
            decoded = await asyncio.to_thread(self._decoder.decode, records)
        else:
            decoded = self._decoder.decode(records)
        self._count_failures(records, decoded)
        await self._bury(decoded)
        started = time.perf_counter()
        appended = await self._store.append(decoded.runs)
        APPEND_SECONDS.observe(time.perf_counter() - started)
        self._buried.clear()
        if self._crash_guard is not None:
            self._crash_guard.passed(records)
        self._count_types(decoded)
        _report(decoded, appended)

    def _count_types(self, decoded: Decoded) -> None:
        """Count by type; those that the catalogue does not have share one label."""
        known = self._decoder.event_types
        types: Counter[str] = Counter()
        for run in decoded.runs:
            types.update(row.event_type for row in run.rows)
        for event_type, count in types.items():
            EVENTS.labels(event_type if event_type in known else "other").inc(count)

    def _count_failures(self, records: Sequence[ProtocolRecord], decoded: Decoded) -> None:
        """
        Tell the guard, once for a batch that comes again because the store is away.

        What came back and fails again says nothing about the deploy: it failed before.
        """
        if self._counted is records[-1]:
            return
        new = [error for record, error in decoded.poison if not self._decoder.is_returned(record)]
        handled = len(records) - len(decoded.poison)
        if new:
            self._guard.failed(new[-1], len(new), handled=handled)
        else:
            self._guard.handled(handled)
        self._counted = records[-1]

    async def _bury(self, decoded: Decoded) -> None:
        for record, error in decoded.poison:
            place = (record.topic, record.partition, record.offset)
            if place in self._buried:
                continue  # the same batch again, after the store failed
            arrival = self._decoder.arrival(record)
            await self._dead_letters.keep(
                arrival.record,
                error,
                group=self._group,
                attempts=1,
                first_failure=arrival.first_failure,
                replays=arrival.replays,
            )
            self._buried.add(place)
            ERRORS.labels(type(error).__name__).inc()


def _report(decoded: Decoded, appended: Appended) -> None:
    for outcome, count in (
        ("inserted", appended.inserted),
        ("duplicate", appended.duplicates),
        ("stale", appended.stale),
        ("ignored", decoded.ignored),
        ("poison", len(decoded.poison)),
    ):
        if count:
            ROWS.labels(outcome).inc(count)
    if appended.jumped:
        log.info("offsets without records were passed over", offsets=appended.jumped)
