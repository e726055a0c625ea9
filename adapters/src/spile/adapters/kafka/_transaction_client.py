# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportPrivateUsage=false
# aiokafka ships no types; the `*_client.py` files are where that ends.
"""One transactional aiokafka producer behind types."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from aiokafka.errors import InvalidProducerEpoch, ProducerFenced

from spile.adapters.delivery._records import OutgoingRecord
from spile.adapters.delivery._transactions import FencedError
from spile.adapters.kafka._client import Connection, deadline
from spile.adapters.kafka._producer_client import ProducerClient
from spile.spi import SpileError
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
        producer, limit_s = self._producer, _COMMIT_SHARE * self._request_timeout_s
        with _fencing(self._id):
            async with deadline(_TRANSACTION_MS / 2000, "writing in a transaction"):
                await producer.begin_transaction()
                sent = [
                    await producer.send(
                        record.topic,
                        key=record.key,
                        value=record.value,
                        headers=list(record.headers),
                        partition=record.partition,
                    )
                    for record in records
                ]
                # The client would commit without a record whose send failed unseen.
                await asyncio.gather(*sent)
            async with deadline(limit_s, "committing a transaction"):
                await producer.commit_transaction()


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
