"""Where records of an archive go when they are replayed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from spile.adapters.delivery import OutgoingRecord, Record, RecordSender
from spile.services.archiver.reading._selection import header, is_tick
from spile.spi import (
    ConfigurationError,
    PartitionKey,
    PermanentError,
    ProtocolRecord,
    RetriableError,
    SpileError,
    UnknownTopicError,
)
from spile.topics import Catalogue

REPLAY_HEADER: Final = "x-spile-replay"
"""Marks a replayed record; its value says where it stood: topic, partition, offset."""

_SHOWN: Final = 20


@dataclass(slots=True, kw_only=True)
class Written:
    """
    What became of records.

    Attributes:
        written: Acknowledged by the topic, or new in the store.
        repeats: Left out, since their event is there already.
        ignored: Hold no event for this target: ticks, and for a store tombstones.
        refused: Were not taken, and would not be when tried again.
        reasons: Why, with the place; the first 20.
    """

    written: int = 0
    repeats: int = 0
    ignored: int = 0
    refused: int = 0
    reasons: list[str] = field(default_factory=list[str])

    def refuse(self, record: ProtocolRecord, error: SpileError) -> None:
        """Count a record that is not taken."""
        self.refused += 1
        if len(self.reasons) < _SHOWN:
            self.reasons.append(f"{record.topic}/{record.partition}:{record.offset}: {error}")

    def add(self, other: Written) -> None:
        """Count what another one counted."""
        self.written += other.written
        self.repeats += other.repeats
        self.ignored += other.ignored
        self.refused += other.refused
        self.reasons.extend(other.reasons[: _SHOWN - len(self.reasons)])


class ReplayTarget(Protocol):
    """Takes records; of one partition in the order of their offsets."""

    async def position(self, partition: PartitionKey) -> int | None:
        """Return the offset that this target has everything before; None when it does not know."""
        ...

    async def write(
        self, partition: PartitionKey, records: Sequence[Record], *, first: int, end: int
    ) -> Written:
        """
        Take what is meant of the offsets from `first` up to, not including, `end`.

        On return it is safe to go on at `end`; called again for the same offsets it does no harm.

        Raises:
            RetriableError: The target is away; some of the records may have been taken.
            PermanentError: It cannot take them at all.
        """
        ...


class TopicTarget(ReplayTarget):
    """
    Publishes records again, marked as replayed.

    Key, value, headers and with them the event's id and time stay byte for byte; the record time is
    the time of the replay. A record without a key goes where its topic's partitioner puts it.

    Args:
        sender: Sends them; the caller's to close.
        topic: Where all go; None puts each into the topic that it came from.
        catalogue: A topic that it does not have is never written to.
        environment: Of the topics to write.

    Raises:
        UnknownTopicError: The catalogue does not have the topic.
    """

    def __init__(
        self, sender: RecordSender, *, catalogue: Catalogue, environment: str, topic: str | None
    ) -> None:
        self._sender = sender
        self._catalogue = catalogue
        self._environment = environment
        self._topic = topic
        self._topics: dict[str, tuple[str, Collection[str]]] = {}
        if topic is not None:
            self._target(topic)

    async def position(self, partition: PartitionKey) -> int | None:
        """Return None: a topic does not say what was replayed into it."""
        self._target(partition[0])
        return None

    async def write(
        self, partition: PartitionKey, records: Sequence[Record], *, first: int, end: int
    ) -> Written:
        """
        Publish records and wait until each is acknowledged or refused; see `ReplayTarget`.

        Raises:
            RetriableError: Some were not acknowledged; they may or may not be in the topic.
            UnknownTopicError: The catalogue or the cluster does not have the topic.
        """
        del first, end
        topic, event_types = self._target(partition[0])
        result = Written()
        sent: list[Record] = []
        for record in records:
            kind = (header(record, "event_type") or b"").decode(errors="replace")
            if is_tick(record):
                result.ignored += 1
            elif record.value is not None and kind not in event_types:
                why = f"topic {topic} holds {', '.join(event_types)}, not {kind[:80]!r}"
                result.refuse(record, PermanentError(why))
            else:
                sent.append(record)
        await self._send(topic, sent, result)
        return result

    async def _send(self, topic: str, records: Sequence[Record], result: Written) -> None:
        failed: dict[int, SpileError] = {}

        def settled(indexes: Sequence[int], error: SpileError | None) -> None:
            if error is not None:
                failed.update(dict.fromkeys(indexes, error))

        if records:
            outgoing = [_marked(record, topic) for record in records]
            receipt = await self._sender.send(outgoing, settled=settled)
            failed.update(receipt.failures)
        for index, error in sorted(failed.items()):
            if isinstance(error, (RetriableError, UnknownTopicError)):
                raise error
            result.refuse(records[index], error)
        result.written = len(records) - len(failed)

    def _target(self, origin: str) -> tuple[str, Collection[str]]:
        """Return the topic to write and the event types that it holds."""
        found = self._topics.get(origin)
        if found is None:
            found = self._topics[origin] = self._checked(self._topic or origin)
        return found

    def _checked(self, topic: str) -> tuple[str, Collection[str]]:
        spec = self._catalogue.topics(self._environment).get(topic)
        contracts = self._catalogue.contracts(topic, (self._environment,))
        if spec is None or contracts is None:
            raise UnknownTopicError(
                f"topic {topic} is no event topic of the catalogue in {self._environment}: "
                "nothing is replayed into it",
                topic=topic,
            )
        return topic, tuple(contracts)


def _marked(record: Record, topic: str) -> OutgoingRecord:
    place = f"{record.topic}/{record.partition}:{record.offset}".encode()
    headers = [item for item in record.headers if item[0] != REPLAY_HEADER]
    return OutgoingRecord(topic, record.key, record.value, [*headers, (REPLAY_HEADER, place)])


class Pace:
    """
    Keeps to a number of records a second.

    Args:
        rate: Records a second; None does not slow down.
        clock: Seconds, monotonic.
        sleep: Waits.
    """

    def __init__(
        self,
        rate: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if rate is not None and rate <= 0:
            raise ConfigurationError(f"the rate is {rate}, it must be more than 0 records a second")
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._due: float | None = None

    @property
    def batch(self) -> int | None:
        """Most records to send at once, a fifth of a second's; None when there is no rate."""
        return None if self._rate is None else max(1, int(self._rate / 5))

    async def wait(self, records: int) -> None:
        """Wait until so many records may be sent."""
        if self._rate is None:
            return
        now = self._clock()
        due = now if self._due is None else max(now, self._due)
        self._due = due + records / self._rate
        if due > now:
            await self._sleep(due - now)
