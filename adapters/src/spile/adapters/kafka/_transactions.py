"""Transactions on Kafka, with what its client leaves to its users."""

from __future__ import annotations

from collections.abc import Sequence

from spile.adapters.delivery._records import OutgoingRecord
from spile.adapters.delivery._transactions import RecordTransactions
from spile.adapters.kafka._settings import KafkaSettings
from spile.adapters.kafka._transaction_client import TransactionClient
from spile.spi import ClosedError


class KafkaTransactions(RecordTransactions):
    """
    Writes records to Kafka in transactions; see `RecordTransactions`.

    Args:
        settings: How to connect.
        name: The transactional.id; whoever claims it last fences the others.
    """

    def __init__(self, settings: KafkaSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._client: TransactionClient | None = None

    async def claim(self) -> None:
        await self.close()
        settings = self._settings
        client = TransactionClient(
            settings.connection(),
            transactional_id=self._name,
            compression=settings.compression,
            metadata_max_age_ms=settings.producer_metadata_max_age_ms,
        )
        await client.start(deadline_s=settings.start_timeout_ms / 1000)
        self._client = client

    async def write(self, records: Sequence[OutgoingRecord]) -> None:
        client = self._client
        if client is None:
            raise ClosedError(f"the transactions {self._name} are not claimed; nothing was written")
        try:
            await client.write(records)
        except BaseException:
            # A producer does not recover from a lost commit, an expired transaction or fencing; an
            # end of a transaction that comes late could also commit half of the next one.
            await self.close()
            raise

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.abort()
