"""Takes requests, has them handled side by side, and answers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Self
from uuid import UUID

import structlog
from pydantic import BaseModel

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.delivery import Backoff, Tasks
from spile.adapters.publishing import EventPublisher, Fate
from spile.adapters.requesting._answered import Answered
from spile.adapters.requesting._answering import Answering, RequestHandler
from spile.adapters.requesting._metrics import RESPONSES, RESPONSES_RUNNING
from spile.adapters.requesting._progress import InHand, Patience, Progress, set_timers
from spile.adapters.requesting._trio import Answer, Asked, Trio
from spile.adapters.subscribing import EventReader, ReceivedEvent
from spile.adapters.wire import Opener
from spile.spi import (
    ClosedError,
    PartitionKey,
    ProtocolBatchSubscriber,
    ProtocolRecord,
    ProtocolSubscription,
    RequestFailedError,
    RetriableError,
    SchemaError,
    SpileError,
)
from spile.topics import TICK, Catalogue

log = structlog.get_logger(__name__)

_REMEMBERED: Final = 10_000
_CLOSE_LIMIT_S: Final = 20.0
_MESSAGE_ID: Final = 2
_ID_BYTES: Final = 36
_OUTCOMES: Final = (
    "completed",
    "failed",
    "expired",
    "repeated",
    "unreadable",
    "unanswered",
    "tick",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponderCounts:
    """
    What became of the requests that one responder took.

    Attributes:
        completed: Answered.
        failed: Answered with a failure.
        expired: Dropped, because their caller was gone before they began.
        repeated: Come again after they were answered here; dropped.
        unreadable: No requests of the trio; kept as dead letters where there is a queue.
        unanswered: Handled, but no answer could be sent.
        running: In hand now.
    """

    completed: int
    failed: int
    expired: int
    repeated: int
    unreadable: int
    unanswered: int
    running: int


class Responder(Generic[Asked, Answer]):
    """
    Answers the requests of one trio as a member of a consumer group.

    Requests are handled side by side, each in its own time, whatever the order of the log: they
    have nothing to do with one another. A request is committed once its answer is acknowledged, and
    never past one that is not; so a crash means that some are handled again, with the same event id
    of the answer. The handler must be idempotent, by the request's correlation id.

    A handler answers, or raises: a `RequestFailedError` is sent as it is, anything else as
    `INTERNAL_ERROR`, and `TIMEOUT` when the caller's time is up. What the caller has given up
    before the handler began is dropped and counted.

    Args:
        trio: What is asked.
        handler: Answers.
        bus: Subscribes; an `EventBus`.
        group: Responders with one group share the requests.
        publisher: Sends the answers; stays open.
        catalogue: Knows the topics; the publisher's.
        environment: Environment of the topics; the publisher's.
        opener: Reads other content types than JSON; see `EventReader`.
        dead_letters: Keeps what is no request; without it that is logged and counted only.
        concurrency: Most requests in hand at a time, 100 by default; others wait in the log.
        most_s: Longest that a handler may take, 60 s by default, whatever the caller allows.
        backoff: Waits between attempts, 1 s at first by default.
        clock: Seconds since 1970, to be compared with the time of records.
    """

    def __init__(  # noqa: PLR0913 - wired in one place, keyword-only after two
        self,
        trio: Trio[Asked, Answer],
        handler: RequestHandler[Asked, Answer],
        *,
        bus: ProtocolBatchSubscriber,
        group: str,
        publisher: EventPublisher,
        catalogue: Catalogue,
        environment: str,
        opener: Opener | None = None,
        dead_letters: DeadLetterQueue | None = None,
        concurrency: int = 100,
        most_s: float = 60.0,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        requested, completed, failed = trio.routes(catalogue, environment)
        self._trio = trio
        self._topic = requested.topic
        self._bus = bus
        self._group = group
        self._opener = opener or Opener()
        self._events = EventReader(catalogue, self._opener)
        self._dead_letters = dead_letters
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._answering = Answering(
            trio,
            handler,
            publisher=publisher,
            routes=(completed, failed),
            backoff=self._backoff,
            most_s=most_s,
        )
        self._tasks = Tasks(self._broken)
        self._concurrency = concurrency
        self._line: deque[tuple[ProtocolRecord, Progress]] = deque()
        self._held_back = False
        self._closing = False
        self._is_closed = False
        self._begun = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._running = self._shown = 0
        self._will_show = False
        self._progress: dict[PartitionKey, Progress] = {}
        self._answered = Answered(_REMEMBERED + concurrency)
        self._counts: Counter[str] = Counter()
        self._subscription: ProtocolSubscription | None = None
        self._failure: BaseException | None = None
        self._outcomes = {name: RESPONSES.labels(trio.name, name) for name in _OUTCOMES}
        self._shown_running = RESPONSES_RUNNING.labels(trio.name)

    @property
    def counts(self) -> ResponderCounts:
        """What became of the requests so far."""
        names = (name for name in ResponderCounts.__slots__ if name != "running")
        return ResponderCounts(
            running=self._running, **{name: self._counts[name] for name in names}
        )

    async def open(self) -> None:
        """
        Join the group and begin; `async with` does it.

        Raises:
            SpileError: As `ProtocolBatchSubscriber.subscribe_batches`.
        """
        self._subscription = await self._bus.subscribe_batches(
            [self._topic], self._group, self._take, manual_commit=True
        )
        self._begun.set()

    async def wait(self) -> None:
        """
        Wait until the responder has ended.

        Raises:
            SpileError: What ended it, if it did not end by `close`.
            ClosedError: It was not opened.
        """
        if self._subscription is None:
            raise ClosedError("the responder is not open: use `async with`")
        await self._subscription.wait()
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        """Take no more, answer what is in hand within 20 s, commit, leave; again is a no-op."""
        subscription = self._subscription
        if subscription is None:
            return
        self._closing = True
        self._line.clear()
        await subscription.pause()
        try:
            async with asyncio.timeout(_CLOSE_LIMIT_S):
                await self._idle.wait()
        except TimeoutError:
            log.warning("requests still run, they will be handled again", requests=self._running)
        self._is_closed = True
        await self._tasks.close()
        await subscription.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def _take(self, records: Sequence[ProtocolRecord]) -> None:
        """Take requests in line; the subscription's handler, which must not be long about it."""
        await self._begun.wait()
        if self._closing:
            return
        for record in records:
            partition = (record.topic, record.partition)
            progress = self._progress.get(partition)
            if progress is None or not progress.follows(record.offset):
                progress = self._progress[partition] = Progress()
            progress.begin(record.offset)
            self._line.append((record, progress))
        self._start_next()
        if len(self._line) > self._concurrency and self._subscription is not None:
            self._held_back = True
            await self._subscription.pause()

    def _start_next(self) -> None:
        """Begin with requests, as many at a time as may run."""
        begun: list[InHand] = []
        while self._line and self._running < self._concurrency and not self._closing:
            record, progress = self._line.popleft()
            self._count_running(1)
            taken = self._taken(record, progress)
            if taken is None:
                self._tasks.start(self._serve(record, progress), "request")
            elif taken.limit_s <= 0:
                self._note(record, progress, "expired")
                self._count_running(-1)
            else:
                self._answered.begin(taken.request_id)
                taken.patience.task = self._tasks.start(self._handle(taken), "request")
                begun.append(taken)
        if begun:
            asyncio.get_running_loop().call_soon(set_timers, begun)

    def _taken(self, record: ProtocolRecord, progress: Progress) -> InHand | None:
        """Read a request that is as it should be; None when more is to be done than that."""
        if self._opener.may_fetch:
            return None
        try:
            event = self._events.read(record)
            request = event.payload
        except (SchemaError, RetriableError):
            return None
        correlation_id, request_id = _ids(event)
        if request_id in self._answered:
            return None
        left_s = self._left_s(record, request)
        return InHand(
            record,
            progress,
            request=request,
            request_id=request_id,
            correlation_id=correlation_id,
            limit_s=self._answering.limit_s(left_s),
            until=asyncio.get_running_loop().time() + left_s,
        )

    def _left_s(self, record: ProtocolRecord, request: Asked) -> float:
        return record.timestamp / 1000 + self._trio.timeout_ms(request) / 1000 - self._clock()

    async def _handle(self, taken: InHand) -> None:
        """Call the handler and hand its answer to the publisher, which sends those that meet."""
        try:
            answer = await self._answering.run(taken.request, taken.patience, limit_s=taken.limit_s)
            event = self._answering.event(answer, taken.correlation_id, taken.request_id)
        except BaseException:
            self._dropped(taken)
            raise
        taken.is_handled = True
        self._answering.send_soon(event, lambda fate: self._sent(taken, answer, fate))

    def _sent(self, taken: InHand, answer: BaseModel, fate: Fate) -> None:
        if fate is True:
            self._answered.settle(taken.request_id, acknowledged=True)
            self._settled(taken, self._outcome(answer))
        elif self._is_closed:
            self._dropped(taken)
        else:
            self._tasks.start(self._send_again(taken, answer, fate), "answer")

    async def _send_again(self, taken: InHand, answer: BaseModel, fate: Fate) -> None:
        acknowledged = False
        try:
            acknowledged = await self._answering.send(
                answer,
                correlation_id=taken.correlation_id,
                request_id=taken.request_id,
                until=taken.until,
                fate=fate,
            )
        except BaseException:
            self._dropped(taken)
            raise
        self._answered.settle(taken.request_id, acknowledged=acknowledged)
        self._settled(taken, self._outcome(answer) if acknowledged else "unanswered")

    def _outcome(self, answer: BaseModel) -> str:
        return "completed" if isinstance(answer, self._trio.completed) else "failed"

    def _dropped(self, taken: InHand) -> None:
        """Let go of a request that comes again."""
        taken.is_handled = True
        self._answered.settle(taken.request_id, acknowledged=False)
        self._count_running(-1)

    def _settled(self, taken: InHand, outcome: str) -> None:
        """Note that nothing is left to do for a request."""
        self._note(taken.record, taken.progress, outcome)
        self._count_running(-1)
        if self._line:
            self._start_next()
        if self._may_resume:
            self._held_back = False
            self._tasks.start(self._subscribed.resume(), "resume")

    def _note(self, record: ProtocolRecord, progress: Progress, outcome: str) -> None:
        self._counts[outcome] += 1
        self._outcomes[outcome].inc()
        done = progress.end(record.offset)
        partition = (record.topic, record.partition)
        if done is not None and self._progress.get(partition) is progress:
            self._subscribed.done({partition: done})

    @property
    def _may_resume(self) -> bool:
        return self._held_back and len(self._line) <= self._concurrency // 2 and not self._closing

    @property
    def _subscribed(self) -> ProtocolSubscription:
        assert self._subscription is not None  # noqa: S101 - set before the first request
        return self._subscription

    async def _serve(self, record: ProtocolRecord, progress: Progress) -> None:
        """Bring a request to its end that is none, is framed, or came before."""
        try:
            self._note(record, progress, await self._settle(record))
        finally:
            self._count_running(-1)
            self._start_next()
        if self._may_resume:
            self._held_back = False
            await self._subscribed.resume()

    async def _settle(self, record: ProtocolRecord) -> str:
        """Bring one request to its end, and say which."""
        try:
            event = await self._read(record)
            request = event.payload
        except SchemaError as exc:
            if dict(record.headers).get("event_type") == TICK.encode():
                return "tick"
            await self._refuse(record, exc)
            return "unreadable"
        left_s = self._left_s(record, request)
        if left_s <= 0:
            return "expired"
        correlation_id, request_id = _ids(event)
        if await self._answered.was_answered(request_id):
            return "repeated"
        self._answered.begin(request_id)
        acknowledged = False
        try:
            until = asyncio.get_running_loop().time() + left_s
            limit_s, patience = self._answering.limit_s(left_s), Patience()
            patience.task = asyncio.current_task()
            patience.set_timer(limit_s)
            answer = await self._answering.run(request, patience, limit_s=limit_s)
            acknowledged = await self._answering.send(
                answer,
                correlation_id=correlation_id,
                request_id=request_id,
                until=until,
            )
        finally:
            self._answered.settle(request_id, acknowledged=acknowledged)
        return self._outcome(answer) if acknowledged else "unanswered"

    async def _read(self, record: ProtocolRecord) -> ReceivedEvent:
        """
        Read a request, for as long as the schema registry is away.

        Raises:
            SchemaError: It is none.
        """
        attempt = 0
        while True:
            try:
                await self._opener.prepare([record])
                return self._events.read(record)
            except RetriableError as exc:
                attempt += 1
                log.warning("request cannot be read yet", trio=self._trio.name, error=str(exc))
                await asyncio.sleep(self._backoff.delay(attempt))

    async def _refuse(self, record: ProtocolRecord, error: SchemaError) -> None:
        """Keep what is no request as a dead letter, and tell its sender where that can be done."""
        log.warning(
            "no request",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error=str(error),
        )
        await self._bury(record, error)
        headers = dict(record.headers)
        try:
            correlation_id = str(UUID(headers["correlation_id"].decode()))
            request_id = str(UUID(headers["message_id"].decode()))
        except (KeyError, ValueError, AttributeError):
            return
        failure = self._answering.failure(RequestFailedError(str(error), code="INVALID_REQUEST"))
        until = asyncio.get_running_loop().time()
        await self._answering.send(
            failure, correlation_id=correlation_id, request_id=request_id, until=until
        )

    async def _bury(self, record: ProtocolRecord, error: SchemaError) -> None:
        if self._dead_letters is None:
            return
        attempt = 0
        while True:
            try:
                await self._dead_letters.keep(record, error, group=self._group, attempts=1)
            except RetriableError as exc:
                attempt += 1
                log.warning("dead letter queue is away", topic=record.topic, error=str(exc))
                await asyncio.sleep(self._backoff.delay(attempt))
            except SpileError as exc:
                log.error(  # noqa: TRY400 - ours, and told in full
                    "dead letter not kept", topic=record.topic, error=str(exc)
                )
                return
            else:
                return

    def _count_running(self, change: int) -> None:
        self._running += change
        if self._running:
            self._idle.clear()
        else:
            self._idle.set()
        if not self._will_show:
            self._will_show = True
            asyncio.get_running_loop().call_soon(self._show_running)

    def _show_running(self) -> None:
        """Show in the gauge how many run, once for all that came and went in a turn."""
        self._will_show = False
        self._shown_running.inc(self._running - self._shown)
        self._shown = self._running

    def _broken(self, error: BaseException) -> None:
        """End because of a bug of ours; the offset is kept, so the request comes again."""
        log.error("request not settled", trio=self._trio.name, error=repr(error))
        if self._failure is None and self._subscription is not None:
            self._failure = error
            self._tasks.start(self._subscription.close(), "end of responder")


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
