"""Taking letters out of sight for good, once somebody keeps a copy."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from spile.adapters.dead_letters._browser import DeadLetterBrowser
from spile.adapters.dead_letters._letter import DeadLetter, LetterFilter
from spile.adapters.dead_letters._marks import mark_of, unmark
from spile.adapters.delivery._log_reader import LogReaderFactory
from spile.adapters.delivery._ports import RecordSender
from spile.adapters.delivery._records import OutgoingRecord
from spile.spi import PartitionKey

log = structlog.get_logger(__name__)

_CHUNK = 500

KeepLetters = Callable[[AsyncGenerator[DeadLetter]], Awaitable[int]]
"""Keeps letters for good and returns how many; raises when it is not sure that it did."""

FreeStorage = Callable[[Mapping[PartitionKey, int]], Awaitable[None]]
"""Deletes the records before an offset; `KafkaAdmin.delete_records` is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """
    What a purge did.

    Attributes:
        letters: How many were kept elsewhere and marked.
        freed: Offset below which a partition's storage was freed, where that moved.
    """

    letters: int
    freed: Mapping[PartitionKey, int]


def _now() -> datetime:
    return datetime.now(UTC)


class Purger:
    """
    Removes letters: kept elsewhere first, then marked as done, then freed where that can be.

    Kafka deletes a prefix of a partition only, so storage is freed up to the first letter that is
    not settled; one behind it stays in the log, marked, until retention or a later purge takes it.

    Args:
        readers: Makes readers of queues.
        sender: Writes marks.
        free: Deletes prefixes; None frees nothing.
        clock: Aware time.
    """

    def __init__(
        self,
        readers: LogReaderFactory,
        sender: RecordSender,
        free: FreeStorage | None = None,
        *,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._readers = readers
        self._sender = sender
        self._free = free
        self._clock = clock

    async def run(
        self,
        queue: str,
        keep: KeepLetters,
        which: LetterFilter | None = None,
        *,
        operator: str = "",
        reason: str = "",
    ) -> Purged:
        """
        Purge the letters that stand in a queue now.

        Args:
            queue: Full name that ends in `.dlq`.
            keep: Gets all of them before the first is marked.
            which: All letters when None.
            operator: Who; noted in the marks.
            reason: Why; noted likewise.

        Raises:
            InvalidTopicError: The name does not end in `.dlq`.
            UnknownTopicError: There is no such queue, or no topic for its marks.
            RetriableError: The broker is away; run it again.
        """
        async with DeadLetterBrowser(self._readers, queue) as browser:
            state = await browser.look()
            async with aclosing(browser.letters(state, which)) as letters:
                kept = await keep(letters)
            marks: list[OutgoingRecord] = []
            async for letter in browser.letters(state, which):
                now = self._clock()
                marks.append(mark_of(letter, "purged", now=now, by=operator, reason=reason))
                if len(marks) == _CHUNK:
                    await self._write(marks)
                    marks = []
            await self._write(marks)
            freed = await self._free_prefix(browser)
        log.info("dead letters purged", queue=queue, letters=kept, operator=operator, reason=reason)
        return Purged(letters=kept, freed=freed)

    async def _free_prefix(self, browser: DeadLetterBrowser) -> Mapping[PartitionKey, int]:
        if self._free is None:
            return {}
        state = await browser.look()
        first = dict(state.ends)
        async for letter in browser.letters(state):
            key = letter.record.topic, letter.record.partition
            first[key] = min(first[key], letter.record.offset)
        freed = {key: at for key, at in first.items() if at > state.beginnings[key]}
        if freed:
            await self._free(freed)
        await self._drop_marks(browser)
        return freed

    async def _drop_marks(self, browser: DeadLetterBrowser) -> None:
        """Let compaction take the marks of letters that are gone."""
        state = await browser.look()
        numbered = {number: at for (_, number), at in state.beginnings.items()}
        gone = [place for place in state.marks if _is_below(place, numbered)]
        for start in range(0, len(gone), _CHUNK):
            chunk = gone[start : start + _CHUNK]
            await self._write([unmark(browser.queue, place) for place in chunk])

    async def _write(self, records: Sequence[OutgoingRecord]) -> None:
        if records:
            receipt = await self._sender.send(records)
            for failure in receipt.failures.values():
                raise failure


def _is_below(place: str, first: Mapping[int, int]) -> bool:
    number, _, offset = place.partition(":")
    if not (number.isdigit() and offset.isdigit()):
        return False
    return int(offset) < first.get(int(number), 0)
