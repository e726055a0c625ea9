"""Asks, and waits for the answer."""

from __future__ import annotations

import asyncio
import copy
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Self, cast

import structlog

from spile.adapters.delivery import LogReaderFactory, OutgoingEvent, Tasks
from spile.adapters.publishing import EventPublisher
from spile.adapters.requesting._answers import AnswerReader
from spile.adapters.requesting._metrics import REQUEST_SECONDS, REQUESTS, STRAY_ANSWERS
from spile.adapters.requesting._trio import Answer, Asked, Form, Trio
from spile.adapters.requesting._waiting import Waiting
from spile.adapters.subscribing import EventReader
from spile.adapters.wire import Opener
from spile.spi import (
    ClosedError,
    DeliveryTimeoutError,
    ProtocolRecord,
    RequestFailedError,
    SpileError,
)
from spile.topics import Catalogue, uuid7_text
from spile.topics.events.requests import FailedRequest

log = structlog.get_logger(__name__)

_OUTCOMES: Final = ("completed", "failed", "timed_out", "cancelled", "not_sent", "unreadable")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCounts:
    """
    What became of the requests of one client.

    Attributes:
        completed: Answered.
        failed: Answered with a failure.
        timed_out: Not answered in time.
        cancelled: Given up by their caller, or by the close.
        not_sent: Refused before they were sent, or not acknowledged.
        unreadable: Answered with what cannot be read.
        late: Answers that came after their caller had gone; dropped.
        duplicates: Answers to what was answered already; dropped.
        pending: Under way now.
    """

    completed: int
    failed: int
    timed_out: int
    cancelled: int
    not_sent: int
    unreadable: int
    late: int
    duplicates: int
    pending: int


class RequestClient(Generic[Asked, Answer]):
    """
    Sends requests of one trio and waits for their answers.

    Every client reads all answers of the trio, from the moment it is entered: as many clients as
    there are may ask, and each picks out its own. A request is sent at most once by this class; the
    responder may still handle it twice, and must be idempotent.

    Args:
        trio: What is asked.
        publisher: Sends requests; stays open.
        open_reader: Makes the reader of the answers, `lambda: KafkaLogReader(settings)` or
            `cluster.reader`.
        catalogue: Knows the topics; the publisher's.
        environment: Environment of the topics; the publisher's.
        opener: Reads other content types than JSON; see `EventReader`.
        max_pending: Most requests that wait at a time, 1,000 by default.
        look_every_s: Seconds between looks for new partitions of the answer topics.
    """

    def __init__(
        self,
        trio: Trio[Asked, Answer],
        *,
        publisher: EventPublisher,
        open_reader: LogReaderFactory,
        catalogue: Catalogue,
        environment: str,
        opener: Opener | None = None,
        max_pending: int = 1000,
        look_every_s: float = 10.0,
    ) -> None:
        requested, completed, failed = trio.routes(catalogue, environment)
        self._trio = trio
        self._topic = requested.topic
        self._event_type = requested.event_type
        self._form = Form(requested.contract, trio.requested)
        self._publisher = publisher
        self._opener = opener or Opener()
        self._events = EventReader(catalogue, self._opener)
        self._waiting = Waiting(max_pending, f"{self._event_type} for {self._topic}")
        self._answers = AnswerReader(
            open_reader,
            (completed.topic, failed.topic),
            on_records=self._take,
            on_fault=self._waiting.fail,
            look_every_s=look_every_s,
        )
        self._tasks = Tasks(self._broken)
        self._counts: Counter[str] = Counter()
        self._seconds = REQUEST_SECONDS.labels(trio.name)
        self._outcomes = {name: REQUESTS.labels(trio.name, name) for name in _OUTCOMES}
        self._is_open = False
        self._failure: BaseException | None = None

    @property
    def counts(self) -> RequestCounts:
        """What became of the requests so far."""
        names = (name for name in RequestCounts.__slots__ if name != "pending")
        return RequestCounts(
            pending=len(self._waiting), **{name: self._counts[name] for name in names}
        )

    async def request(
        self, payload: Asked, *, timeout_ms: int | None = None, causation_id: str | None = None
    ) -> Answer:
        """
        Ask, and return the answer.

        The request gets a correlation id of its own, which is its key too. Cancelling gives the
        request up; it may be handled all the same.

        Args:
            payload: What is asked; its `correlation_id` is replaced.
            timeout_ms: How long to wait, from this call on; what the payload says by default,
                5000 ms where that says nothing.
            causation_id: The event that caused the request.

        Raises:
            DeliveryTimeoutError: No answer in time (a TimeoutError).
            RequestFailedError: The responder answered that it failed.
            TooManyRequestsError: Too many requests wait already; nothing was sent.
            UndecodableError: The answer cannot be read.
            BrokerUnavailableError: The request was not acknowledged; it may have been sent.
            ClosedError: The client is not open, or was closed meanwhile.
            SpileError: As `EventPublisher.publish`; nothing was sent.
        """
        self._check_open()
        limit_ms = timeout_ms or self._trio.timeout_ms(payload)
        name = uuid7_text()
        event = OutgoingEvent(
            event_type=self._event_type,
            payload=self._form.filled(payload, {"correlation_id": name, "timeout_ms": limit_ms}),
            topic=self._topic,
            correlation_id=name,
            causation_id=causation_id,
        )
        started, key = time.perf_counter(), name.encode()
        pending = self._waiting.add(key, limit_ms / 1000)
        try:
            self._publisher.publish_soon(event, pending.published)
            record = await pending.future
            pending.outcome = "unreadable"
            answer = await self._read(record)
            pending.outcome = "completed"
        except RequestFailedError:
            pending.outcome = "failed"
            raise
        except asyncio.CancelledError:
            pending.outcome = "cancelled"
            raise
        except TimeoutError:
            if pending.outcome != "timed_out":
                raise
            raise DeliveryTimeoutError(
                f"no answer to {self._event_type} {name} within {limit_ms} ms; it may still be "
                "handled, its answer will be dropped"
            ) from None
        finally:
            self._waiting.forget(key)
            self._note(pending.outcome, time.perf_counter() - started)
        return answer

    async def open(self) -> None:
        """
        Begin to read answers; `async with` does it.

        Raises:
            UnknownTopicError: The cluster has no such answer topics.
            RetriableError: No broker answered.
            UnauthorisedError: The credentials are refused.
        """
        try:
            await self._answers.open()
        except BaseException:
            await self._answers.close()
            raise
        self._tasks.start(self._answers.run(), f"answers of {self._trio.name}")
        self._is_open = True

    async def close(self) -> None:
        """Raise `ClosedError` at who still waits, and disconnect; again is a no-op."""
        if self._is_open:
            self._is_open = False
            self._waiting.fail(ClosedError("the client was closed before the answer came"))
            await self._tasks.close()
            await self._answers.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def _take(self, records: Sequence[ProtocolRecord]) -> None:
        settle = self._waiting.settle
        for record in records:
            stray = settle(record)
            if stray is not None:
                self._counts["late" if stray == "late" else "duplicates"] += 1
                STRAY_ANSWERS.labels(self._trio.name, stray).inc()

    async def _read(self, record: ProtocolRecord) -> Answer:
        """
        Return the answer in a record.

        Raises:
            RequestFailedError: It is a failure.
            UndecodableError: It is none of the trio.
        """
        if self._opener.may_fetch:
            await self._opener.prepare([record])
        payload: Any = self._events.read(record).payload
        if isinstance(payload, self._trio.completed):
            return payload
        raise _failure(cast("FailedRequest", payload))

    def _note(self, outcome: str, seconds: float) -> None:
        self._counts[outcome] += 1
        self._outcomes[outcome].inc()
        if outcome in {"completed", "failed"}:
            self._seconds.observe(seconds)

    def _check_open(self) -> None:
        if self._failure is not None:
            raise ClosedError(f"the client ended by itself: {self._failure!r}")
        if not self._is_open:
            raise ClosedError("the client is not open; nothing was sent: use `async with`")

    def _broken(self, error: BaseException) -> None:
        """Let nobody wait for ever on a bug of ours."""
        self._failure = error
        log.error("answers are no longer read", error=repr(error))
        told = copy.copy(error) if isinstance(error, SpileError) else None
        self._waiting.fail(told or ClosedError(f"the client ended by itself: {error!r}"))


def _failure(payload: FailedRequest) -> RequestFailedError:
    return RequestFailedError(
        payload.error_message,
        code=payload.error_code,
        retriable=payload.retryable,
        details=payload.error_details,
    )
