"""Looking into a dead letter queue: what stands there and is not settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from spile.adapters.dead_letters._facts import DLQ_SUFFIX
from spile.adapters.dead_letters._letter import DeadLetter, LetterFilter
from spile.adapters.dead_letters._marks import Mark, done_topic, is_settled, read_marks
from spile.adapters.delivery._log_reader import LogReader, LogReaderFactory
from spile.spi import (
    DeliveryTimeoutError,
    InvalidTopicError,
    PartitionKey,
    ProtocolRecord,
    UnknownTopicError,
)

_POLL_S = 0.5
_MAX_RECORDS = 200
_SILENCE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """
    A queue at one moment.

    Attributes:
        beginnings: First offset that is kept, by partition.
        ends: Offset after the last letter, by partition.
        marks: What became of letters, by their place.
    """

    beginnings: Mapping[PartitionKey, int]
    ends: Mapping[PartitionKey, int]
    marks: Mapping[str, Mark]


class DeadLetterBrowser:
    """
    Reads a dead letter queue without changing it; an async context manager, for one task.

    Args:
        readers: Makes the reader.
        queue: Full name that ends in `.dlq`.

    Raises:
        InvalidTopicError: The name does not end in `.dlq`.
    """

    def __init__(self, readers: LogReaderFactory, queue: str) -> None:
        if not queue.endswith(DLQ_SUFFIX):
            raise InvalidTopicError(
                f"{queue!r} is no dead letter queue; its name must end in {DLQ_SUFFIX!r}",
                topic=queue,
            )
        self._readers = readers
        self._queue = queue
        self._reader: LogReader | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._reader is not None:
            await self._reader.close()

    @property
    def queue(self) -> str:
        """Full name of the queue."""
        return self._queue

    async def look(self, *, need_marks: bool = True) -> QueueState:
        """
        Return how the queue stands now.

        Args:
            need_marks: Without it a missing topic of marks counts as an empty one.

        Raises:
            UnknownTopicError: There is no such queue, or no topic for its marks.
            RetriableError: No answer in time.
        """
        reader = self._open_reader()
        partitions = await reader.partitions([self._queue])
        ends = await reader.ends(partitions)
        beginnings = await reader.beginnings(partitions)
        marks: dict[str, Mark] = {}
        try:
            places = await reader.partitions([done_topic(self._queue)])
        except UnknownTopicError as exc:
            if need_marks:
                topic = done_topic(self._queue)
                raise UnknownTopicError(
                    f"there is no topic {topic} to mark settled letters in; `spile topics apply` "
                    "creates it",
                    topic=topic,
                ) from exc
        else:
            starts, stops = await reader.beginnings(places), await reader.ends(places)
            async for record in self._records(starts, stops):
                read_marks([record], marks)
        return QueueState(beginnings=beginnings, ends=ends, marks=marks)

    async def letters(
        self, state: QueueState, which: LetterFilter | None = None
    ) -> AsyncGenerator[DeadLetter]:
        """
        Yield the letters of a state that are not settled, in their order per partition.

        Args:
            state: As `look` returned it; what came later is left out.
            which: All of them when None.

        Raises:
            RejectedError: A letter of the state is gone by now (`OFFSET_OUT_OF_RANGE`).
            RetriableError: No answer in time.
        """
        async with aclosing(self.all_letters(state)) as letters:
            async for letter in letters:
                if not is_settled(letter, state.marks) and (which is None or which.matches(letter)):
                    yield letter

    async def all_letters(self, state: QueueState) -> AsyncGenerator[DeadLetter]:
        """Yield the letters of a state, settled or not; raises as `letters`."""
        async with aclosing(self._records(state.beginnings, state.ends)) as records:
            async for record in records:
                yield DeadLetter.of(record)

    async def partition_count(self, topic: str) -> int:
        """
        Return how many partitions a topic has.

        Raises:
            UnknownTopicError: There is no such topic.
            RetriableError: No answer in time.
        """
        return len(await self._open_reader().partitions([topic]))

    async def _records(
        self, starts: Mapping[PartitionKey, int], ends: Mapping[PartitionKey, int]
    ) -> AsyncGenerator[ProtocolRecord]:
        reader = self._open_reader()
        left = {key: start for key, start in starts.items() if start < ends[key]}
        if left:
            await reader.open(left)
        loop = asyncio.get_running_loop()
        moved = loop.time()
        while left:
            polled = await reader.poll(timeout_s=_POLL_S, max_records=_MAX_RECORDS)
            for key, records in polled.items():
                for record in records:
                    if record.offset < ends[key]:
                        yield record
            positions = reader.positions()
            reached = {key: positions[key] for key in left}
            if reached != left:
                moved = loop.time()
            elif not polled and loop.time() - moved > _SILENCE_S:
                names = ", ".join(f"{topic}[{number}]" for topic, number in left)
                raise DeliveryTimeoutError(f"{names} gave nothing for {_SILENCE_S:.0f} s")
            left = {key: at for key, at in reached.items() if at < ends[key]}

    def _open_reader(self) -> LogReader:
        if self._reader is None:
            self._reader = self._readers()
        return self._reader
