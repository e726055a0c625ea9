# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportPrivateUsage=false
# aiokafka ships no types; this file and `_client.py` are where that ends.
"""One aiokafka producer behind types: batches in, futures of offsets out, a deadline everywhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    UnknownError,
)
from typing_extensions import override

from spile.adapters.delivery._records import OutgoingRecord
from spile.adapters.kafka._client import Connection, deadline, pin_log_levels, refusal
from spile.adapters.kafka._errors import translate, translated
from spile.spi import BrokerUnavailableError, SpileError

_POISON = (
    OutOfOrderSequenceNumber,
    ProducerFenced,
    ProducerClosed,
    UnknownError,
    IllegalStateError,
)


class _Forgiving(set[Any]):
    """
    The client's list of batches under way, which lets what is gone be removed again.

    A batch that waits for another attempt is not in the list; failing it then makes the client
    remove it all the same, and the KeyError would end whoever awaits the client's teardown.
    """

    @override
    def remove(self, element: Any, /) -> None:
        self.discard(element)


class Batch:
    """
    A batch being filled.

    Appends to the record builder below aiokafka's own wrapper, which costs as much again per
    record; a probe test watches that both write the same bytes.
    """

    __slots__ = ("_builder", "_count")

    def __init__(self, builder: Any) -> None:
        self._builder = builder
        self._count = 0

    def fill(self, records: Sequence[OutgoingRecord], start: int, now_ms: int) -> int:
        """Append records from `start` on; return the position of the first that found no room."""
        append = self._builder._builder.append
        count = self._count
        position = start
        for record in records if start == 0 else records[start:]:
            if (
                append(count, now_ms, key=record.key, value=record.value, headers=record.headers)
                is None
            ):
                break
            count += 1
            position += 1
        self._count = count
        self._builder._relative_offset = count
        return position

    def close(self) -> Any:
        """Take no more records; return what the client sends."""
        self._builder.close()
        return self._builder


class ProducerClient:
    """
    One idempotent producer with `acks=all`, for one generation.

    After an error in `is_poisoned` it must be aborted and replaced: an idempotent producer does not
    recover from a gap in its sequence numbers (aiokafka #1017), nor from fencing or a fatal state.

    Args:
        connection: How to reach the brokers.
        compression: Codec name, or `none`.
        max_batch_bytes: Size of a batch before compression.
        metadata_max_age_ms: How old the client's view of leaders may get.
        more: Other arguments of the client.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        compression: str,
        max_batch_bytes: int,
        metadata_max_age_ms: int,
        **more: Any,
    ) -> None:
        self._connection = connection
        self._producer = AIOKafkaProducer(
            **connection.arguments(),
            acks="all",
            enable_idempotence=True,
            compression_type=None if compression == "none" else compression,
            max_batch_size=max_batch_bytes,
            linger_ms=0,
            request_timeout_ms=connection.request_timeout_ms,
            retry_backoff_ms=connection.retry_backoff_ms,
            metadata_max_age_ms=metadata_max_age_ms,
            **more,
        )
        self._request_timeout_s = connection.request_timeout_ms / 1000
        pin_log_levels()
        self.dead = asyncio.Event()

    async def start(self, *, deadline_s: float) -> None:
        """
        Connect once.

        Raises:
            SpileError: It did not work within the deadline; the client is gone.
        """
        try:
            async with asyncio.timeout(deadline_s):
                await self._producer.start()
        except BaseException as exc:
            await self.abort()
            current = asyncio.current_task()
            if isinstance(exc, asyncio.CancelledError) and current and current.cancelling():
                raise
            raise await self._start_failure(exc) from exc

    async def _start_failure(self, error: BaseException) -> SpileError:
        """Tell refused credentials from brokers that are away."""
        failure = translate(error, doing="connecting the producer")
        if isinstance(failure, BrokerUnavailableError):
            reason = await refusal(self._connection)
            if reason is not None:
                return translate(reason, doing="connecting the producer")
        return failure

    async def partition_count(self, topic: str, *, deadline_s: float) -> int | None:
        """
        Return how many partitions a topic has; None when there is no such topic.

        Asks for all topics, so that an unknown name never enters the client's own list, where it
        would stay (PITFALLS: rejected names pile up in `client._topics`).

        Raises:
            SpileError: No broker answered within the deadline.
        """
        known = self._producer.client.cluster.partitions_for_topic(topic)
        if known:
            return len(known)
        async with deadline(deadline_s, "reading the topics of the cluster"):
            cluster = await self._producer.client.fetch_all_metadata()
        partitions = cluster.partitions_for_topic(topic)
        return len(partitions) if partitions else None

    def known_partition_count(self, topic: str) -> int | None:
        """Return the partition count as of the last metadata refresh, without asking."""
        known = self._producer.client.cluster.partitions_for_topic(topic)
        return len(known) if known else None

    def new_batch(self) -> Batch:
        """Return an empty batch."""
        return Batch(self._producer.create_batch())

    async def submit(self, batch: Batch, topic: str, partition: int) -> int:
        """
        Send a batch and return the offset of its first record.

        Has no deadline of its own: the caller sets one, and aborts the client when it passes, since
        the batch may otherwise be delivered later.

        Raises:
            SpileError: Refused or failed, see `translate`.
        """
        try:
            with translated(f"sending to {topic}[{partition}]"):
                future = await self._producer.send_batch(batch.close(), topic, partition=partition)
                metadata = await future
        except SpileError as exc:
            if is_poisoned(exc.__cause__):
                self.dead.set()
            raise
        return int(metadata.offset)

    async def close(self, *, deadline_s: float) -> None:
        """Flush and disconnect; past the deadline it is aborted."""
        self.dead.set()
        with contextlib.suppress(TimeoutError, KafkaError, OSError, AssertionError):
            async with asyncio.timeout(deadline_s):
                await self._producer.stop()
                return
        await self.abort()

    async def abort(self) -> None:
        """
        Drop the producer without a flush; what it still holds will not be sent by it.

        Its own `stop` waits for pending batches without limit while brokers are away (PITFALLS P5),
        so the connections are closed first, and each step is bounded.
        """
        self.dead.set()
        producer = self._producer
        producer._closed = True
        accumulator = producer._message_accumulator
        accumulator._pending_batches = _Forgiving(accumulator._pending_batches)
        accumulator.fail_all(ProducerClosed())
        accumulator._batches.clear()
        for step in (producer.client.close, producer._sender.close):
            await _bounded(step, self._request_timeout_s)


async def _bounded(step: Callable[[], Awaitable[object]], limit_s: float) -> None:
    """Do one step of a teardown; only a cancellation from outside gets through."""
    try:
        async with asyncio.timeout(limit_s):
            await step()
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
    except (KafkaError, OSError, RuntimeError, AssertionError):
        pass


def is_poisoned(error: BaseException | None) -> bool:
    """Say whether a producer that raised this, or cancelled itself, must be replaced."""
    return isinstance(error, (*_POISON, AssertionError, asyncio.CancelledError))
