"""Writing to the dead letter queue, and to retry topics, until it is done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import structlog

from spile.adapters.dead_letters._queue import DeadLetterQueue
from spile.adapters.delivery._backoff import Backoff
from spile.adapters.delivery._ports import RecordSender
from spile.adapters.delivery._records import OutgoingRecord
from spile.adapters.subscribing._observer import SubscriptionObserver
from spile.spi import ProtocolRecord, RetriableError

log = structlog.get_logger(__name__)

Rest = Callable[[float], Awaitable[bool]]
"""Waits some seconds; returns False when there must be no other attempt."""


class Burier:
    """
    Puts records into the dead letter queue, for ever while it is only away.

    Args:
        dead_letters: The queue; without it the record's error is raised.
        group_id: Consumer group that failed.
        backoff: Waits between the attempts to write.
        observer: Hears what was written.
    """

    def __init__(
        self,
        dead_letters: DeadLetterQueue | None,
        group_id: str,
        backoff: Backoff,
        observer: SubscriptionObserver,
    ) -> None:
        self._dead_letters = dead_letters
        self._group_id = group_id
        self._backoff = backoff
        self._observer = observer

    async def bury(
        self,
        record: ProtocolRecord,
        error: Exception,
        *,
        attempts: int,
        first_failure: datetime | None,
        replays: int | None,
        rest: Rest,
    ) -> bool:
        """
        Write one record to the queue of its topic.

        Returns:
            Whether it stands there; False when `rest` said that there must be no other attempt.

        Raises:
            Exception: The record's own error, when there is no queue.
            PermanentError: The queue cannot take the record.
        """
        if self._dead_letters is None:
            raise error
        tries = 0
        while True:
            try:
                await self._dead_letters.keep(
                    record,
                    error,
                    group=self._group_id,
                    attempts=attempts,
                    first_failure=first_failure,
                    replays=replays,
                )
            except RetriableError as exc:
                tries += 1
                log.warning(
                    "dead letter queue is away, message stays in hand",
                    topic=record.topic,
                    tries=tries,
                    error=str(exc),
                )
                if not await rest(self._backoff.delay(tries)):
                    return False
            else:
                self._observer.dead_lettered(record.topic)
                return True


async def write_all(
    sender: RecordSender, records: Sequence[OutgoingRecord], backoff: Backoff, rest: Rest
) -> bool:
    """
    Write records until each is acknowledged.

    Returns:
        Whether all are; False when `rest` said that there must be no other attempt.

    Raises:
        PermanentError: One is refused.
    """
    tries, left = 0, list(records)
    while left:
        failures = await _failures(sender, left)
        for failure in failures.values():
            if not isinstance(failure, RetriableError):
                raise failure
        left = [left[index] for index in sorted(failures)]
        if left:
            tries += 1
            reason = str(next(iter(failures.values())))
            log.warning("retry topic is away", topic=left[0].topic, tries=tries, error=reason)
            if not await rest(backoff.delay(tries)):
                return False
    return True


async def _failures(
    sender: RecordSender, records: Sequence[OutgoingRecord]
) -> dict[int, Exception]:
    try:
        receipt = await sender.send(records)
    except RetriableError as exc:
        return dict.fromkeys(range(len(records)), exc)
    return dict(receipt.failures)
