"""How to get past records whose bytes cannot be read, without losing their neighbours."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from collections.abc import Set as AbstractSet

from spile.adapters.kafka._consumer_client import ConsumerClient, UnreadableRecordError
from spile.spi import ClosedError, PartitionKey, ProtocolRecord

_OPEN_S = 5.0
_ATTEMPTS = 3


class Quarantine:
    """
    Reads record by record for a while after damage was met.

    The client hands out nothing of a fetch that holds a damaged batch, not even what comes before
    the damage; one at a time it does. An offset is passed over when it could not be read in three
    fetches, so that damage on the wire costs nothing. A checksum covers a batch, so all offsets of
    a damaged batch go, one after the other.

    Args:
        passed_over: Called with each offset that is given up.
    """

    def __init__(self, passed_over: Callable[[PartitionKey, int], None]) -> None:
        self._passed_over = passed_over
        self._until = 0.0
        self._failed: dict[PartitionKey, tuple[int, int]] = {}

    @property
    def is_open(self) -> bool:
        """Whether reading record by record goes on."""
        return time.monotonic() < self._until

    def open(self) -> None:
        """Read record by record for the next 5 s."""
        self._until = time.monotonic() + _OPEN_S

    async def poll(
        self,
        client: ConsumerClient,
        partitions: AbstractSet[PartitionKey],
        following: MutableMapping[PartitionKey, int],
        *,
        timeout_s: float,
        max_records: int,
    ) -> Mapping[PartitionKey, Sequence[ProtocolRecord]]:
        """
        Return what can be read; as `RecordSource.poll`.

        Args:
            client: Consumer to read from.
            partitions: Partitions to read.
            following: Offset to read next, by partition; kept up to date.
            timeout_s: Limit in seconds.
            max_records: Largest number of records to return.
        """
        until = time.monotonic() + timeout_s
        while True:
            taken: dict[PartitionKey, list[ProtocolRecord]] = {}
            left = max_records
            for key in sorted(partitions):
                records = await self._read(client, key, following, left)
                if records:
                    taken[key] = records
                    left -= len(records)
            remaining = until - time.monotonic()
            if taken or remaining <= 0:
                return taken
            await client.wait_for_data(remaining)

    async def _read(
        self,
        client: ConsumerClient,
        key: PartitionKey,
        following: MutableMapping[PartitionKey, int],
        limit: int,
    ) -> list[ProtocolRecord]:
        records: list[ProtocolRecord] = []
        while len(records) < limit:
            try:
                record = await client.take_one(key)
            except UnreadableRecordError:
                with contextlib.suppress(ClosedError):
                    self._failed_at(client, key, following)
                break
            if record is None:
                break
            records.append(record)
            following[key] = record.offset + 1
        return records

    def _failed_at(
        self,
        client: ConsumerClient,
        key: PartitionKey,
        following: MutableMapping[PartitionKey, int],
    ) -> None:
        self.open()
        offset = client.position(key)
        if offset is None:
            return
        before, attempts = self._failed.get(key, (-1, 0))
        attempts = attempts + 1 if before == offset else 1
        if attempts < _ATTEMPTS:
            self._failed[key] = (offset, attempts)
            client.seek(key, offset)
            return
        self._failed.pop(key, None)
        client.seek(key, offset + 1)
        following[key] = offset + 1
        self._passed_over(key, offset)
