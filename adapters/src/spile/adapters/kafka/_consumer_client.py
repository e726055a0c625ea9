# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false, reportPrivateUsage=false, reportMissingParameterType=false
# aiokafka ships no types; the `*_client.py` files are where that ends.
"""One aiokafka consumer behind types: no call without a deadline, nothing lost on an error."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cramjam
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    OffsetOutOfRangeError,
    UnsupportedCodecError,
)
from aiokafka.structs import OffsetAndMetadata

from spile.adapters.kafka._client import Connection, deadline, finish, pin_log_levels, refusal
from spile.adapters.kafka._errors import translate, translated
from spile.spi import BrokerUnavailableError, PartitionKey, ProtocolRecord, UnauthorisedError

_log = structlog.get_logger(__name__)

PartitionsCallback = Callable[[Sequence[PartitionKey]], Awaitable[None]]

_UNREADABLE = (
    CorruptRecordException,
    UnsupportedCodecError,
    cramjam.DecompressionError,
    struct.error,
    ValueError,
    LookupError,
    ArithmeticError,
    EOFError,
)
"""What decoding a damaged or hostile batch raises, such as a header name that is not UTF-8."""


_SPREAD = (RoundRobinPartitionAssignor,)
_RANGES = (RangePartitionAssignor, *_SPREAD)
"""
What a member offers, best first. Ranges give partitions of one number of equally large topics to
one member when all members subscribe alike; a group with older members goes on round robin.
"""


class UnreadableRecordError(Exception):
    """Raised when fetched bytes cannot be decoded; positions are as before the call."""


class OffsetGoneError(Exception):
    """
    Raised when the log does not hold the offset to read.

    Attributes:
        partition: Where.
        offset: What was asked for.
    """

    def __init__(self, partition: PartitionKey, offset: int) -> None:
        super().__init__(partition, offset)
        self.partition = partition
        self.offset = offset


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerTimes:
    """Times in milliseconds; see the settings of the same names."""

    session_timeout_ms: int
    heartbeat_interval_ms: int
    rebalance_timeout_ms: int
    max_poll_interval_ms: int
    metadata_max_age_ms: int


class _Listener(ConsumerRebalanceListener):
    def __init__(self, assigned: PartitionsCallback, revoked: PartitionsCallback) -> None:
        self._assigned = assigned
        self._revoked = revoked

    async def on_partitions_assigned(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, assigned: Iterable[TopicPartition]
    ) -> None:
        await self._assigned(sorted(assigned))

    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, revoked: Iterable[TopicPartition]
    ) -> None:
        await self._revoked(sorted(revoked))


class ConsumerClient:
    """
    One consumer, for one membership of a group.

    Offsets are never committed nor chosen by the client itself, and only what committed
    transactions wrote is read.

    Args:
        connection: How to connect.
        group_id: Group to join.
        times: Timeouts of the group.
        in_ranges: Whether partitions of one number of equally large topics are to have one owner;
            members that do not ask for it can still be in the group.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        group_id: str,
        times: ConsumerTimes,
        in_ranges: bool = False,
    ) -> None:
        self._connection = connection
        self._request_s = connection.request_timeout_ms / 1000
        self._group_id = group_id
        self._consumer: Any = AIOKafkaConsumer(
            **connection.arguments(),
            group_id=group_id,
            request_timeout_ms=connection.request_timeout_ms,
            retry_backoff_ms=connection.retry_backoff_ms,
            session_timeout_ms=times.session_timeout_ms,
            heartbeat_interval_ms=times.heartbeat_interval_ms,
            rebalance_timeout_ms=times.rebalance_timeout_ms,
            max_poll_interval_ms=times.max_poll_interval_ms,
            metadata_max_age_ms=times.metadata_max_age_ms,
            partition_assignment_strategy=_RANGES if in_ranges else _SPREAD,
            auto_offset_reset="none",
            enable_auto_commit=False,
            isolation_level="read_committed",
            max_partition_fetch_bytes=1 << 20,
            fetch_max_bytes=8 << 20,
            check_crcs=True,
        )
        pin_log_levels()

    async def start(self, *, deadline_s: float) -> None:
        """
        Connect once, without joining the group; after an error the client is gone.

        Raises:
            UnauthorisedError: A broker refuses the credentials, or TLS does.
            SpileError: It did not work within the deadline.
        """
        try:
            async with deadline(deadline_s, "connecting the consumer"):
                await self._consumer.start()
        except BrokerUnavailableError:
            await self.close(limit_s=1.0)
            async with deadline(deadline_s, "connecting the consumer"):
                reason = await refusal(self._connection)
            if reason is not None:
                told = translate(reason, doing="connecting the consumer")
                if isinstance(told, UnauthorisedError):
                    raise told from reason
            raise
        except BaseException:
            await self.close(limit_s=1.0)
            raise

    async def topics(self, *, deadline_s: float) -> Mapping[str, int]:
        """
        Return all topics that these credentials may see, and how many partitions each has.

        No name enters the client's own list.

        Raises:
            SpileError: No broker answered.
        """
        async with deadline(deadline_s, "reading the topics of the cluster"):
            cluster = await self._consumer._client.fetch_all_metadata()
        return {name: len(cluster.partitions_for_topic(name) or ()) for name in cluster.topics()}

    async def join(
        self,
        topics: Sequence[str],
        *,
        assigned: PartitionsCallback,
        revoked: PartitionsCallback,
        deadline_s: float,
    ) -> None:
        """
        Join the group; returns when a first assignment is there, `assigned` may still be running.

        Args:
            topics: Names, or one pattern that starts with `^`.
            assigned: Called with the new partitions; polls return what it does not pause.
            revoked: Called with the old ones before others get them; the client waits for it.
            deadline_s: Limit in seconds.

        Raises:
            UnauthorisedError: The group or a topic is refused.
            SpileError: The group did not settle in time.
        """
        listener = _Listener(assigned, revoked)
        with translated(f"subscribing to {', '.join(topics)}"):
            if len(topics) == 1 and topics[0].startswith("^"):
                self._consumer.subscribe(pattern=topics[0], listener=listener)
            else:
                self._consumer.subscribe(topics=list(topics), listener=listener)
        async with deadline(deadline_s, f"joining group {self._group_id}"):
            while not self.assignment() and self.is_settling():
                await self._assignment_waiter()

    def assignment(self) -> frozenset[PartitionKey]:
        """Return the partitions that the group gave to this member."""
        return frozenset(self._consumer.assignment())

    async def poll(
        self, *, timeout_s: float, max_records: int
    ) -> Mapping[PartitionKey, Sequence[ProtocolRecord]]:
        """
        Return records that came, or nothing when the time is up; safe to cancel.

        `getmany` is only called when it cannot wait: cancelled or failed inside, it would count a
        fetch as running for ever, and the client would never again notice a stuck consumer.

        Raises:
            UnreadableRecordError: See there; records of other partitions may have been dropped,
                so seek all partitions to what is wanted next.
            OffsetGoneError: See there.
            SpileError: The client cannot read.
        """
        until = time.monotonic() + timeout_s
        while True:
            left = until - time.monotonic()
            if self.is_settling():
                if left <= 0:
                    return {}
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._assignment_waiter()
                continue
            records = await self._take((), max_records)
            if records or left <= 0:
                return records
            await self.wait_for_data(left)

    async def take_one(self, partition: PartitionKey) -> ProtocolRecord | None:
        """
        Return the next record of one partition if it has been fetched; never waits.

        Raises:
            UnreadableRecordError: The record at the position cannot be decoded.
            SpileError: As `poll`.
        """
        if self.is_settling():
            return None
        taken = await self._take((TopicPartition(*partition),), 1)
        return next((records[0] for records in taken.values() if records), None)

    def position(self, partition: PartitionKey) -> int | None:
        """Return the offset to be handed out next; None when the partition is not assigned."""
        subscription = self._consumer._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return None
        state = subscription.assignment.state_value(TopicPartition(*partition))
        return state.position if state is not None and state.has_valid_position else None

    def seek(self, partition: PartitionKey, offset: int) -> None:
        """
        Hand out this offset next.

        Raises:
            ClosedError: The partition is not assigned any more.
        """
        with translated(f"seeking {partition[0]}[{partition[1]}] to {offset}"):
            self._consumer.seek(TopicPartition(*partition), offset)

    def pause(self, partitions: Iterable[PartitionKey]) -> None:
        """Hand out nothing of these; partitions that are not assigned are left out."""
        mine = self._consumer.assignment()
        self._consumer.pause(*(TopicPartition(*key) for key in partitions if key in mine))

    def resume(self, partitions: Iterable[PartitionKey]) -> None:
        """Undo `pause`; partitions that are not assigned are left out."""
        mine = self._consumer.assignment()
        self._consumer.resume(*(TopicPartition(*key) for key in partitions if key in mine))

    async def committed(
        self, partitions: Sequence[PartitionKey], *, deadline_s: float
    ) -> Mapping[PartitionKey, tuple[int, str]]:
        """
        Return the group's committed offsets and notes, without partitions that have none.

        Raises:
            SpileError: No answer in time.
        """
        wanted = [TopicPartition(*key) for key in partitions]
        async with deadline(deadline_s, f"reading the offsets of group {self._group_id}"):
            found = await self._consumer._coordinator.fetch_committed_offsets(wanted)
        return {
            key: (stored.offset, stored.metadata or "")
            for key, stored in found.items()
            if stored.offset >= 0
        }

    async def commit(
        self,
        offsets: Mapping[PartitionKey, int],
        notes: Mapping[PartitionKey, str],
        *,
        deadline_s: float,
    ) -> None:
        """
        Commit the offsets to read next, in one request, with notes beside some.

        Goes to the coordinator directly: the client's own `commit` refuses when a changed pattern
        has ended the assignment, although the member still owns its partitions.

        Raises:
            ClosedError: The group has gone on without this member.
            SpileError: No answer in time, or refused.
        """
        wanted = {
            TopicPartition(*key): OffsetAndMetadata(at, notes.get(key, ""))
            for key, at in offsets.items()
        }
        async with deadline(deadline_s, f"committing for group {self._group_id}"):
            await self._consumer._coordinator.commit_offsets(None, wanted)

    async def beginning_offsets(
        self, partitions: Sequence[PartitionKey], *, deadline_s: float
    ) -> Mapping[PartitionKey, int]:
        """
        Return the first offset of each partition.

        Raises:
            SpileError: No answer in time.
        """
        async with deadline(deadline_s, "reading beginning offsets"):
            found = await self._consumer.beginning_offsets(
                [TopicPartition(*key) for key in partitions]
            )
        return dict(found)

    async def end_offsets(
        self, partitions: Sequence[PartitionKey], *, deadline_s: float
    ) -> Mapping[PartitionKey, int]:
        """
        Return the offset after the last one that can be read, of each partition.

        Raises:
            SpileError: No answer in time.
        """
        async with deadline(deadline_s, "reading end offsets"):
            found = await self._consumer.end_offsets([TopicPartition(*key) for key in partitions])
        return dict(found)

    def metadata_failing_s(self) -> float:
        """Return for how many seconds the brokers have not answered; 0 when the last round did."""
        cluster = self._consumer._client.cluster
        good = cluster._last_successful_refresh_ms
        return 0.0 if cluster._last_refresh_ms <= good else time.time() - good / 1000

    def fetches_running(self) -> int:
        """Return how many fetches the client counts; 0 between polls, or it is blind to stalls."""
        return int(self._consumer._subscription._fetch_count)

    async def close(self, *, limit_s: float) -> None:
        """
        Leave the group and disconnect; past the limit the rest is cut off. Never raises.

        Only a cancellation of the running task passes through, after the cut.
        """
        try:
            async with asyncio.timeout(limit_s):
                await self._consumer.stop()
        except asyncio.CancelledError:
            # With brokers away the client's stop raises this at its caller, or hangs.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
        except Exception as exc:  # noqa: BLE001 - what is closed need not be whole
            _log.info("consumer closed by force", group=self._group_id, error=repr(exc))
        finally:
            await self._cut()

    async def _cut(self) -> None:
        consumer = self._consumer
        consumer._closed = True
        leftovers: list[asyncio.Task[Any] | None] = [consumer._client._sync_task]
        if consumer._coordinator is not None:
            coordinator = consumer._coordinator
            leftovers += [
                coordinator._coordination_task,
                coordinator._heartbeat_task,
                coordinator._commit_refresh_task,
            ]
        if consumer._fetcher is not None:
            leftovers += [consumer._fetcher._fetch_task, *consumer._fetcher._pending_tasks]
        await finish(leftovers)
        for connection in list(consumer._client._conns.values()):
            connection.close()

    async def _take(
        self, partitions: tuple[TopicPartition, ...], max_records: int
    ) -> Mapping[PartitionKey, Sequence[ProtocolRecord]]:
        if self._consumer._fetcher._fetch_task.done():
            raise BrokerUnavailableError("the client has stopped fetching; open a new one")
        counter = self._consumer._subscription
        running = counter._fetch_count
        try:
            taken: Mapping[PartitionKey, Sequence[ProtocolRecord]] = await self._consumer.getmany(
                *partitions, timeout_ms=0, max_records=max_records
            )
        except OffsetOutOfRangeError as exc:
            partition, offset = next(iter(exc.args[0].items()))
            raise OffsetGoneError((partition.topic, partition.partition), offset) from exc
        except _UNREADABLE as exc:
            raise UnreadableRecordError(str(exc)) from exc
        except (KafkaError, OSError, AssertionError) as exc:
            raise translate(exc, doing="fetching") from exc
        finally:
            # On an error the client forgets to count its fetch down.
            if counter._fetch_count != running:
                counter._fetch_count = running
                counter._last_fetch_ended = time.monotonic()
        return taken

    def is_settling(self) -> bool:
        """Say whether the group is still deciding who gets what."""
        subscription = self._consumer._subscription
        current = subscription.subscription
        return (
            current is None or current.assignment is None or subscription.reassignment_in_progress
        )

    async def _assignment_waiter(self) -> None:
        waiter = self._consumer._subscription.wait_for_assignment()
        try:
            await asyncio.wait([waiter])
            self._consumer._coordinator.check_errors()
        except KafkaError as exc:
            raise translate(exc, doing=f"joining group {self._group_id}") from exc
        finally:
            _drop(waiter)

    async def wait_for_data(self, timeout_s: float) -> None:
        """Wait until something was fetched, or failed, or the time is up."""
        waiter = self._consumer._fetcher._create_fetch_waiter()
        try:
            await asyncio.wait([waiter], timeout=timeout_s)
        finally:
            # What it failed with is raised by the next `getmany`.
            _drop(waiter)


def _drop(waiter: asyncio.Future[Any]) -> None:
    if waiter.done() and not waiter.cancelled():
        waiter.exception()
    waiter.cancel()
