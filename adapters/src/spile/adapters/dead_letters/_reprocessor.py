"""Sending dead letters back to the group that failed, and to no other."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from spile.adapters.dead_letters._browser import DeadLetterBrowser, QueueState
from spile.adapters.dead_letters._letter import DeadLetter
from spile.adapters.dead_letters._marks import is_settled
from spile.adapters.dead_letters._moving import Moving, Reprocessed, ReprocessWish, RetryTopicOf
from spile.adapters.delivery._backoff import Backoff
from spile.adapters.delivery._log_reader import LogReaderFactory
from spile.adapters.delivery._ports import RecordSender
from spile.adapters.delivery._records import OutgoingRecord
from spile.adapters.delivery._transactions import TransactionsFactory
from spile.spi import ConfigurationError, MessageTooLargeError, RejectedError, RetriableError

log = structlog.get_logger(__name__)

_REDOS = 5


def _now() -> datetime:
    return datetime.now(UTC)


class Reprocessor:
    """
    Writes dead letters to the retry topic of the group that failed.

    That topic is taken from the catalogue, by the name of the queue and the group of the letter; no
    header names a topic. A letter of a group that the catalogue does not know stays. Key, value and
    headers go byte for byte, with the replay count raised.

    At least once by default: the retry record is acknowledged before the letter is marked as done,
    so that a crash between the two writes it twice, and its handler must be idempotent.
    Transactional: both or neither, and whoever starts last fences the others of the same queue.

    Args:
        readers: Makes readers of queues.
        sender: Writes retry records and marks.
        retry_topic: Knows the retry topics of groups.
        transactions: Makes transactions, for `transactional` alone.
        backoff: Waits before a transaction that failed is done anew.
        clock: Aware time.
    """

    def __init__(
        self,
        readers: LogReaderFactory,
        sender: RecordSender,
        retry_topic: RetryTopicOf,
        *,
        transactions: TransactionsFactory | None = None,
        backoff: Backoff | None = None,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._readers = readers
        self._sender = sender
        self._retry_topic = retry_topic
        self._transactions = transactions
        self._backoff = backoff or Backoff(initial_s=0.2, max_s=5.0)
        self._clock = clock

    async def run(
        self,
        queue: str,
        wish: ReprocessWish,
        *,
        told: Callable[[Reprocessed], None] | None = None,
    ) -> Reprocessed:
        """
        Reprocess the letters that stand in a queue now; what comes later is left.

        Args:
            queue: Full name that ends in `.dlq`.
            wish: What, and how.
            told: Hears of the progress.

        Raises:
            InvalidTopicError: The name does not end in `.dlq`.
            UnknownTopicError: There is no such queue, or no topic for its marks.
            FencedError: Transactional, and somebody else has begun to reprocess this queue.
            RetriableError: The broker is away; run it again, nothing is lost.
        """
        run = Moving(self._retry_topic, self._sender, wish, self._clock, told)
        async with DeadLetterBrowser(self._readers, queue) as browser:
            if wish.transactional and not wish.dry_run:
                await self._transactional(browser, run)
            else:
                state = await browser.look(need_marks=not wish.dry_run)
                await run.over(browser, state)
        log.info(
            "dead letters reprocessed",
            queue=queue,
            processed=run.tally.processed,
            succeeded=run.tally.succeeded,
            failed=run.tally.failed,
            dry_run=wish.dry_run,
            operator=wish.operator,
            reason=wish.reason,
        )
        return run.tally

    async def send(
        self, letter: DeadLetter, copy: OutgoingRecord, wish: ReprocessWish
    ) -> Reprocessed:
        """
        Reprocess another value or other headers in place of one letter, as its first replay.

        A letter that somebody settled since it was read stays as it is.

        Args:
            letter: Marked as edited once the copy is acknowledged; it stays in the queue's log.
            copy: Key, value and headers to write; the topic does not matter.
            wish: On whose behalf; `dry_run` counts.

        Raises:
            UnknownTopicError: There is no retry topic on the cluster, or none for marks.
            RetriableError: The broker is away.
        """
        run = Moving(self._retry_topic, self._sender, wish, self._clock)
        async with DeadLetterBrowser(self._readers, letter.record.topic) as browser:
            state = await browser.look(need_marks=not wish.dry_run)
            if is_settled(letter, state.marks):
                done = state.marks[letter.place]
                run.tally.stays(f"it was settled meanwhile: {done.what} at {done.at}")
                return run.tally
            fresh = dataclasses.replace(letter, replays=0)
            move = await run.move(browser, fresh, what="edited", copy=copy)
            if move is not None:
                await run.write([move])
        return run.tally

    async def _transactional(self, browser: DeadLetterBrowser, run: Moving) -> None:
        if self._transactions is None:
            raise ConfigurationError("this Reprocessor was made without transactions")
        transactions = self._transactions(f"spile-{browser.queue}")
        first: QueueState | None = None
        failures = 0
        try:
            while True:
                try:
                    await transactions.claim()
                    # Only now is it settled what an earlier owner did.
                    state = await browser.look()
                    first = first or state
                    state = dataclasses.replace(state, ends=first.ends)
                    await run.over(browser, state, transactions)
                except (RejectedError, MessageTooLargeError) as exc:
                    if not run.refuse(exc):
                        raise
                except RetriableError as exc:
                    failures += 1
                    if failures > _REDOS:
                        raise
                    log.warning("transaction is done anew", reason=str(exc), attempt=failures)
                    await asyncio.sleep(self._backoff.delay(failures))
                else:
                    return
        finally:
            await transactions.close()
