"""A publisher's own account: what it published, by topic and minute, reported to the audit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from uuid import uuid4

import structlog

from spile.adapters.delivery import OutgoingEvent, OutgoingRecord, Tasks
from spile.adapters.publishing._encoding import TIMESTAMP_HEADER, Encoded
from spile.spi import RetriableError, SpileError
from spile.topics import uuid7_text

log = structlog.get_logger(__name__)

AUDIT_COUNTED = "AUDIT_COUNTED"
"""Event type of a report."""

_MINUTE_BYTES = 16
_ROWS_A_REPORT = 1_000
_MOST_ROWS = 10_000
_LAST_WORD_S = 2.0
_ACKNOWLEDGED, _INDEFINITE, _DEAD_LETTERED = range(3)


def minute_of(record: OutgoingRecord) -> bytes:
    """Return the minute in which the event of an encoded record happened, `2026-01-02T03:04`."""
    return record.headers[TIMESTAMP_HEADER][1][:_MINUTE_BYTES]


def runs(batch: Sequence[Encoded]) -> Iterator[tuple[str, bytes, int]]:
    """Return topic, minute and length of each run of events that agree in both."""
    topic, minute, count = "", b"", 0
    for encoded in batch:
        record = encoded.record
        its = record.headers[TIMESTAMP_HEADER][1][:_MINUTE_BYTES]
        if its == minute and record.topic == topic:
            count += 1
            continue
        if count:
            yield topic, minute, count
        topic, minute, count = record.topic, its, 1
    if count:
        yield topic, minute, count


class PublishAudit:
    """
    Counts what a publisher publishes and reports it; belongs to one publisher.

    A report holds the counts since the report before, each counted once. One that is not
    acknowledged is written again as it is, same sequence and same event id, before any later one.
    After the last news one empty report follows: the publisher lives and has published no more.
    Where the audit topic is missing, in the catalogue or on the cluster, it is off after one line
    in the log. At most 10,000 rows of topic and minute are kept between reports; events beyond are
    counted together.

    Args:
        service: Name of the publishing service.
        instance_id: Tells replicas apart.
        every_s: Seconds between an event and its report at most.
        clock: The present, aware.
    """

    def __init__(
        self,
        *,
        service: str,
        instance_id: str = "",
        every_s: float = 10.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.source_id = str(uuid4())
        self._service = service
        self._instance = instance_id
        self._every_s = every_s
        self._clock = clock
        self._rows: dict[tuple[str, bytes], list[int]] = {}
        self._uncounted = 0
        self._sequence = 0
        self._unsaid: deque[OutgoingEvent] = deque()
        self._write: Callable[[OutgoingEvent], Awaitable[None]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._saying = asyncio.Lock()
        self._tasks = Tasks(_broken)
        self._speaks = False
        self._off = False

    def attach(self, write: Callable[[OutgoingEvent], Awaitable[None]]) -> None:
        """Take what writes a report; returns when it is acknowledged, raises SpileError if not."""
        self._write = write

    def acknowledged(self, topic: str, minute: bytes, count: int = 1) -> None:
        """Count events that are on the bus."""
        row = self._rows.get((topic, minute))
        if row is None:
            self._count(topic, minute, count, _ACKNOWLEDGED)
        else:  # the usual way, kept short: it is taken once for each event
            row[_ACKNOWLEDGED] += count

    def indefinite(self, record: OutgoingRecord) -> None:
        """Count an event that may be on the bus."""
        self._count(record.topic, minute_of(record), 1, _INDEFINITE)

    def dead_lettered(self, record: OutgoingRecord) -> None:
        """Count an event that the broker refused and that is in the dead letter queue."""
        self._count(record.topic, minute_of(record), 1, _DEAD_LETTERED)

    async def report(self) -> None:
        """Report what was counted until now; what cannot be written now is written later."""
        await self._report(final=False)

    async def close(self, *, whole: bool, reachable: bool = True) -> None:
        """
        Say the last word, within 2 s.

        Args:
            whole: All that was published has been counted.
            reachable: The broker answered lately; else nothing is tried.
        """
        self._stop_timer()
        if reachable and (self._has_news or self._sequence):
            try:
                async with asyncio.timeout(_LAST_WORD_S):
                    await self._report(final=whole)
            except TimeoutError:
                log.warning("last report of the audit not confirmed", service=self._service)
        self._stop_timer()
        self._off = True
        await self._tasks.close()

    def _count(self, topic: str, minute: bytes, count: int, what: int) -> None:
        if self._off:
            return
        row = self._rows.get((topic, minute))
        if row is None:
            if len(self._rows) >= _MOST_ROWS:
                self._uncounted += count
                return
            row = self._rows[topic, minute] = [0, 0, 0]
            if self._timer is None:
                self._start_timer()
        row[what] += count

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._due)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self._tasks.start(self.report(), "audit report")

    async def _report(self, *, final: bool) -> None:
        async with self._saying:
            taken = False
            while not self._off and self._write is not None:
                if not self._unsaid:
                    if taken or not (final or self._has_news or self._speaks):
                        break
                    taken, self._speaks = True, self._has_news
                    self._unsaid.extend(self._taken(final=final))
                try:
                    await self._write(self._unsaid[0])
                except RetriableError as exc:
                    log.warning("report of the audit not confirmed", error=str(exc))
                    break
                except SpileError as exc:
                    self._off = True
                    log.info("publishes without audit", service=self._service, reason=str(exc))
                    break
                self._unsaid.popleft()
            if self._off:
                self._unsaid.clear()
                self._rows.clear()
            elif (self._unsaid or self._speaks or self._has_news) and self._timer is None:
                self._start_timer()

    @property
    def _has_news(self) -> bool:
        return bool(self._rows or self._uncounted)

    def _taken(self, *, final: bool) -> Iterator[OutgoingEvent]:
        """Make reports of the counts and begin at zero."""
        rows, self._rows = list(self._rows.items()), {}
        uncounted, self._uncounted = self._uncounted, 0
        now = self._clock()
        for start in range(0, max(len(rows), 1), _ROWS_A_REPORT):
            part = rows[start : start + _ROWS_A_REPORT]
            last = start + _ROWS_A_REPORT >= len(rows)
            self._sequence += 1
            payload = {
                "source_id": self.source_id,
                "service": self._service,
                "instance": self._instance,
                "sequence": self._sequence,
                "counted_until": now.isoformat(),
                "final": final and last,
                "uncounted": uncounted if last else 0,
                "rows": [
                    {
                        "topic": topic,
                        "minute": f"{minute.decode()}:00Z",
                        "acknowledged": counts[_ACKNOWLEDGED],
                        "indefinite": counts[_INDEFINITE],
                        "dead_lettered": counts[_DEAD_LETTERED],
                    }
                    for (topic, minute), counts in part
                ],
            }
            # An id of its own, given here: a report that is written again is the same event.
            yield OutgoingEvent(
                event_type=AUDIT_COUNTED, payload=payload, event_id=uuid7_text(), timestamp=now
            )


def _broken(error: BaseException) -> None:
    log.error("the audit of a publisher failed", error_type=type(error).__name__)
