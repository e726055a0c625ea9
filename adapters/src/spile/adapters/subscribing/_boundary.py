"""The boundary between the engine and a message handler, where any error may come up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import msgspec
import structlog

from spile.adapters.dead_letters._queue import DeadLetterQueue
from spile.adapters.delivery._message import ReceivedMessage
from spile.adapters.subscribing._burial import Burier
from spile.adapters.subscribing._guard import FailureGuard
from spile.adapters.subscribing._holding import Holding
from spile.adapters.subscribing._observer import SubscriptionObserver
from spile.adapters.subscribing._retries import Retries
from spile.spi import (
    ClosedError,
    MessageHandler,
    PermanentError,
    ProtocolRecord,
    RegistryUnavailableError,
    SchemaError,
)

log = structlog.get_logger(__name__)

Spent = Callable[[Exception, int, datetime], Awaitable[None]]
"""Parks a record whose retries in place are spent: error, attempts so far, first failure."""


class Case(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """
    One record to settle; a struct, since one is made per record.

    Attributes:
        record: As it stood on its topic.
        holding: The partition that it belongs to.
        confirm: Notes that it is done; False when others own the partition.
        limit: Retries in place.
        spent: Where it goes then; None means the dead letter queue.
        attempts: How often it was tried before.
        first_failure: When it failed first, if it did.
        replays: How often it was reprocessed; None when its headers tell.
    """

    record: ProtocolRecord
    holding: Holding
    confirm: Callable[[], bool]
    limit: int
    spent: Spent | None = None
    attempts: int = 0
    first_failure: datetime | None = None
    replays: int | None = None


class _Delivery:
    """One record from its first attempt until it is settled."""

    __slots__ = ("acked", "case")

    def __init__(self, case: Case) -> None:
        self.case = case
        self.acked = False

    def ack(self) -> None:
        """Settle it; raises `ClosedError` when the partition is gone."""
        if self.acked:
            return
        record = self.case.record
        if not self.case.confirm():
            raise ClosedError(
                f"offset {record.offset} of {record.topic}-{record.partition} was "
                "acknowledged too late: the partition is no longer held; it will be redelivered"
            )
        self.acked = True
        self.case.holding.stir.set()

    async def rest(self, seconds: float) -> bool:
        """Wait before the next attempt; False when there must be none."""
        holding = self.case.holding
        if not holding.ending:
            holding.stir.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await holding.stir.wait()
        return not (holding.ending or self.acked)


class MessageBoundary:
    """
    Calls the handler for one message at a time and settles it: handled, parked, or buried.

    A handler that raises `RegistryUnavailableError` is called again for ever.

    Args:
        handler: What the subscriber gave.
        dead_letters: Where messages go whose retries are spent; without it their error is raised.
        group_id: Consumer group.
        retries: Waits between attempts.
        manual_ack: Whether returning without `ack()` means redelivery.
        observer: Hears what happens.
        guard: Ends it all when too much fails.
    """

    def __init__(
        self,
        handler: MessageHandler,
        *,
        dead_letters: DeadLetterQueue | None,
        group_id: str,
        retries: Retries,
        manual_ack: bool,
        observer: SubscriptionObserver,
        guard: FailureGuard | None = None,
    ) -> None:
        self._handler = handler
        self._burier = Burier(dead_letters, group_id, retries.patience, observer)
        self._backoff = retries.backoff
        self._patience = retries.patience
        self._manual_ack = manual_ack
        self._observer = observer
        self._guard = guard

    async def settle(self, case: Case) -> bool:
        """
        Handle one record to its end.

        Returns:
            Whether it is acknowledged or parked; False when the partition or the subscription ended
            first.

        Raises:
            Exception: The handler's error, when there is no dead letter queue.
            PermanentError: The dead letter queue cannot take the record.
            TooManyFailuresError: The guard stops the subscription; nothing was written.
        """
        delivery = _Delivery(case)
        message = ReceivedMessage(case.record, delivery.ack)
        failures = unacknowledged = away = 0
        first_failure = case.first_failure
        while True:
            error = await self._call(message, case.holding)
            if delivery.acked or (error is None and not self._manual_ack):
                if self._guard is not None:
                    self._guard.handled()
                return _acknowledge(delivery)
            if error is None:
                unacknowledged += 1
                wait_s = self._backoff.delay(unacknowledged)
            elif isinstance(error, RegistryUnavailableError):
                # Nothing is known about the message: it waits as long as the registry is away.
                away += 1
                self._report(case, error, away)
                wait_s = self._patience.delay(away)
            else:
                failures += 1
                first_failure = first_failure or datetime.now(UTC)
                self._report(case, error, case.attempts + failures)
                if failures > case.limit or isinstance(error, PermanentError | SchemaError):
                    return await self._give_up(delivery, error, failures, first_failure)
                wait_s = self._backoff.delay(failures)
            if not await delivery.rest(wait_s):
                return delivery.acked
            self._observer.retried(case.record.topic, 1)

    async def bury(self, case: Case, error: Exception) -> bool:
        """Keep a record in the dead letter queue that is not handed to the handler any more."""
        return await self._bury(_Delivery(case), error, case.attempts, case.first_failure)

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
            return cancelled_by_itself(exc)
        except Exception as exc:  # noqa: BLE001 - the handler boundary: ends in retry or burial
            return exc
        finally:
            holding.called_at = None
        self._observer.handled(message.topic, 1, loop.time() - started)
        return None

    async def _give_up(
        self, delivery: _Delivery, error: Exception, failures: int, first_failure: datetime
    ) -> bool:
        """Park the record or bury it, unless too much fails."""
        case = delivery.case
        if self._guard is not None:
            self._guard.failed(error)
        attempts = case.attempts + failures
        if case.spent is None or isinstance(error, PermanentError | SchemaError):
            return await self._bury(delivery, error, attempts, first_failure)
        await case.spent(error, attempts, first_failure)
        self._observer.retried(case.record.topic, 1)
        return True

    async def _bury(
        self, delivery: _Delivery, error: Exception, attempts: int, first: datetime | None
    ) -> bool:
        case = delivery.case
        buried = await self._burier.bury(
            case.record,
            error,
            attempts=attempts,
            first_failure=first,
            replays=case.replays,
            rest=delivery.rest,
        )
        return _acknowledge(delivery) if buried else delivery.acked

    @staticmethod
    def _report(case: Case, error: Exception, attempt: int) -> None:
        log.warning(
            "handler failed",
            topic=case.record.topic,
            partition=case.record.partition,
            offset=case.record.offset,
            attempt=attempt,
            error_type=type(error).__name__,
        )


def _acknowledge(delivery: _Delivery) -> bool:
    try:
        delivery.ack()
    except ClosedError as exc:
        log.info("result dropped", reason=str(exc))
    return delivery.acked


def cancelled_by_itself(cause: BaseException) -> Exception:
    """Return the error that stands for a CancelledError which nobody asked for."""
    error = RuntimeError("the handler raised CancelledError although nobody cancelled it")
    error.__cause__ = cause
    return error
