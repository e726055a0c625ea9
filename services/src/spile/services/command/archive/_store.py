"""An event store as the target of a replay: its rows are those that the worker would have made."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from spile.adapters.delivery import Record
from spile.services.archiver.reading import ReplayTarget, Written
from spile.services.persistence import Decoder, Run, SqliteEventStore
from spile.spi import PartitionKey


class StoreTarget(ReplayTarget):
    """
    Stores records as the persistence worker does, by the same decoder.

    Args:
        store: Open; the caller's to close.
        decoder: Makes rows.
        moves_offsets: Whether the store's offsets follow, so that the worker goes on at exactly the
            first offset that is not archived; then what the store has by its offsets is left out.
            Else rows are added by their event id alone, and the worker's offsets stay.
    """

    def __init__(self, store: SqliteEventStore, decoder: Decoder, *, moves_offsets: bool) -> None:
        self._store = store
        self._decoder = decoder
        self._moves_offsets = moves_offsets

    async def position(self, partition: PartitionKey) -> int | None:
        """Return the stored offset, when offsets follow."""
        if not self._moves_offsets:
            return None
        return (await self._store.next_offsets([partition])).get(partition)

    async def write(
        self, partition: PartitionKey, records: Sequence[Record], *, first: int, end: int
    ) -> Written:
        """
        Store records and the offset behind them in one transaction; see `ReplayTarget`.

        What cannot be decoded is refused: the worker put it into the dead letter queue.

        Raises:
            RetriableError: The store or the schema registry is away; nothing was stored.
            StaleOffsetsError: Somebody else writes the store.
            StoreDamagedError: The store cannot be trusted.
        """
        await self._decoder.prepare(records)
        decoded = await asyncio.to_thread(self._decoder.decode, records)
        rows = [row for run in decoded.runs for row in run.rows]
        if self._moves_offsets:
            run = Run(partition=partition, first=first, next=end, rows=rows)
            inserted = (await self._store.append([run])).inserted
        else:
            inserted = await self._store.insert(rows)
        written = Written(written=inserted, repeats=len(rows) - inserted, ignored=decoded.ignored)
        for record, error in decoded.poison:
            written.refuse(record, error)
        return written
