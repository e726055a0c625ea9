"""Calls of a batch handler, and the search for the records that it fails with."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog

from spile.adapters.retrying import Entry, Key
from spile.adapters.subscribing._boundary import cancelled_by_itself
from spile.adapters.subscribing._lanes import Chunk
from spile.adapters.subscribing._observer import SubscriptionObserver
from spile.adapters.subscribing._retries import Retries
from spile.adapters.subscribing.tiers._yard import Yard
from spile.spi import (
    BatchFailedError,
    BatchHandler,
    PermanentError,
    ProtocolRecord,
    RegistryUnavailableError,
    RetriableError,
    SchemaError,
)

log = structlog.get_logger(__name__)

Parts: TypeAlias = Sequence[tuple[Yard, Chunk]]
"""Records by partition, as they were read."""


@dataclass(slots=True, eq=False)
class Item:
    """
    One record in a batch.

    Attributes:
        record: What the handler gets.
        yard: The partition that it belongs to.
        key: Records of one key stay in order.
        entry: Where it is parked; None for a record of the partition itself.
        is_settled: Whether it is handled, buried, or written to a retry topic.
    """

    record: ProtocolRecord
    yard: Yard
    key: Key
    entry: Entry | None = None
    is_settled: bool = False

    @property
    def failed_before(self) -> bool:
        """Whether it comes back because it failed."""
        return self.entry is not None and self.entry.facts.role == "head"

    @property
    def group(self) -> tuple[int, Key]:
        """What must stay in order."""
        return id(self.yard), self.key


@dataclass(slots=True)
class Outcome:
    """
    What became of the items of a batch; those whose partition ended are nowhere.

    Attributes:
        handled: In order.
        failed: With their errors, in order.
        behind: Not handed out alone, because one of their key failed before.
        attempts: How often what failed was handed out.
    """

    handled: list[Item] = field(default_factory=list[Item])
    failed: list[tuple[Item, Exception]] = field(default_factory=list[tuple[Item, Exception]])
    behind: list[Item] = field(default_factory=list[Item])
    attempts: int = 0


class BatchAttempts:
    """
    Hands batches to the handler until it is known which of their records it can handle.

    A batch that fails is handed out again; then by halves of its keys, down to the keys that fail,
    and their records one by one up to the first that fails.

    Args:
        handler: What the subscriber gave.
        retries: Of a whole batch.
        observer: Hears what happens.
        rest: Waits some seconds, less when a partition ends.

    Attributes:
        called_at: Loop time at which the handler that runs now was called.
    """

    def __init__(
        self,
        handler: BatchHandler,
        *,
        retries: Retries,
        observer: SubscriptionObserver,
        rest: Callable[[float], Awaitable[None]],
    ) -> None:
        self.called_at: float | None = None
        self._handler = handler
        self._limit = retries.limit
        self._backoff = retries.backoff
        self._patience = retries.patience
        self._observer = observer
        self._rest = rest

    async def whole(self, parts: Parts) -> tuple[Parts, Exception | None, int]:
        """
        Hand out a batch as it was read.

        Returns:
            What the handler got last, what it raised, and how often it was called.
        """
        attempts, away = 0, 0
        while True:
            parts = [(yard, chunk) for yard, chunk in parts if not yard.holding.ending]
            counts = Counter[str]()
            for yard, chunk in parts:
                counts[yard.holding.partition[0]] += len(chunk)
            records = [record for _, chunk in parts for record in chunk]
            error = await self._call_once(records, counts) if records else None
            if error is None:
                return parts, None, attempts + 1
            if isinstance(error, RegistryUnavailableError):
                away += 1
                await self._rest(self._patience.delay(away))
                continue
            attempts += 1
            if attempts > self._limit or isinstance(
                error, PermanentError | SchemaError | BatchFailedError
            ):
                return parts, error, attempts
            await self._rest(self._backoff.delay(attempts))
            for topic, count in counts.items():
                self._observer.retried(topic, count)

    async def run(self, items: Sequence[Item], *, again: bool) -> Outcome:
        """
        Hand out items until it is known which of them fail.

        Args:
            items: At least one.
            again: Whether they failed before: then the whole batch is not tried again in place.
        """
        limit, attempts = 0 if again else self._limit, 0
        while True:
            attempts += 1
            items, error = await self._call(items)
            if error is None:
                return Outcome(handled=list(items), attempts=attempts)
            if attempts > limit or isinstance(
                error, PermanentError | SchemaError | BatchFailedError
            ):
                return await self.find(items, error, attempts)
            await self._rest(self._backoff.delay(attempts))
            for topic, count in Counter(item.record.topic for item in items).items():
                self._observer.retried(topic, count)

    async def find(self, items: Sequence[Item], error: Exception, attempts: int) -> Outcome:
        """Return which of the items fail that failed together, so often."""
        outcome = Outcome(attempts=attempts)
        await self._search(items, error, outcome)
        return outcome

    async def _search(self, items: Sequence[Item], error: Exception, found: Outcome) -> None:
        """Find what fails among items that failed together."""
        if isinstance(error, BatchFailedError) and _is_sound(error, len(items)):
            for index, item in enumerate(items):
                own = error.failures.get(index)
                if own is None:
                    found.handled.append(item)
                else:
                    found.failed.append((item, own))
            return
        groups: dict[tuple[int, Key], list[Item]] = {}
        for item in items:
            groups.setdefault(item.group, []).append(item)
        if len(groups) == 1:
            await self._one_by_one(items, error, found)
            return
        middle = len(groups) // 2
        for some in (list(groups.values())[:middle], list(groups.values())[middle:]):
            half, failure = await self._call([item for group in some for item in group])
            if failure is None:
                found.handled += half
            else:
                await self._search(half, failure, found)

    async def _one_by_one(self, items: Sequence[Item], error: Exception, found: Outcome) -> None:
        if len(items) == 1:
            found.failed.append((items[0], error))
            return
        for index, item in enumerate(items):
            called, failure = await self._call([item])
            if failure is None:
                found.handled += called
                continue
            if isinstance(failure, BatchFailedError) and _is_sound(failure, 1):
                failure = failure.failures[0]
            found.failed.append((item, failure))
            found.behind += items[index + 1 :]
            return

    async def _call(self, items: Sequence[Item]) -> tuple[Sequence[Item], Exception | None]:
        """Run the handler until the registry answers; return what it got and what it raised."""
        away = 0
        while items := _alive(items):
            counts = Counter(item.record.topic for item in items)
            error = await self._call_once([item.record for item in items], counts)
            if not isinstance(error, RegistryUnavailableError):
                return items, error
            away += 1
            await self._rest(self._patience.delay(away))
        return items, None

    async def _call_once(self, records: Chunk, counts: Counter[str]) -> Exception | None:
        loop = asyncio.get_running_loop()
        self.called_at = started = loop.time()
        try:
            await self._handler(records)
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            error = cancelled_by_itself(exc)
        except Exception as exc:  # noqa: BLE001 - the handler boundary: ends in retry or burial
            error = exc
        else:
            share_s = (loop.time() - started) / len(records)
            for topic, count in counts.items():
                self._observer.handled(topic, count, share_s * count)
            return None
        finally:
            self.called_at = None
        log.warning(
            "batch handler failed",
            records=len(records),
            error_type=type(error).__name__,
            # Says what is away, to whoever must bring it back; other texts may hold anything.
            reason=str(error) if isinstance(error, RetriableError) else None,
        )
        return error


def _alive(items: Sequence[Item]) -> Sequence[Item]:
    """Leave out items whose partition ended."""
    if any(item.yard.holding.ending for item in items):
        return [item for item in items if not item.yard.holding.ending]
    return items


def _is_sound(error: BatchFailedError, size: int) -> bool:
    return bool(error.failures) and all(0 <= index < size for index in error.failures)
