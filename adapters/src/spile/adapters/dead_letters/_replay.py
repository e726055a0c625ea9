"""Handling what stands in a dead letter queue by a handler of the caller's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

from spile.adapters.dead_letters._browser import DeadLetterBrowser
from spile.adapters.dead_letters._letter import DeadLetter
from spile.adapters.dead_letters._marks import Outcome, mark_of
from spile.adapters.delivery._backoff import Backoff
from spile.adapters.delivery._message import ReceivedMessage
from spile.adapters.delivery._ports import RecordSender
from spile.adapters.delivery._records import OutgoingRecord
from spile.spi import ProtocolEventMessage, RetriableError


class NotDoneError(Exception):
    """Raised for a handler that returned False; its name goes into the headers."""


class HandlerRun:
    """
    One run of a handler over a queue.

    Args:
        sender: Writes marks and what failed again.
        handler: Returns whether a message is done.
        again: Makes the record that puts a letter at the end of its queue, one replay older.
        max_retries: Attempts per message.
        backoff: Waits between them.
        clock: Aware time.
    """

    def __init__(
        self,
        sender: RecordSender,
        handler: Callable[[ProtocolEventMessage], Awaitable[bool]],
        again: Callable[[DeadLetter, BaseException, int], OutgoingRecord],
        *,
        max_retries: int,
        backoff: Backoff,
        clock: Callable[[], datetime],
    ) -> None:
        self._sender = sender
        self._handler = handler
        self._again = again
        self._attempts = max(1, max_retries)
        self._backoff = backoff
        self._clock = clock

    async def over(self, browser: DeadLetterBrowser) -> dict[str, int]:
        """
        Handle what is not settled now and return the counts.

        Raises:
            RetriableError: A broker is away, or what the handler needs is; run it again.
        """
        counts = {"processed": 0, "succeeded": 0, "failed": 0}
        async for letter in browser.letters(await browser.look()):
            if letter.is_without_value:  # a handler would take it for a tombstone
                counts["processed"] += 1
                counts["failed"] += 1
                continue
            error = await self._handle(letter)
            if isinstance(error, RetriableError):
                raise error  # says nothing about the letter, which stays as it is
            counts["processed"] += 1
            counts["succeeded" if error is None else "failed"] += 1
            if error is not None:
                await self._write(self._again(letter, error, self._attempts))
            what: Outcome = "handled" if error is None else "put back"
            await self._write(mark_of(letter, what, now=self._clock()))
        return counts

    async def _handle(self, letter: DeadLetter) -> Exception | None:
        error: Exception | None = None
        for attempt in range(1, self._attempts + 1):
            error = await self._try(letter)
            if error is None or attempt == self._attempts:
                break
            await asyncio.sleep(self._backoff.delay(attempt))
        return error

    async def _try(self, letter: DeadLetter) -> Exception | None:
        try:
            if await self._handler(ReceivedMessage(letter.record)):
                return None
        except Exception as exc:  # noqa: BLE001 - a handler boundary: ends in retry or put back
            return exc
        return NotDoneError("the handler returned False")

    async def _write(self, record: OutgoingRecord) -> None:
        receipt = await self._sender.send([record])
        for failure in receipt.failures.values():
            raise failure
