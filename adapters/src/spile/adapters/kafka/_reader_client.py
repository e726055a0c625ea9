# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportPrivateUsage=false
# aiokafka ships no types; the `*_client.py` files are where that ends.
"""One aiokafka consumer without a group: the caller assigns partitions and positions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from spile.adapters.kafka._client import Connection, deadline, finish, pin_log_levels
from spile.adapters.kafka._consumer_client import ConsumerClient
from spile.adapters.kafka._errors import translated
from spile.spi import PartitionKey


class ReaderClient(ConsumerClient):
    """
    A consumer that is in no group; what a `ConsumerClient` does but `join`, `commit`, `committed`.

    Args:
        connection: How to connect.
        metadata_max_age_ms: How old the client's view of leaders may get.
    """

    def __init__(self, connection: Connection, *, metadata_max_age_ms: int) -> None:
        self._connection = connection
        self._request_s = connection.request_timeout_ms / 1000
        self._group_id = "-"
        self._consumer: Any = AIOKafkaConsumer(
            **connection.arguments(),
            group_id=None,
            request_timeout_ms=connection.request_timeout_ms,
            retry_backoff_ms=connection.retry_backoff_ms,
            metadata_max_age_ms=metadata_max_age_ms,
            auto_offset_reset="none",
            enable_auto_commit=False,
            isolation_level="read_committed",
            max_partition_fetch_bytes=1 << 20,
            fetch_max_bytes=8 << 20,
            check_crcs=True,
        )
        pin_log_levels()

    async def partition_counts(self, *, deadline_s: float) -> Mapping[str, int]:
        """
        Return how many partitions each topic has; no name enters the client's own list.

        Raises:
            SpileError: No broker answered.
        """
        async with deadline(deadline_s, "reading the topics of the cluster"):
            cluster = await self._consumer._client.fetch_all_metadata()
        return {name: len(cluster.partitions_for_topic(name) or ()) for name in cluster.topics()}

    async def learn(self, partitions: Sequence[PartitionKey], *, deadline_s: float) -> None:
        """
        Ask for the leaders of all these partitions at once.

        The client by itself asks topic by topic, with a pause after each.

        Raises:
            SpileError: No answer in time.
        """
        client = self._consumer._client
        unknown = {
            topic
            for topic, number in partitions
            if client.cluster.leader_for_partition(TopicPartition(topic, number)) is None
        }
        asked = [client.add_topic(topic) for topic in unknown]
        if asked:
            async with deadline(deadline_s, "reading the leaders of partitions"):
                await asyncio.wait(asked)

    async def offsets_since(
        self, partitions: Sequence[PartitionKey], timestamp_ms: int, *, deadline_s: float
    ) -> Mapping[PartitionKey, int]:
        """
        Return the first offset of a time or later; a partition whose records are older is left out.

        Raises:
            SpileError: No answer in time.
        """
        if not partitions:
            return {}
        async with deadline(deadline_s, "reading offsets by time"):
            found = await self._consumer.offsets_for_times(
                {TopicPartition(*key): timestamp_ms for key in partitions}
            )
        return {tuple(key): entry.offset for key, entry in found.items() if entry is not None}

    def assign(self, positions: Mapping[PartitionKey, int]) -> None:
        """Hand out these partitions from these offsets on, and nothing else."""
        with translated("assigning partitions"):
            self._consumer.assign([TopicPartition(*key) for key in positions])
            # Before the loop turns, so that the client never looks for offsets itself.
            for key, offset in positions.items():
                self._consumer.seek(TopicPartition(*key), offset)

    async def _cut(self) -> None:
        consumer = self._consumer
        consumer._closed = True
        leftovers: list[asyncio.Task[Any] | None] = [consumer._client._sync_task]
        if consumer._coordinator is not None:
            leftovers.append(consumer._coordinator._reset_committed_task)
        if consumer._fetcher is not None:
            leftovers += [consumer._fetcher._fetch_task, *consumer._fetcher._pending_tasks]
        await finish(leftovers)
        for connection in list(consumer._client._conns.values()):
            connection.close()
