"""Moving dead letters to retry topics, chunk by chunk."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from spile.adapters.dead_letters._browser import DeadLetterBrowser, QueueState
from spile.adapters.dead_letters._facts import DLQ_SUFFIX, REPLAY_COUNT
from spile.adapters.dead_letters._letter import DeadLetter, LetterFilter
from spile.adapters.dead_letters._marks import Outcome, is_settled, mark_of
from spile.adapters.dead_letters._retry_facts import MAX_REPLAYS, RetryFacts, retry_headers
from spile.adapters.delivery._ports import RecordSender
from spile.adapters.delivery._records import OutgoingRecord
from spile.adapters.delivery._transactions import RecordTransactions
from spile.spi import SpileError, UnknownTopicError

_CHUNK = 50
_CHUNK_BYTES = 8_000_000


class RetryTopicOf(Protocol):
    """Knows where failed events of a group wait; `Catalogue.retry_topic` is one."""

    def __call__(self, topic: str, group: str, /) -> str | None:
        """Return the group's first retry topic beside a topic; None when it has none there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReprocessWish:
    """
    What to reprocess, and on whose behalf.

    Attributes:
        which: All letters when None.
        limit: Most letters, the first ones; None for no limit.
        rate: Letters per second; None for as fast as they are acknowledged.
        dry_run: Say what would be done, and write nothing.
        transactional: Write retry record and mark in one transaction.
        max_replays: Letters that were reprocessed so often stay.
        operator: Who; noted in the marks.
        reason: Why; noted likewise.
    """

    which: LetterFilter | None = None
    limit: int | None = None
    rate: float | None = None
    dry_run: bool = False
    transactional: bool = False
    max_replays: int = MAX_REPLAYS
    operator: str = ""
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class Reprocessed:
    """
    What became of the letters of one run.

    Attributes:
        processed: Letters that were looked at.
        succeeded: Those that are acknowledged in the retry topic and marked.
        failed: Those that stay where they were.
        reasons: Why letters stay, and how many.
        targets: Retry topics, and how many letters went there.
    """

    processed: int = 0
    succeeded: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])
    targets: Counter[str] = field(default_factory=Counter[str])

    def stays(self, why: str) -> None:
        """Count a letter that stays."""
        self.processed += 1
        self.failed += 1
        self.reasons[why] += 1

    def goes(self, topic: str) -> None:
        """Count a letter that went to a retry topic."""
        self.processed += 1
        self.succeeded += 1
        self.targets[topic] += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A letter, the record that it becomes, and the record that marks it."""

    letter: DeadLetter
    retry: OutgoingRecord
    mark: OutgoingRecord


class Moving:
    """One run over a queue; may be begun anew after a transaction whose fate is open."""

    def __init__(
        self,
        retry_topic: RetryTopicOf,
        sender: RecordSender,
        wish: ReprocessWish,
        clock: Callable[[], datetime],
        told: Callable[[Reprocessed], None] | None = None,
    ) -> None:
        self.tally = Reprocessed()
        self._retry_topic = retry_topic
        self._sender = sender
        self._wish = wish
        self._clock = clock
        self._told = told
        self._counts: dict[str, int] = {}
        self._refused: set[str] = set()
        self._open: list[Move] = []
        self._one_by_one = False
        self._started = asyncio.get_running_loop().time()

    async def over(
        self,
        browser: DeadLetterBrowser,
        state: QueueState,
        transactions: RecordTransactions | None = None,
    ) -> None:
        """Move the letters of a state."""
        for move in self._open:
            if is_settled(move.letter, state.marks):
                self.tally.goes(move.retry.topic)
        self._open = []
        async with aclosing(self._chunks(browser, state)) as chunks:
            async for moves in chunks:
                self._open = moves
                if transactions is None:
                    await self.write(moves)
                else:
                    await transactions.write([each for m in moves for each in (m.retry, m.mark)])
                    for move in moves:
                        self.tally.goes(move.retry.topic)
                self._open = []
                self._tell()
                await self._pace()
        self._tell()

    def refuse(self, error: SpileError) -> bool:
        """
        Take the last transaction for refused: its records go one by one, a sole one stays.

        Returns:
            False when there was none, so that the error is about something else.
        """
        if not self._open:
            return False
        self._one_by_one = True
        if len(self._open) == 1:
            self._refused.add(self._open[0].letter.place)
            self.tally.stays(str(error))
        self._open = []
        return True

    async def move(
        self,
        browser: DeadLetterBrowser,
        letter: DeadLetter,
        *,
        what: Outcome = "reprocessed",
        copy: OutgoingRecord | None = None,
    ) -> Move | None:
        """Return what moves a letter; None, and counted, when it must stay."""
        if copy is None and letter.is_without_value:
            self.tally.stays("its value is too large for a retry topic; give it another by edit")
            return None
        topic = await self._target(browser, letter)
        if topic is None:
            return None
        now, wish = self._clock(), self._wish
        count = self._counts[topic]
        place = letter.origin.partition
        facts = RetryFacts(
            role="reprocess",
            partition=place,
            offset=letter.origin.offset,
            timestamp=letter.origin.timestamp,
            attempts=0,
            due=int(now.timestamp() * 1000),
            first_failure=letter.origin.first_failure or now,
            error_type=letter.error_type or "",
        )
        headers = (letter.headers if copy is None else list(copy.headers)) + retry_headers(facts)
        headers.append((REPLAY_COUNT, str(letter.replays + 1).encode()))
        source = letter.record if copy is None else copy
        return Move(
            letter=letter,
            retry=OutgoingRecord(
                topic, source.key, source.value, headers, place if 0 <= place < count else None
            ),
            mark=mark_of(letter, what, now=now, by=wish.operator, reason=wish.reason, to=topic),
        )

    async def write(self, moves: Sequence[Move]) -> None:
        """
        Write retry records, then the marks of those that are acknowledged.

        Raises:
            RetriableError: Some are not known to be written; they are not marked.
        """
        if self._wish.dry_run:
            for move in moves:
                self.tally.goes(move.retry.topic)
            return
        failures = await self._send([move.retry for move in moves])
        done = [move for index, move in enumerate(moves) if index not in failures]
        unmarked = await self._send([move.mark for move in done])
        for index, move in enumerate(done):
            if index not in unmarked:
                self.tally.goes(move.retry.topic)
        problems = [*failures.values(), *unmarked.values()]
        for problem in problems:
            if not problem.retriable:
                self.tally.stays(str(problem))
        for problem in problems:
            if problem.retriable:
                raise problem

    async def _send(self, records: Sequence[OutgoingRecord]) -> dict[int, SpileError]:
        if not records:
            return {}
        receipt = await self._sender.send(records, settled=_unheard)
        return receipt.failures

    async def _chunks(
        self, browser: DeadLetterBrowser, state: QueueState
    ) -> AsyncGenerator[list[Move]]:
        moves: list[Move] = []
        size = 0
        async with aclosing(browser.letters(state, self._wish.which)) as letters:
            async for letter in letters:
                if self._is_enough(len(moves)):
                    break
                if letter.place in self._refused:
                    continue
                move = await self.move(browser, letter)
                if move is None:
                    self._refused.add(letter.place)
                    continue
                moves.append(move)
                size += len(move.retry.value or b"")
                if len(moves) >= self._most or size >= _CHUNK_BYTES:
                    yield moves
                    moves, size = [], 0
        if moves:
            yield moves

    def _is_enough(self, more: int) -> bool:
        limit = self._wish.limit
        return limit is not None and self.tally.succeeded + more >= limit

    @property
    def _most(self) -> int:
        """Letters per chunk: few when they go slowly, so that the pace is even."""
        if self._one_by_one:
            return 1
        rate = self._wish.rate
        return _CHUNK if rate is None else max(1, min(_CHUNK, int(rate / 5)))

    async def _target(self, browser: DeadLetterBrowser, letter: DeadLetter) -> str | None:
        """Return the retry topic of a letter; None, and counted, when it must stay."""
        if letter.replays >= self._wish.max_replays:
            self.tally.stays(
                f"reprocessed {letter.replays} times already, at most {self._wish.max_replays}"
            )
            return None
        if letter.group is None:
            self.tally.stays("its headers name no group that failed")
            return None
        topic = letter.record.topic.removesuffix(DLQ_SUFFIX)
        target = self._retry_topic(topic, letter.group)
        if target is None:
            self.tally.stays(f"the catalogue has no retry topic of group {letter.group[:80]!r}")
            return None
        if target not in self._counts:
            try:
                self._counts[target] = await browser.partition_count(target)
            except UnknownTopicError:
                self.tally.stays(f"there is no topic {target}; `spile topics apply` creates it")
                return None
        return target

    def _tell(self) -> None:
        if self._told is not None:
            self._told(self.tally)

    async def _pace(self) -> None:
        if self._wish.rate is not None:
            due = self._started + self.tally.succeeded / self._wish.rate
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))


def _unheard(indexes: Sequence[int], error: SpileError | None) -> None:
    del indexes, error
