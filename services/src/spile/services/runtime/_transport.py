"""The bus that a worker process reads, and where it keeps dead letters."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from spile.adapters.delivery import BusAdapter, SubscriptionOptions
from spile.adapters.kafka import KafkaSender, KafkaSettings, KafkaSource
from spile.services.runtime._settings import WorkerSettings


@contextlib.asynccontextmanager
async def open_kafka(
    kafka: KafkaSettings, settings: WorkerSettings, *, group: str
) -> AsyncGenerator[BusAdapter]:
    """
    Open the bus on Kafka for a worker process.

    Args:
        kafka: How to connect.
        settings: Of the process.
        group: Named in dead letters.
    """
    adapter = BusAdapter(
        KafkaSender(kafka),
        lambda topics, group_id: KafkaSource(kafka, topics, group_id),
        environment=kafka.environment,
        group=group,
        options=SubscriptionOptions(stall_after_s=settings.stall_after_s),
    )
    try:
        yield adapter
    finally:
        await adapter.close()
