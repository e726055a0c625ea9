"""Takes requests, has them handled side by side, and answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, Generic, Self

import structlog

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.delivery import Backoff, Tasks
from spile.adapters.publishing import EventPublisher
from spile.adapters.requesting._answering import Answering, RequestHandler
from spile.adapters.requesting._in_hand import InHand, set_timers
from spile.adapters.requesting._line import Arrival, Line
from spile.adapters.requesting._reading import RequestReader
from spile.adapters.requesting._refusing import Refusing
from spile.adapters.requesting._settling import Settling
from spile.adapters.requesting._tally import ResponderCounts, Tally
from spile.adapters.requesting._trio import Answer, Asked, Trio
from spile.adapters.wire import Opener
from spile.spi import (
    ClosedError,
    PartitionKey,
    ProtocolBatchSubscriber,
    ProtocolRecord,
    ProtocolSubscription,
    SchemaError,
    SpileError,
)
from spile.topics import TICK, Catalogue

log = structlog.get_logger(__name__)

_CLOSE_LIMIT_S: Final = 20.0


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
        look_every_s: Seconds between looks at the end of the log, 1 by default: what comes after a
            look is not older than it, whatever the clocks say.
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
        look_every_s: float = 1.0,
    ) -> None:
        requested, completed, failed = trio.routes(catalogue, environment)
        backoff, opener = backoff or Backoff(), opener or Opener()
        self._name = trio.name
        self._topic = requested.topic
        self._bus = bus
        self._group = group
        self._reader = RequestReader(
            trio, catalogue, opener=opener, backoff=backoff, most_s=most_s, clock=clock
        )
        answering = Answering(
            trio, handler, publisher=publisher, routes=(completed, failed), backoff=backoff
        )
        self._refusing = Refusing(
            answering, dead_letters=dead_letters, group=group, backoff=backoff
        )
        self._tasks = Tasks(self._broken)
        self._settling = Settling(
            answering,
            self._refusing,
            self._tasks,
            completed=trio.completed,
            most=concurrency,
            on_end=self._ended,
        )
        self._concurrency = concurrency
        self._look_every_s = look_every_s
        self._line = Line(self._assignment)
        self._tally = Tally(trio.name)
        self._held_back = False
        self._closing = False
        self._begun = asyncio.Event()
        self._subscription: ProtocolSubscription | None = None
        self._failure: BaseException | None = None

    @property
    def counts(self) -> ResponderCounts:
        """What became of the requests so far."""
        return self._tally.counts

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
        self._tasks.start(self._look(), "looks at the end of the log")

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
                await self._tally.idle.wait()
        except TimeoutError:
            log.warning(
                "requests still run, they will be handled again", requests=self._tally.running
            )
        self._settling.close()
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
        self._line.add(records)
        self._start_next()
        if len(self._line) > self._concurrency:
            self._held_back = True
            await self._subscribed.pause()

    def _start_next(self) -> None:
        """Begin with requests, as many at a time as may run."""
        begun: list[InHand] = []
        while self._tally.running < self._concurrency and not self._closing:
            waiting = self._line.next()
            if waiting is None:
                break
            record, arrival = waiting
            self._tally.begin()
            taken = self._reader.at_once(record, arrival)
            if taken is None or self._settling.knows(taken.request_id):
                self._tasks.start(self._serve(record, arrival), "request")
            elif taken.limit_s <= 0:
                self._note(record, arrival, "expired")
                self._tally.end()
            else:
                self._settling.begin(taken)
                begun.append(taken)
        if begun:
            asyncio.get_running_loop().call_soon(set_timers, begun)

    def _ended(self, taken: InHand, outcome: str | None) -> None:
        """Note that nothing is left to do for a request, or that it comes again."""
        if outcome is not None:
            self._note(taken.record, taken.arrival, outcome)
        self._let_next()

    def _let_next(self) -> None:
        """Give a place back."""
        self._tally.end()
        if self._line:
            self._start_next()
        if self._held_back and len(self._line) <= self._concurrency // 2 and not self._closing:
            self._held_back = False
            self._tasks.start(self._subscribed.resume(), "resume")

    def _note(self, record: ProtocolRecord, arrival: Arrival, outcome: str) -> None:
        is_first = self._tally.note(outcome)
        if outcome == "expired" and is_first:
            log.warning(
                "request had expired before it began, further ones are only counted",
                trio=self._name,
                partition=record.partition,
                offset=record.offset,
                record_time_ms=record.timestamp,
            )
        done = self._line.end(record, arrival)
        if done:
            self._subscribed.done(done)

    @property
    def _subscribed(self) -> ProtocolSubscription:
        assert self._subscription is not None  # noqa: S101 - set before the first request
        return self._subscription

    def _assignment(self, partition: PartitionKey) -> object | None:
        return self._subscribed.assignment(partition)

    async def _serve(self, record: ProtocolRecord, arrival: Arrival) -> None:
        """Bring a request to its end that is none, is framed, or came before."""
        try:
            self._note(record, arrival, await self._settle(record, arrival))
        finally:
            self._let_next()

    async def _settle(self, record: ProtocolRecord, arrival: Arrival) -> str:
        """Bring one request to its end, and say which."""
        try:
            taken = await self._reader.read(record, arrival)
        except Exception as exc:
            if isinstance(exc, SpileError) and not isinstance(exc, SchemaError):
                raise
            if dict(record.headers).get("event_type") == TICK.encode():
                return "tick"
            await self._refusing.refuse(record, exc)
            return "unreadable"
        if taken.limit_s <= 0:
            return "expired"
        return await self._settling.settle(taken)

    async def _look(self) -> None:
        """Note now and then where the log ends; ends by cancelling."""
        while True:
            at = asyncio.get_running_loop().time()
            try:
                self._line.mark(await self._subscribed.lag(), at)
            except SpileError as exc:
                log.debug("end of the log not seen", trio=self._name, error=str(exc))
            await asyncio.sleep(self._look_every_s)

    def _broken(self, error: BaseException) -> None:
        """End because of what no answer can tell; the offset is kept: the request comes again."""
        log.error("request not settled", trio=self._name, error=repr(error))
        if self._failure is None and self._subscription is not None:
            self._failure = error
            self._closing = True
            self._line.clear()
            self._tasks.start(self._subscription.close(), "end of responder")
