"""Reads answer topics from the moment it is opened, for as long as its owner lives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from spile.adapters.delivery import Backoff, LogReader, LogReaderFactory
from spile.spi import PartitionKey, ProtocolRecord, RejectedError, RetriableError, SpileError

log = structlog.get_logger(__name__)

_POLL_S: Final = 1.0
_MAX_RECORDS: Final = 5000
_RECONNECT: Final = Backoff(initial_s=0.1, max_s=5.0)


class AnswerReader:
    """
    Reads all partitions of some topics, without a group, and goes on after every fault.

    What is written after `open` has returned is handed out, also when the connection was lost in
    between; only what the log has deleted in the meantime is not. New partitions are looked for
    every `look_every_s` seconds and read from their beginning.

    Args:
        open_reader: Makes the reader.
        topics: Full names.
        on_records: Called with what came.
        on_fault: Called with an error that a retry may not cure; reading goes on trying.
        look_every_s: Seconds between looks for new partitions, 10 by default.
    """

    def __init__(
        self,
        open_reader: LogReaderFactory,
        topics: Sequence[str],
        *,
        on_records: Callable[[Sequence[ProtocolRecord]], None],
        on_fault: Callable[[SpileError], None],
        look_every_s: float = 10.0,
    ) -> None:
        self._reader: LogReader = open_reader()
        self._topics = tuple(topics)
        self._on_records = on_records
        self._on_fault = on_fault
        self._look_every_s = look_every_s
        self._look_at = 0.0
        self._next: dict[PartitionKey, int] = {}

    async def open(self) -> None:
        """
        Take the present ends of the topics as the place to begin.

        Raises:
            UnknownTopicError: There is no such topic.
            SpileError: As `LogReader`.
        """
        partitions = await self._reader.partitions(self._topics)
        self._next = dict(await self._reader.ends(partitions))
        await self._reader.open(self._next)
        self._look_at = time.monotonic() + self._look_every_s

    async def run(self) -> None:
        """Read for ever; ends by cancelling only."""
        failures = 0
        while True:
            try:
                if failures:
                    await self._reader.open(await self._places())
                elif time.monotonic() >= self._look_at:
                    await self._look()
                polled = await self._reader.poll(timeout_s=_POLL_S, max_records=_MAX_RECORDS)
            except SpileError as exc:
                failures += 1
                await self._recover(exc, failures)
                continue
            failures = 0
            for partition, records in polled.items():
                self._on_records(records)
                self._next[partition] = records[-1].offset + 1

    async def close(self) -> None:
        """Disconnect; never raises."""
        await self._reader.close()

    async def _look(self) -> None:
        self._look_at = time.monotonic() + self._look_every_s
        partitions = await self._reader.partitions(self._topics)
        # An answer may stand in a new partition before this look: it is read from its beginning.
        new = [partition for partition in partitions if partition not in self._next]
        if new:
            self._next |= await self._reader.beginnings(new)
            await self._reader.open(self._next)

    async def _places(self) -> Mapping[PartitionKey, int]:
        """Return where to go on: where it stood, or the beginning where the log lacks that."""
        partitions = await self._reader.partitions(self._topics)
        first = await self._reader.beginnings(partitions)
        last = await self._reader.ends(partitions)
        known = self._next
        self._next = {
            place: known[place] if start <= known.get(place, -1) <= last[place] else start
            for place, start in first.items()
        }
        return self._next

    async def _recover(self, error: SpileError, failures: int) -> None:
        delay_s = _RECONNECT.delay(failures)
        log.warning(
            "answers cannot be read",
            error=str(error),
            error_type=type(error).__name__,
            failures=failures,
            retry_in_s=round(delay_s, 2),
        )
        if not isinstance(error, RetriableError | RejectedError):
            self._on_fault(error)
        await asyncio.sleep(delay_s)
