# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportPrivateUsage=false
# aiokafka ships no types; the `*_client.py` files are where that ends.
"""One transactional aiokafka producer behind types."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from aiokafka.errors import InvalidProducerEpoch, ProducerFenced

from spile.adapters.delivery._records import OutgoingRecord
from spile.adapters.delivery._transactions import FencedError
from spile.adapters.kafka._client import Connection, deadline
from spile.adapters.kafka._partitioner import partition_hash
from spile.adapters.kafka._producer_client import Batch, ProducerClient
from spile.spi import PartitionKey, SpileError, UnknownTopicError
from spile.topics import MAX_DLQ_MESSAGE_BYTES

_TRANSACTION_MS = 10_000
"""After this the broker ends a transaction itself; an open one holds up committed readers."""

_COMMIT_SHARE = 0.8
"""A commit that is waited for longer than a request may arrive after the next has begun."""


class TransactionClient(ProducerClient):
    """
    A producer that writes in transactions; starting it fences whoever had the same id.

    After any error it must be aborted: `start` a new one, which settles what was left open.

    Args:
        connection: How to reach the brokers.
        transactional_id: Name of the transactions.
        compression: Codec name, or `none`.
        metadata_max_age_ms: How old the client's view of leaders may get.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        transactional_id: str,
        compression: str,
        metadata_max_age_ms: int,
    ) -> None:
        super().__init__(
            connection,
            compression=compression,
            max_batch_bytes=MAX_DLQ_MESSAGE_BYTES,
            metadata_max_age_ms=metadata_max_age_ms,
            transactional_id=transactional_id,
            transaction_timeout_ms=_TRANSACTION_MS,
            max_request_size=2 * MAX_DLQ_MESSAGE_BYTES,
        )
        self._id = transactional_id

    async def write(self, records: Sequence[OutgoingRecord]) -> None:
        """
        Write records to topics that exist, all or none.

        Raises:
            FencedError: Somebody else started a producer of this id.
            SpileError: Refused, or no answer in time.
        """
        limit_s = _COMMIT_SHARE * self._request_timeout_s
        with _fencing(self._id):
            async with deadline(_TRANSACTION_MS / 2000, "writing in a transaction"):
                await self._producer.begin_transaction()
                batches = await self._batches(records)
                sent = await asyncio.gather(
                    *(self.submit(batch, *place) for place, batch in batches),
                    return_exceptions=True,
                )
            # The client would commit without a record whose send failed unseen.
            for outcome in sent:
                if isinstance(outcome, BaseException):
                    raise outcome
            async with deadline(limit_s, "committing a transaction"):
                await self._producer.commit_transaction()

    async def _batches(self, records: Sequence[OutgoingRecord]) -> list[tuple[PartitionKey, Batch]]:
        """Return the records by partition; the client's own `send` refuses what has no bytes."""
        groups: dict[PartitionKey, list[OutgoingRecord]] = {}
        for record in records:
            groups.setdefault(await self._place(record), []).append(record)
        batches: list[tuple[PartitionKey, Batch]] = []
        now_ms = time.time_ns() // 1_000_000
        for place, group in groups.items():
            start = 0
            while start < len(group):
                batch = self.new_batch()
                start = batch.fill(group, start, now_ms)
                batches.append((place, batch))
        return batches

    async def _place(self, record: OutgoingRecord) -> PartitionKey:
        count = await self.partition_count(record.topic, deadline_s=self._request_timeout_s)
        if count is None:
            raise UnknownTopicError(f"there is no topic {record.topic}", topic=record.topic)
        if record.partition is not None:
            return record.topic, record.partition
        if record.key is None:
            return record.topic, random.randrange(count)  # noqa: S311 - spreads load, no secret
        return record.topic, partition_hash(record.key) % count


@contextmanager
def _fencing(transactional_id: str) -> Generator[None]:
    try:
        yield
    except SpileError as exc:
        if isinstance(exc.__cause__, (ProducerFenced, InvalidProducerEpoch)):
            raise FencedError(
                f"somebody else has taken {transactional_id} over; nothing was written"
            ) from exc
        raise
