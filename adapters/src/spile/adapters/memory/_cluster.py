"""A cluster in memory: the log, the groups, and the senders and sources that use them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain

from spile.adapters.delivery import (
    OutgoingRecord,
    RebalanceListener,
    Receipt,
    Record,
    RecordSender,
    RecordSource,
    Settled,
    check_together,
)
from spile.adapters.memory._groups import Group, wants
from spile.adapters.memory._log import (
    Faults,
    MemoryLog,
    MemoryTopic,
    wall_clock_ms,
)
from spile.adapters.memory._log_reader import MemoryLogReader
from spile.spi import (
    ClosedError,
    PartitionKey,
    RejectedError,
    SpileError,
    UnknownTopicError,
)
from spile.topics import Catalogue


class MemoryCluster:
    """
    What a broker is to Kafka; all buses, senders and sources that share one see the same log.

    Deterministic: one event loop, no threads, no waits but for the timeouts that are asked for.

    Args:
        topics: Partitions, or the whole set-up, by full topic name.
        clock: Milliseconds since 1970, the wall clock by default; stamps records.

    Attributes:
        faults: Makes operations fail or wait.
    """

    def __init__(
        self,
        topics: Mapping[str, int | MemoryTopic] | None = None,
        *,
        clock: Callable[[], int] = wall_clock_ms,
    ) -> None:
        made = {
            name: MemoryTopic(partitions=topic) if isinstance(topic, int) else topic
            for name, topic in (topics or {}).items()
        }
        self.faults = Faults()
        self._log = MemoryLog(made, clock)
        self._groups: dict[str, Group] = {}

    @classmethod
    def of_catalogue(
        cls,
        catalogue: Catalogue,
        environment: str,
        *,
        clock: Callable[[], int] = wall_clock_ms,
    ) -> MemoryCluster:
        """Return a cluster with the topics and dead letter queues of an environment."""
        topics = {
            name: MemoryTopic(partitions=spec.partitions, max_message_bytes=spec.max_message_bytes)
            for name, spec in catalogue.topics(environment).items()
        }
        return cls(topics, clock=clock)

    @property
    def topics(self) -> Mapping[str, MemoryTopic]:
        """Topics by full name."""
        return dict(self._log.topics)

    @property
    def history(self) -> Sequence[Record]:
        """All records in the order of their writing, since the last `clear_history`."""
        return tuple(self._log.history)

    def clear_history(self) -> None:
        """Forget the history; the log stays."""
        self._log.history.clear()

    def create_topic(
        self, name: str, partitions: int = 1, *, max_message_bytes: int | None = None
    ) -> None:
        """
        Add a topic; groups that read a pattern which covers it see it at their next rebalance.

        Raises:
            ConfigurationError: There is one of that name, or it would have no partition.
        """
        topic = MemoryTopic(partitions=partitions)
        if max_message_bytes is not None:
            topic = MemoryTopic(partitions=partitions, max_message_bytes=max_message_bytes)
        self._log.create(name, topic)

    def records(self, topic: str, partition: int | None = None) -> Sequence[Record]:
        """
        Return what stands in a topic, partition after partition.

        Raises:
            UnknownTopicError: There is no such topic.
        """
        count = self._log.require(topic).partitions
        numbers = range(count) if partition is None else [partition]
        return list(
            chain.from_iterable(
                self._log.read((topic, n), 0, self._log.end((topic, n))) for n in numbers
            )
        )

    def committed(self, group_id: str) -> Mapping[PartitionKey, int]:
        """Return the offsets that a group reads next, by partition; empty before its start."""
        return dict(self.group(group_id).committed)

    def group(self, group_id: str) -> Group:
        """Return a group, made at the first look."""
        return self._groups.setdefault(group_id, Group(group_id, self._log))

    def sender(self) -> MemorySender:
        """Return a new sender."""
        return MemorySender(self._log, self.faults)

    def source(
        self,
        topics: Sequence[str],
        group_id: str,
        *,
        together: Collection[Sequence[str]] = (),
    ) -> MemorySource:
        """Return a new source, not open yet; a `SourceFactory`."""
        group = self.group(group_id)
        return MemorySource(topics, group, self._log, self.faults, together=together)

    def reader(self) -> MemoryLogReader:
        """Return a new reader without a group; a `LogReaderFactory`."""
        return MemoryLogReader(self._log, self.faults)


class MemorySender(RecordSender):
    """Writes to a log in memory; made by `MemoryCluster.sender`."""

    def __init__(self, records: MemoryLog, faults: Faults) -> None:
        self._log = records
        self._faults = faults
        self._closed = False

    async def send(
        self, records: Sequence[OutgoingRecord], *, settled: Settled | None = None
    ) -> Receipt:
        """Write records in the order given; see `RecordSender.send`."""
        if self._closed:
            raise ClosedError("the sender is closed; nothing was sent")
        receipt = Receipt()
        for index, record in enumerate(records):
            try:
                self._log.require(record.topic)
            except UnknownTopicError as exc:
                if settled is None:
                    raise
                receipt.failures[index] = exc
        await self._write(records, receipt)
        if settled is not None:
            for index in range(len(records)):
                settled([index], receipt.failures.get(index))
        return receipt

    async def _write(self, records: Sequence[OutgoingRecord], receipt: Receipt) -> None:
        try:
            await self._faults.before("send", records)
        except (UnknownTopicError, ClosedError):
            raise
        except SpileError as exc:
            receipt.failures.update(dict.fromkeys(range(len(records)), exc))
            return
        for index, record in enumerate(records):
            if index in receipt.failures:
                continue
            try:
                written = self._log.append(record)
            except RejectedError as exc:
                receipt.failures[index] = exc
            else:
                receipt.acknowledge([index], written.topic, written.partition, written.offset)
        self._log.wake()

    async def close(self) -> None:
        """Refuse to send from now on."""
        self._closed = True


class MemorySource(RecordSource):
    """
    One member of a group in memory; made by `MemoryCluster.source`.

    Attributes:
        topics: Names or patterns.
        held: Position by assigned partition.
        is_open: Whether it is a member, or about to be.
    """

    def __init__(
        self,
        topics: Sequence[str],
        group: Group,
        records: MemoryLog,
        faults: Faults,
        *,
        together: Collection[Sequence[str]] = (),
    ) -> None:
        self.topics = topics
        self._together = together
        self.held: dict[PartitionKey, int] = {}
        self.listener: RebalanceListener
        self._group = group
        self._log = records
        self._faults = faults
        self._paused: set[PartitionKey] = set()
        self._taken_over: dict[PartitionKey, tuple[int, str]] = {}
        self._news = asyncio.Event()
        self._turn = 0
        self.is_open = False
        self._is_settled = False

    async def open(self, listener: RebalanceListener) -> None:
        """Join the group and wait for the rebalance; see `RecordSource.open`."""
        await self._faults.before("open", self.topics)
        for topic in self.topics:
            if not topic.startswith("^"):
                self._log.require(topic)
            elif not any(wants([topic], name) for name in self._log.topics):
                raise UnknownTopicError(f"no topic matches the pattern {topic!r}", topic=topic)
        check_together({n: t.partitions for n, t in self._log.topics.items()}, self._together)
        self.listener = listener
        self.is_open = True
        self._log.attach(self._news)
        await asyncio.wait([self._group.start_rebalance(self)])

    async def poll(
        self, *, timeout_s: float, max_records: int
    ) -> Mapping[PartitionKey, Sequence[Record]]:
        """Return records that came, round robin over the partitions; see `RecordSource.poll`."""
        await self._faults.before("poll", tuple(self.held))
        if not self.is_open:
            raise ClosedError("the source is closed")
        await asyncio.sleep(0)
        polled = self._take(max_records)
        if polled or timeout_s <= 0:
            return polled
        try:
            async with asyncio.timeout(timeout_s):
                while not polled and self.is_open:
                    self._news.clear()
                    await self._news.wait()
                    polled = self._take(max_records)
        except TimeoutError:
            return {}
        return polled

    def _take(self, max_records: int) -> dict[PartitionKey, Sequence[Record]]:
        """Take what there is, from another partition first each time."""
        polled: dict[PartitionKey, Sequence[Record]] = {}
        if not self._is_settled:
            return polled
        partitions = [p for p in sorted(self.held) if p not in self._paused]
        self._turn += 1
        first = self._turn % len(partitions) if partitions else 0
        for partition in chain(partitions[first:], partitions[:first]):
            if max_records <= 0:
                break
            position = self.held[partition]
            self._require_in_range(partition, position)
            records = self._log.read(partition, position, max_records)
            if records:
                polled[partition] = records
                self.held[partition] = records[-1].offset + 1
                max_records -= len(records)
        return polled

    def _require_in_range(self, partition: PartitionKey, position: int) -> None:
        end = self._log.end(partition)
        if position > end:
            raise RejectedError(
                f"offset {position} of {partition[0]}-{partition[1]} is beyond the end {end}: "
                "the topic was made anew, or the stored offset is from another one",
                code="OFFSET_OUT_OF_RANGE",
            )

    async def reopen(self) -> None:
        """Give everything back and join anew."""
        await asyncio.wait([self._group.start_rebalance(self)])

    def pause(self, partitions: Sequence[PartitionKey]) -> None:
        """Hand out nothing of these."""
        self._paused.update(partitions)

    def resume(self, partitions: Sequence[PartitionKey]) -> None:
        """Go on after `pause`."""
        self._paused.difference_update(partitions)
        self._news.set()

    def seek(self, partition: PartitionKey, offset: int) -> None:
        """Read this offset next; raises `ClosedError` when the partition is not assigned."""
        if partition not in self.held:
            raise ClosedError(f"{partition[0]}-{partition[1]} is not assigned to this member")
        self.held[partition] = offset
        self._news.set()

    async def commit(
        self,
        offsets: Mapping[PartitionKey, int],
        notes: Mapping[PartitionKey, str] | None = None,
    ) -> None:
        """Commit the offsets to read next; see `RecordSource.commit`."""
        await self._faults.before("commit", offsets)
        lost = [
            f"{topic}-{number}" for topic, number in offsets if (topic, number) not in self.held
        ]
        if lost:
            raise ClosedError(f"not assigned to this member any more: {', '.join(lost)}")
        self._group.commit(offsets, notes or {})

    async def ends(self, partitions: Sequence[PartitionKey]) -> Mapping[PartitionKey, int]:
        """Return the offset that each partition writes next."""
        return {partition: self._log.end(partition) for partition in partitions}

    def position(self, partition: PartitionKey) -> int:
        """Return the offset to be handed out next; -1 when the partition is not assigned."""
        return self.held.get(partition, -1)

    def taken_over(self, partition: PartitionKey) -> tuple[int, str]:
        """Return what stood committed at the assignment; see `RecordSource.taken_over`."""
        if partition not in self.held:
            raise ClosedError(f"{partition[0]}-{partition[1]} is not assigned to this member")
        return self._taken_over[partition]

    async def beginnings(self, partitions: Sequence[PartitionKey]) -> Mapping[PartitionKey, int]:
        """Return 0 for each: nothing is ever removed."""
        return dict.fromkeys(partitions, 0)

    async def lag(self) -> Mapping[PartitionKey, int]:
        """Return the records between the committed position and the end."""
        await self._faults.before("lag", tuple(self.held))
        return {p: self._log.end(p) - self._group.committed.get(p, 0) for p in self.held}

    async def close(self) -> None:
        """Leave the group; the others share the partitions without this call waiting for it."""
        if not self.is_open:
            return
        self.is_open = False
        self._news.set()
        self._log.detach(self._news)
        self.end()
        if self in self._group.members:
            self._group.members.remove(self)
        if self._group.members:
            self._group.start_rebalance()

    def begin(self, positions: dict[PartitionKey, int]) -> None:
        """Hold these partitions from now on; called by the group."""
        self._is_settled = False  # also where there was nothing to give back
        self.held = positions
        notes = self._group.notes
        self._taken_over = {p: (at, notes.get(p, "")) for p, at in positions.items()}

    def settle(self) -> None:
        """Hand out from now on; called by the group after the listener took over."""
        self._is_settled = True

    def end(self) -> None:
        """Hold nothing any more; called by the group."""
        self.held = {}
        self._is_settled = False
        self._paused.clear()
