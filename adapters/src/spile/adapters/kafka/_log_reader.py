"""Reading the log of Kafka without a group."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from spile.adapters.delivery._backoff import Backoff
from spile.adapters.delivery._log_reader import LogReader
from spile.adapters.kafka._consumer_client import OffsetGoneError, UnreadableRecordError
from spile.adapters.kafka._quarantine import Quarantine
from spile.adapters.kafka._reader_client import ReaderClient
from spile.adapters.kafka._settings import KafkaSettings
from spile.spi import (
    BrokerUnavailableError,
    ClosedError,
    PartitionKey,
    ProtocolRecord,
    RejectedError,
    RetriableError,
    SpileError,
    UnknownTopicError,
)

_log = structlog.get_logger(__name__)

_CLOSE_S = 5.0
_START_BACKOFF = Backoff(initial_s=0.1, factor=2.0, max_s=3.0)
_UNKNOWN_BACKOFF = Backoff(initial_s=0.02, factor=2.0, max_s=0.15, jitter=0.0)
_UNKNOWN_ATTEMPTS = 5
"""A topic made a moment ago may not have reached every broker."""


class KafkaLogReader(LogReader):
    """
    Reads partitions of Kafka from positions that the caller gives; see `LogReader`.

    Args:
        settings: How to connect.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._limit_s = 2 * settings.request_timeout_ms / 1000
        self._client: ReaderClient | None = None
        self._next: dict[PartitionKey, int] = {}
        self._quarantine = Quarantine(self._passed_over)
        self._closed = False
        self.passed_over = 0

    async def partitions(self, topics: Sequence[str]) -> Sequence[PartitionKey]:
        client = await self._connected()
        missing: list[str] = []
        for attempt in range(1, _UNKNOWN_ATTEMPTS + 1):
            counts = await client.partition_counts(deadline_s=self._limit_s)
            missing = [topic for topic in topics if not counts.get(topic)]
            if not missing:
                return [(topic, n) for topic in topics for n in range(counts[topic])]
            await asyncio.sleep(_UNKNOWN_BACKOFF.delay(attempt))
        raise UnknownTopicError(
            f"no such topic on the cluster, or hidden from these credentials: {', '.join(missing)}",
            topic=missing[0],
        )

    async def beginnings(self, partitions: Sequence[PartitionKey]) -> Mapping[PartitionKey, int]:
        client = await self._connected()
        await client.learn(partitions, deadline_s=self._limit_s)
        return await client.beginning_offsets(partitions, deadline_s=self._limit_s)

    async def ends(self, partitions: Sequence[PartitionKey]) -> Mapping[PartitionKey, int]:
        client = await self._connected()
        await client.learn(partitions, deadline_s=self._limit_s)
        return await client.end_offsets(partitions, deadline_s=self._limit_s)

    async def since(
        self, partitions: Sequence[PartitionKey], timestamp_ms: int
    ) -> Mapping[PartitionKey, int]:
        client = await self._connected()
        await client.learn(partitions, deadline_s=self._limit_s)
        ends = await client.end_offsets(partitions, deadline_s=self._limit_s)
        found = await client.offsets_since(
            partitions, max(0, timestamp_ms), deadline_s=self._limit_s
        )
        return {key: min(found.get(key, end), end) for key, end in ends.items()}

    async def open(self, positions: Mapping[PartitionKey, int]) -> None:
        if self._client is not None and not self._is_alive(self._client):
            old, self._client = self._client, None
            await old.close(limit_s=_CLOSE_S)
        self._next = {}
        client = await self._connected()
        if positions:
            client.assign(positions)
        self._next = dict(positions)

    async def poll(
        self, *, timeout_s: float, max_records: int
    ) -> Mapping[PartitionKey, Sequence[ProtocolRecord]]:
        client = await self._connected()
        if not self._is_alive(client):
            raise BrokerUnavailableError("no broker has answered for a session; open it anew")
        if not self._next:
            await asyncio.sleep(timeout_s)
            return {}
        if self._quarantine.is_open:
            return await self._quarantine.poll(
                client, set(self._next), self._next, timeout_s=timeout_s, max_records=max_records
            )
        try:
            taken = await client.poll(timeout_s=timeout_s, max_records=max_records)
        except UnreadableRecordError as exc:
            for key, offset in self._next.items():
                client.seek(key, offset)
            self._quarantine.open()
            _log.warning("unreadable record met", reason=str(exc))
            return {}
        except OffsetGoneError as exc:
            raise await self._offset_gone(client, exc) from exc
        for key, records in taken.items():
            self._next[key] = records[-1].offset + 1
        return taken

    def positions(self) -> Mapping[PartitionKey, int]:
        client = self._client
        reached = dict(self._next)
        if client is not None and not self._quarantine.is_open:
            for key, offset in self._next.items():
                # Behind the last record there may be markers of transactions.
                reached[key] = max(offset, client.position(key) or 0)
        return reached

    async def close(self) -> None:
        self._closed = True
        client, self._client = self._client, None
        self._next = {}
        if client is not None:
            await client.close(limit_s=min(_CLOSE_S, self._settings.close_timeout_ms / 1000))

    def _is_alive(self, client: ReaderClient) -> bool:
        return client.metadata_failing_s() * 1000 <= self._settings.session_timeout_ms

    async def _connected(self) -> ReaderClient:
        if self._closed:
            raise ClosedError("the reader is closed")
        if self._client is None:
            self._client = await self._connect()
        return self._client

    async def _connect(self) -> ReaderClient:
        settings = self._settings
        loop = asyncio.get_running_loop()
        until = loop.time() + settings.start_timeout_ms / 1000
        attempt = 0
        while True:
            # A client that failed to start cannot be started again.
            client = ReaderClient(
                settings.connection(), metadata_max_age_ms=settings.consumer_metadata_max_age_ms
            )
            try:
                await client.start(deadline_s=max(until - loop.time(), 0.1))
            except RetriableError as exc:
                attempt += 1
                left = until - loop.time()
                if left <= 0:
                    raise BrokerUnavailableError(
                        f"no broker answered at {settings.bootstrap_servers} within"
                        f" {settings.start_timeout_ms / 1000:g} s"
                    ) from exc
                await asyncio.sleep(min(_START_BACKOFF.delay(attempt), left))
            else:
                return client

    async def _offset_gone(self, client: ReaderClient, gone: OffsetGoneError) -> SpileError:
        key, offset = gone.partition, gone.offset
        first = (await client.beginning_offsets([key], deadline_s=self._limit_s))[key]
        end = (await client.end_offsets([key], deadline_s=self._limit_s))[key]
        if first <= offset <= end:
            return RetriableError(f"{key[0]}[{key[1]}] does not serve offset {offset} just now")
        return RejectedError(
            f"{key[0]}[{key[1]}] holds offsets {first} to {end}, not {offset}: the topic was made"
            " anew, or its storage was freed",
            code="OFFSET_OUT_OF_RANGE",
        )

    def _passed_over(self, partition: PartitionKey, offset: int) -> None:
        self.passed_over += 1
        _log.error(
            "damaged record passed over", topic=partition[0], partition=partition[1], offset=offset
        )
