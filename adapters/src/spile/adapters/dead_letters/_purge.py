"""Taking letters out of sight for good, once somebody keeps a copy."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from spile.adapters.dead_letters._browser import DeadLetterBrowser, QueueState
from spile.adapters.dead_letters._letter import DeadLetter, LetterFilter
from spile.adapters.dead_letters._marks import is_settled, mark_of, unmark
from spile.adapters.delivery._log_reader import LogReaderFactory
from spile.adapters.delivery._ports import RecordSender
from spile.adapters.delivery._records import OutgoingRecord
from spile.spi import PartitionKey

log = structlog.get_logger(__name__)

_CHUNK = 500

KeepLetters = Callable[[AsyncGenerator[DeadLetter]], Awaitable[object]]
"""Keeps letters for good; raises when it is not sure that it did."""

FreeStorage = Callable[[Mapping[PartitionKey, int]], Awaitable[None]]
"""Deletes the records before an offset; `KafkaAdmin.delete_records` is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """
    What a purge did.

    Attributes:
        letters: How many were marked.
        freed: Offset below which a partition's storage was freed, where that moved.
    """

    letters: int
    freed: Mapping[PartitionKey, int]


def _now() -> datetime:
    return datetime.now(UTC)


class Purger:
    """
    Removes letters: kept elsewhere first, then marked as done, then freed where that can be.

    Letters that were settled before and are freed with them are kept elsewhere too.

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
        ends: Mapping[PartitionKey, int] | None = None,
        operator: str = "",
        reason: str = "",
    ) -> Purged:
        """
        Purge letters that stand in a queue.

        Args:
            queue: Full name that ends in `.dlq`.
            keep: Gets all that will leave the log before the first of them is marked.
            which: All letters when None.
            ends: Offsets up to which letters are meant, as `QueueState.ends`; all that stand there
                now when None.
            operator: Who; noted in the marks.
            reason: Why; noted likewise.

        Raises:
            InvalidTopicError: The name does not end in `.dlq`.
            UnknownTopicError: There is no such queue, or no topic for its marks.
            RetriableError: The broker is away; run it again.
        """
        which = which or LetterFilter()
        async with DeadLetterBrowser(self._readers, queue) as browser:
            state = await browser.look()
            if ends is not None:
                meant = {key: min(end, ends.get(key, 0)) for key, end in state.ends.items()}
                state = replace(state, ends=meant)
            first = await self._first_kept(browser, state, which)
            async with aclosing(_leaving(browser, state, which, first)) as letters:
                await keep(letters)
            count = 0
            marks: list[OutgoingRecord] = []
            async for letter in browser.letters(state, which):
                now = self._clock()
                marks.append(mark_of(letter, "purged", now=now, by=operator, reason=reason))
                count += 1
                if len(marks) == _CHUNK:
                    await self._write(marks)
                    marks = []
            await self._write(marks)
            freed = {key: at for key, at in first.items() if at > state.beginnings[key]}
            if freed and self._free is not None:
                await self._free(freed)
                await self._drop_marks(browser)
        log.info(
            "dead letters purged", queue=queue, letters=count, operator=operator, reason=reason
        )
        return Purged(letters=count, freed=freed if self._free is not None else {})

    @staticmethod
    async def _first_kept(
        browser: DeadLetterBrowser, state: QueueState, which: LetterFilter
    ) -> dict[PartitionKey, int]:
        """Return the first offset of each partition that will still be wanted."""
        first = dict(state.ends)
        async for letter in browser.letters(state):
            if not which.matches(letter):
                key = letter.record.topic, letter.record.partition
                first[key] = min(first[key], letter.record.offset)
        return first

    async def _drop_marks(self, browser: DeadLetterBrowser) -> None:
        """Let compaction take the marks of letters that are gone."""
        state = await browser.look()
        numbered = {number: at for (_, number), at in state.beginnings.items()}
        gone = [item for item in state.marks.items() if _is_below(item[0], numbered)]
        for start in range(0, len(gone), _CHUNK):
            chunk = gone[start : start + _CHUNK]
            await self._write([unmark(browser.queue, *item) for item in chunk])

    async def _write(self, records: Sequence[OutgoingRecord]) -> None:
        if records:
            receipt = await self._sender.send(records)
            for failure in receipt.failures.values():
                raise failure


async def _leaving(
    browser: DeadLetterBrowser,
    state: QueueState,
    which: LetterFilter,
    first: Mapping[PartitionKey, int],
) -> AsyncGenerator[DeadLetter]:
    """Yield what a purge takes: what is meant, and settled letters that lie before it."""
    async for letter in browser.all_letters(state):
        record = letter.record
        if is_settled(letter, state.marks):
            is_kept_already = state.marks[letter.place].what == "purged"
            if record.offset < first[record.topic, record.partition] and not is_kept_already:
                yield letter
        elif which.matches(letter):
            yield letter


def _is_below(place: str, first: Mapping[int, int]) -> bool:
    number, _, offset = place.partition(":")
    if not (number.isdigit() and offset.isdigit()):
        return False
    return int(offset) < first.get(int(number), 0)
