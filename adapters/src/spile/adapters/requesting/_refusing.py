"""What is done with requests that have no answer."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import structlog

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.delivery import Backoff
from spile.adapters.requesting._answering import Answering
from spile.adapters.requesting._failures import one_line
from spile.spi import ProtocolRecord, RequestFailedError, RetriableError, SpileError

log = structlog.get_logger(__name__)


class Refusing:
    """
    Keeps requests as dead letters and tells their senders.

    Args:
        answering: Sends the failures.
        dead_letters: Without it nothing is kept.
        group: Named in dead letters.
        backoff: Waits while the dead letter queue is away.
    """

    def __init__(
        self,
        answering: Answering[Any, Any],
        *,
        dead_letters: DeadLetterQueue | None,
        group: str,
        backoff: Backoff,
    ) -> None:
        self._answering = answering
        self._dead_letters = dead_letters
        self._group = group
        self._backoff = backoff

    async def refuse(self, record: ProtocolRecord, error: Exception) -> None:
        """Keep what is no request, and tell its sender where that can be done."""
        reason = one_line(error)
        log.warning(
            "no request",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error=reason,
        )
        await self.bury(record, error)
        headers = dict(record.headers)
        try:
            correlation_id = str(UUID(headers["correlation_id"].decode()))
            request_id = str(UUID(headers["message_id"].decode()))
        except (KeyError, ValueError, AttributeError):
            return
        failure = self._answering.failure(RequestFailedError(reason, code="INVALID_REQUEST"))
        try:
            await self._answering.send(
                failure,
                correlation_id=correlation_id,
                request_id=request_id,
                until=asyncio.get_running_loop().time(),
            )
        except SpileError as exc:
            _report("refusal not told", record, one_line(exc))

    async def give_up(self, record: ProtocolRecord, error: SpileError) -> None:
        """Keep a request to which not even a failure can be sent."""
        _report("no answer can be sent", record, one_line(error))
        await self.bury(record, error)

    async def bury(self, record: ProtocolRecord, error: Exception) -> None:
        """Keep a request as a dead letter, for as long as the queue is away."""
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
                _report("dead letter not kept", record, one_line(exc))
                return
            else:
                return


def _report(event: str, record: ProtocolRecord, reason: str) -> None:
    log.error(
        event,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        error=reason,
    )
