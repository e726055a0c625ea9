"""Keeps what the broker refused from a publisher in the dead letter queue of its topic."""

from __future__ import annotations

import time

from typing_extensions import override

from spile.adapters.delivery._dead_letters import DeadLetterQueue
from spile.adapters.delivery._publisher import RefusedKeeper
from spile.adapters.delivery._records import OutgoingRecord, Record
from spile.spi import SpileError


class RefusedEvents(RefusedKeeper):
    """
    Writes refused records to `<topic>.dlq`; partition and offset are -1, since they never had any.

    Args:
        queue: Where to keep them.
        service: Stands in the place of the consumer group.
    """

    def __init__(self, queue: DeadLetterQueue, *, service: str) -> None:
        self._queue = queue
        self._service = service

    @override
    async def keep_refused(self, record: OutgoingRecord, error: SpileError) -> None:
        """
        Write a refused record, acknowledged on return.

        Raises:
            SpileError: It could not be kept.
        """
        never_written = Record(
            topic=record.topic,
            partition=-1,
            offset=-1,
            timestamp=int(time.time() * 1000),
            key=record.key,
            value=record.value,
            headers=tuple(record.headers),
        )
        await self._queue.keep(never_written, error, group=f"publisher.{self._service}", attempts=1)
