"""From a record to the request in it, and how long its caller still waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Generic

import structlog

from spile.adapters.delivery import Backoff
from spile.adapters.requesting._in_hand import InHand
from spile.adapters.requesting._line import Arrival
from spile.adapters.requesting._metrics import RESPONSES_RECLOCKED
from spile.adapters.requesting._trio import Answer, Asked, Trio
from spile.adapters.subscribing import EventReader, ReceivedEvent
from spile.adapters.wire import Opener
from spile.spi import ProtocolRecord, RetriableError
from spile.topics import Catalogue

log = structlog.get_logger(__name__)

_MESSAGE_ID: Final = 2
_ID_BYTES: Final = 36
_CLOCK_TOLERANCE_S: Final = 1.0


class RequestReader(Generic[Asked, Answer]):
    """
    Reads requests of a trio.

    Args:
        trio: What is asked.
        catalogue: Knows the event types.
        opener: Reads other content types than JSON.
        backoff: Waits while the schema registry is away.
        most_s: Longest that a handler may take.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        trio: Trio[Asked, Answer],
        catalogue: Catalogue,
        *,
        opener: Opener,
        backoff: Backoff,
        most_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._trio = trio
        self._opener = opener
        self._events = EventReader(catalogue, opener)
        self._backoff = backoff
        self._most_s = most_s
        self._clock = clock
        self._reclocked = RESPONSES_RECLOCKED.labels(trio.name)
        self._has_warned = False

    def at_once(self, record: ProtocolRecord, arrival: Arrival) -> InHand | None:
        """Read a request that is as it should be; None when that takes `read`."""
        if self._opener.may_fetch:
            return None
        try:
            return self._in_hand(self._events.read(record), arrival)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, `read` says so again
            return None

    async def read(self, record: ProtocolRecord, arrival: Arrival) -> InHand:
        """
        Read a request, for as long as the schema registry is away.

        Raises:
            SchemaError: It is none.
        """
        attempt = 0
        while True:
            try:
                await self._opener.prepare([record])
                return self._in_hand(self._events.read(record), arrival)
            except RetriableError as exc:
                attempt += 1
                log.warning("request cannot be read yet", trio=self._trio.name, error=str(exc))
                await asyncio.sleep(self._backoff.delay(attempt))

    def _in_hand(self, event: ReceivedEvent, arrival: Arrival) -> InHand:
        correlation_id, request_id = _ids(event)
        now = asyncio.get_running_loop().time()
        request = event.payload  # is read each time that it is asked for
        left_s = self._left_s(event.record, arrival, now, self._trio.timeout_ms(request) / 1000)
        return InHand(
            event.record,
            arrival,
            request=request,
            request_id=request_id,
            correlation_id=correlation_id,
            limit_s=min(left_s, self._most_s),
            until=now + left_s,
        )

    def _left_s(
        self, record: ProtocolRecord, arrival: Arrival, now: float, timeout_s: float
    ) -> float:
        """
        Return how long the caller still waits, by the record's time where that is possible.

        A request is not younger than its stay here, and not older than the last look at the end of
        the log before it: what the clocks of two machines say otherwise does not count.
        """
        most_s = timeout_s - (now - arrival.at)
        written_ms = record.timestamp
        if written_ms < 0:  # the log has none
            return most_s
        stated_s = written_ms / 1000 + timeout_s - self._clock()
        least_s = timeout_s - (now - arrival.after)
        if stated_s <= 0 < least_s or stated_s > most_s + _CLOCK_TOLERANCE_S:
            self._reclock(stated_s - timeout_s)
        return min(max(stated_s, least_s), most_s)

    def _reclock(self, ahead_s: float) -> None:
        self._reclocked.inc()
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "clocks disagree, requests are judged by their arrival",
                trio=self._trio.name,
                record_time_ahead_s=round(ahead_s, 3),
            )


def _ids(event: ReceivedEvent) -> tuple[str, str]:
    """Return correlation id and event id as text."""
    wire: Sequence[tuple[str, bytes]] = event.record.headers
    # As our publisher writes them; they were found to agree with the envelope.
    if len(wire) > _MESSAGE_ID and wire[1][0] == "correlation_id":
        name, raw = wire[_MESSAGE_ID]
        chain = wire[1][1]
        if name == "message_id" and len(raw) == len(chain) == _ID_BYTES:
            return chain.decode().lower(), raw.decode().lower()
    return str(event.correlation_id), str(event.event_id)
