"""The boundary between the engine and a message handler, where any error may come up."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from spile.adapters.dead_letters._queue import DeadLetterQueue
from spile.adapters.delivery._backoff import Backoff
from spile.adapters.delivery._message import ReceivedMessage
from spile.adapters.subscribing._holding import Committer, Holding
from spile.adapters.subscribing._observer import SubscriptionObserver
from spile.spi import (
    ClosedError,
    MessageHandler,
    PermanentError,
    ProtocolRecord,
    RegistryUnavailableError,
    RetriableError,
    SchemaError,
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """
    How often a failed message is tried again in place before it goes to the dead letter queue.

    Attributes:
        limit: Retries after the first attempt, 3 by default; 0 means none.
        backoff: Waits before them, 1, 2 and 4 s by default.
    """

    limit: int = 3
    backoff: Backoff = field(default_factory=Backoff)


class _Delivery:
    """One record from its first attempt until it is settled."""

    __slots__ = ("_committer", "acked", "holding", "record")

    def __init__(self, record: ProtocolRecord, holding: Holding, committer: Committer) -> None:
        self.record = record
        self.holding = holding
        self._committer = committer
        self.acked = False

    def ack(self) -> None:
        """Settle it; raises `ClosedError` when the partition is gone."""
        if self.acked:
            return
        if not self._committer.done(self.holding, self.record.offset + 1):
            raise ClosedError(
                f"offset {self.record.offset} of {self.record.topic}-{self.record.partition} was "
                "acknowledged too late: the partition is no longer held; it will be redelivered"
            )
        self.acked = True
        self.holding.stir.set()

    async def rest(self, seconds: float) -> bool:
        """Wait before the next attempt; False when there must be none."""
        if not self.holding.ending:
            self.holding.stir.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.holding.stir.wait()
        return not (self.holding.ending or self.acked)


class MessageBoundary:
    """
    Calls the handler for one message at a time and settles it: handled, tried again, or buried.

    A handler that raises `RegistryUnavailableError` is called again for ever.

    Args:
        handler: What the subscriber gave.
        committer: Hears which offsets are done.
        dead_letters: Where messages go whose retries are spent; without it their error is raised.
        group_id: Consumer group.
        retries: How often to try again.
        manual_ack: Whether returning without `ack()` means redelivery.
        observer: Hears what happens.
    """

    def __init__(
        self,
        handler: MessageHandler,
        *,
        committer: Committer,
        dead_letters: DeadLetterQueue | None,
        group_id: str,
        retries: Retries,
        manual_ack: bool,
        observer: SubscriptionObserver,
    ) -> None:
        self._handler = handler
        self._committer = committer
        self._dead_letters = dead_letters
        self._group_id = group_id
        self._retries = retries
        self._manual_ack = manual_ack
        self._observer = observer

    async def settle(self, record: ProtocolRecord, holding: Holding) -> bool:
        """
        Handle one record to its end.

        Returns:
            Whether it is acknowledged; False when the partition or the subscription ended first.

        Raises:
            Exception: The handler's error, when there is no dead letter queue.
            PermanentError: The dead letter queue cannot take the record.
        """
        delivery = _Delivery(record, holding, self._committer)
        message = ReceivedMessage(record, delivery.ack)
        failures = unacknowledged = away = 0
        first_failure: datetime | None = None
        while True:
            error = await self._call(message, holding)
            if delivery.acked or (error is None and not self._manual_ack):
                return _acknowledge(delivery)
            if error is None:
                unacknowledged += 1
                wait_s = self._retries.backoff.delay(unacknowledged)
            elif isinstance(error, RegistryUnavailableError):
                # Nothing is known about the message: it waits as long as the registry is away.
                away += 1
                self._report(delivery, error, away)
                wait_s = self._retries.backoff.delay(away)
            else:
                failures += 1
                first_failure = first_failure or datetime.now(UTC)
                self._report(delivery, error, failures)
                if failures > self._retries.limit or isinstance(
                    error, PermanentError | SchemaError
                ):
                    return await self._bury(delivery, error, failures, first_failure)
                wait_s = self._retries.backoff.delay(failures)
            if not await delivery.rest(wait_s):
                return delivery.acked
            self._observer.retried(record.topic, 1)

    async def _call(self, message: ReceivedMessage, holding: Holding) -> Exception | None:
        """Run the handler once and return what it raised."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        holding.called_at = started
        try:
            await self._handler(message)
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return _cancelled_by_itself(exc)
        except Exception as exc:  # noqa: BLE001 - the handler boundary: ends in retry or burial
            return exc
        finally:
            holding.called_at = None
        self._observer.handled(message.topic, 1, loop.time() - started)
        return None

    async def _bury(
        self, delivery: _Delivery, error: Exception, attempts: int, first_failure: datetime
    ) -> bool:
        """Write to the dead letter queue, for ever while it is only away; then acknowledge."""
        if self._dead_letters is None:
            raise error
        tries = 0
        while True:
            try:
                await self._dead_letters.keep(
                    delivery.record,
                    error,
                    group=self._group_id,
                    attempts=attempts,
                    first_failure=first_failure,
                )
            except RetriableError as exc:
                tries += 1
                log.warning(
                    "dead letter queue is away, message stays in hand",
                    topic=delivery.record.topic,
                    tries=tries,
                    error=str(exc),
                )
                if not await delivery.rest(self._retries.backoff.delay(tries)):
                    return delivery.acked
            else:
                self._observer.dead_lettered(delivery.record.topic)
                return _acknowledge(delivery)

    @staticmethod
    def _report(delivery: _Delivery, error: Exception, attempt: int) -> None:
        log.warning(
            "handler failed",
            topic=delivery.record.topic,
            partition=delivery.record.partition,
            offset=delivery.record.offset,
            attempt=attempt,
            error_type=type(error).__name__,
        )


def _acknowledge(delivery: _Delivery) -> bool:
    try:
        delivery.ack()
    except ClosedError as exc:
        log.info("result dropped", reason=str(exc))
    return delivery.acked


def _cancelled_by_itself(cause: BaseException) -> Exception:
    error = RuntimeError("the handler raised CancelledError although nobody cancelled it")
    error.__cause__ = cause
    return error
