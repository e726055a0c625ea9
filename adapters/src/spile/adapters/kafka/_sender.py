"""The Kafka end of publishing: routes records to partitions and waits for their acknowledgement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import structlog

from spile.adapters.dead_letters import has_failed_records
from spile.adapters.delivery._backoff import Backoff
from spile.adapters.delivery._ports import RecordSender, Settled
from spile.adapters.delivery._records import OutgoingRecord, Receipt
from spile.adapters.delivery._tasks import Tasks
from spile.adapters.kafka._partitioner import Partitioner
from spile.adapters.kafka._producer_client import ProducerClient
from spile.adapters.kafka._pump import Call, ClientPool, PartitionPump, Segment
from spile.adapters.kafka._settings import KafkaSettings
from spile.spi import (
    BrokerUnavailableError,
    ClosedError,
    DeliveryTimeoutError,
    InvalidEventError,
    MessageTooLargeError,
    PermanentError,
    SpileError,
    UnknownTopicError,
)
from spile.topics import MAX_DLQ_MESSAGE_BYTES, MAX_RECORD_BYTES

_log = structlog.get_logger(__name__)

_ATTEMPT_REQUESTS = 2.4
"""Time for one attempt, in request timeouts: 12 s by default, two elections of a leader."""

_MISS_MEMORY_S = 1.0
_CHECK_EVERY_S = 1.0
_RECONNECT = Backoff(initial_s=0.1, max_s=2.0)


class KafkaSender(RecordSender):
    """
    Writes records with an idempotent producer and `acks=all`; satisfies `RecordSender`.

    Connects at the first send. Records of one key keep their order, through retries and through a
    replacement of the producer. The producer is replaced after whatever it cannot recover from, and
    once a day, before its sequence numbers wrap.

    Args:
        settings: Connection and timing.
        retries: Attempts after the first one, 3 by default.
        backoff: Wait between attempts: 1, 2, 4 s by default.

    Attributes:
        on_retry: Called with the number of records that are tried again; may be set.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        retries: int = 3,
        backoff: Backoff | None = None,
    ) -> None:
        self._settings = settings
        self._retries = retries
        self._backoff = backoff or Backoff()
        self.on_retry: Callable[[int], None] = _ignore
        self._pool = ClientPool(self._connect)
        self._tasks = Tasks(self._pump_failed)
        self._pumps: dict[tuple[str, int], PartitionPump] = {}
        self._partitioners: dict[str, Partitioner] = {}
        self._missing: dict[str, float] = {}
        self._calls: set[Call] = set()
        self._line = asyncio.Lock()
        self._in_line: set[asyncio.Timeout] = set()
        self._closed = False

    @property
    def generation(self) -> int:
        """How many producers there have been."""
        return self._pool.generation

    async def send(
        self, records: Sequence[OutgoingRecord], *, settled: Settled | None = None
    ) -> Receipt:
        """
        Write records and wait until each is acknowledged, refused, or past its delivery deadline.

        Raises:
            UnknownTopicError: There is no such topic; nothing was sent.
            MessageTooLargeError: A value is over 1,600,000 bytes (2,200,000 for a dead letter
                queue or retry topic); nothing was sent.
            ClosedError: The sender is closed; nothing was sent.
        """
        if self._closed:
            raise ClosedError("the sender is closed; nothing was sent")
        if not records:
            return Receipt()
        deadline = time.monotonic() + self._settings.delivery_timeout_ms / 1000
        done = asyncio.get_running_loop().create_future()
        call = Call(len(records), deadline, done, settled)
        # Known to `close` from here on, which waits for it also while its topic is being looked up.
        self._calls.add(call)
        try:
            await self._take_in(records, call)
            await done
        except SpileError as exc:
            if not exc.retriable:
                raise
            call.settle(list(range(len(records))), exc)
        except asyncio.CancelledError:
            call.cancelled = True
            raise
        finally:
            self._calls.discard(call)
            done.cancel()
        return call.receipt

    async def connect(self) -> None:
        """
        Connect now rather than at the first send.

        Raises:
            BrokerUnavailableError: No broker answered within the start deadline.
            UnauthorisedError: The broker refused the credentials.
        """
        await self._pool.get(deadline_s=self._settings.start_timeout_ms / 1000)

    async def _take_in(self, records: Sequence[OutgoingRecord], call: Call) -> None:
        """Sort records into the pumps, in the order of the calls even when one must wait."""
        if not self._in_line:
            segments = self._route(records, call)
            if segments is not None:
                self._enqueue(segments)
                return
        patience = asyncio.timeout(None)
        self._in_line.add(patience)
        try:
            async with patience, self._line:
                unknown: dict[str, UnknownTopicError] = {}
                for topic in {record.topic for record in records}:
                    try:
                        if self._known_partitioner(topic) is None:
                            await self._meet(topic, call.deadline)
                    except UnknownTopicError as exc:
                        unknown[topic] = exc
                segments = self._route(records, call, unknown)
                if segments is not None and not call.done.done():
                    self._enqueue(segments)
        except TimeoutError:
            if not patience.expired():
                raise
            raise ClosedError("the sender was closed; nothing was sent") from None
        finally:
            self._in_line.discard(patience)

    async def close(self) -> None:
        """
        Flush within the close deadline, then let go.

        What is not acknowledged by then fails with `DeliveryTimeoutError`; what still looks for a
        broker, with `ClosedError`.
        """
        if self._closed:
            return
        self._closed = True
        limit_s = self._settings.close_timeout_ms / 1000
        waiting = [call.done for call in self._calls]
        if waiting:
            await asyncio.wait(waiting, timeout=limit_s)
        error = DeliveryTimeoutError("the sender was closed before the acknowledgement came")
        for pump in self._pumps.values():
            pump.fail_waiting(error)
        for patience in self._in_line:
            patience.reschedule(asyncio.get_running_loop().time())
        # The pumps first: one that connects just now would leave its client behind.
        await self._tasks.close(min(limit_s, 5.0))
        await self._pool.close(deadline_s=min(limit_s, 5.0))
        for call in list(self._calls):
            _fail_rest(call, error)

    async def partition_count(self, topic: str) -> int:
        """
        Return how many partitions a topic has.

        Raises:
            UnknownTopicError: There is no such topic.
            BrokerUnavailableError: No broker answered within the delivery deadline.
        """
        limit_s = self._settings.delivery_timeout_ms / 1000
        known = self._known_partitioner(topic)
        return (known or await self._meet(topic, time.monotonic() + limit_s)).count

    def _route(
        self,
        records: Sequence[OutgoingRecord],
        call: Call,
        unknown: Mapping[str, UnknownTopicError] = MappingProxyType({}),
    ) -> dict[tuple[str, int], Segment] | None:
        """
        Sort records by partition; None when a topic was not seen before.

        Raises:
            PermanentError: A record must not be sent, and nobody listens for single records.
        """
        segments: dict[tuple[str, int], Segment] = {}
        refused: dict[int, PermanentError] = {}
        topic = ""
        partitioner: Partitioner | None = None
        for index, record in enumerate(records):
            if record.topic != topic or partitioner is None:
                topic = record.topic
                partitioner = self._known_partitioner(topic)
                if partitioner is None and topic not in unknown:
                    return None
            value, partition = record.value, record.partition
            if (
                partitioner is None
                or (
                    value is not None
                    and (type(value) is not bytes or len(value) > partitioner.max_value_bytes)
                )
                or (record.key is not None and type(record.key) is not bytes)
                or (partition is not None and not 0 <= partition < partitioner.count)
            ):
                refused[index] = _refusal(record, index, partitioner, unknown)
                continue
            if partition is None:
                partition = partitioner.choose(record.key)
            place = (topic, partition)
            segment = segments.get(place)
            if segment is None:
                segment = segments[place] = Segment(call)
            segment.records.append(record)
            segment.indexes.append(index)
        if refused:
            if call.settled is None:
                raise next(iter(refused.values()))
            for index, error in refused.items():
                call.settle([index], error)
        return segments

    def _known_partitioner(self, topic: str) -> Partitioner | None:
        """Return the partitioner of a topic seen before, resized once a second at the most."""
        partitioner = self._partitioners.get(topic)
        if partitioner is not None:
            now = time.monotonic()
            if now >= partitioner.check_at and (client := self._pool.current) is not None:
                partitioner.check_at = now + _CHECK_EVERY_S
                partitioner.resize(client.known_partition_count(topic) or partitioner.count)
        return partitioner

    def _enqueue(self, segments: dict[tuple[str, int], Segment]) -> None:
        for place, segment in segments.items():
            pump = self._pumps.get(place)
            if pump is None:
                pump = self._pumps[place] = PartitionPump(
                    *place,
                    self._pool,
                    attempt_timeout_s=self._settings.request_timeout_ms * _ATTEMPT_REQUESTS / 1000,
                    linger_s=self._settings.linger_ms / 1000,
                    retries=self._retries,
                    backoff=self._backoff,
                    on_retry=self._retrying,
                )
            pump.add(segment)
            if not pump.running:
                pump.running = True
                self._tasks.start(pump.run(), f"pump {place[0]}[{place[1]}]")

    async def _meet(self, topic: str, deadline: float) -> Partitioner:
        """Return the partitioner of a topic that was not seen before."""
        if self._missing.get(topic, -_MISS_MEMORY_S) + _MISS_MEMORY_S > time.monotonic():
            raise _unknown(topic)
        client = await self._pool.get(deadline_s=deadline - time.monotonic())
        count = await client.partition_count(
            topic,
            deadline_s=min(deadline - time.monotonic(), self._settings.start_timeout_ms / 1e3),
        )
        if count is None:
            if len(self._missing) > 1000:  # noqa: PLR2004 - a bound, so that bad names cannot pile up
                self._missing.clear()
            self._missing[topic] = time.monotonic()
            raise _unknown(topic)
        limit = MAX_DLQ_MESSAGE_BYTES if has_failed_records(topic) else MAX_RECORD_BYTES
        return self._partitioners.setdefault(topic, Partitioner(count, max_value_bytes=limit))

    def _retrying(self, records: int) -> None:
        self.on_retry(records)

    def _pump_failed(self, error: BaseException) -> None:
        """Fail what waits rather than let callers wait for ever on a bug of ours."""
        _log.error("pump failed", error=repr(error))
        failure = BrokerUnavailableError(f"the sender failed: {error!r}")
        for call in list(self._calls):
            _fail_rest(call, failure)

    async def _connect(self, deadline_s: float) -> ProducerClient:
        """Start a producer, with backoff until the deadline."""
        end = time.monotonic() + deadline_s
        attempt = 1
        while True:
            client = ProducerClient(
                self._settings.connection(),
                compression=self._settings.compression,
                max_batch_bytes=self._settings.max_batch_bytes,
                metadata_max_age_ms=self._settings.producer_metadata_max_age_ms,
            )
            try:
                await client.start(deadline_s=max(end - time.monotonic(), 0.1))
            except BrokerUnavailableError:
                left = end - time.monotonic()
                if left <= 0:
                    raise
                await asyncio.sleep(min(_RECONNECT.delay(attempt), left))
                attempt += 1
            else:
                return client


def _refusal(
    record: OutgoingRecord,
    index: int,
    partitioner: Partitioner | None,
    unknown: Mapping[str, UnknownTopicError],
) -> PermanentError:
    """Return why a record must not reach the client, where it would do harm."""
    topic, partition = record.topic, record.partition
    if partitioner is None:
        return unknown[topic]
    if partition is not None and not 0 <= partition < partitioner.count:
        return UnknownTopicError(
            f"{topic} has partitions 0 to {partitioner.count - 1}, not {partition}", topic=topic
        )
    for name, part in (("key", record.key), ("value", record.value)):
        if part is not None and type(part) is not bytes:
            return InvalidEventError(
                f"record {index} for {topic}: {name} must be bytes, got {type(part).__name__}",
                field=name,
            )
    size, limit = len(record.value or b""), partitioner.max_value_bytes
    return MessageTooLargeError(
        f"record {index} for {topic} has {size:,} bytes; the limit is {limit:,}",
        size_bytes=size,
        limit_bytes=limit,
    )


def _ignore(_records: int) -> None:
    """Do nothing."""


def _unknown(topic: str) -> UnknownTopicError:
    return UnknownTopicError(
        f"topic {topic} does not exist on the cluster; publishing never creates one: "
        f"add it to the catalogue and run `spile topics apply`",
        topic=topic,
    )


def _fail_rest(call: Call, error: SpileError) -> None:
    """Fail what neither an acknowledgement nor an error has reached."""
    known = set(call.receipt.positions()) | set(call.receipt.failures)
    total = len(known) + call.remaining
    call.settle([index for index in range(total) if index not in known], error)
