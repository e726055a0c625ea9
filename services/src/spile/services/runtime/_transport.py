"""The bus that a worker process reads, and where it keeps dead letters."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from spile.adapters.kafka import KafkaEventBusAdapter, KafkaSettings
from spile.adapters.subscribing import SubscriptionOptions
from spile.services.runtime._settings import WorkerSettings


@contextlib.asynccontextmanager
async def open_kafka(
    kafka: KafkaSettings, settings: WorkerSettings, *, group: str
) -> AsyncGenerator[KafkaEventBusAdapter]:
    """
    Open the bus on Kafka for a worker process.

    Args:
        kafka: How to connect.
        settings: Of the process.
        group: Named in dead letters.
    """
    adapter = KafkaEventBusAdapter(
        kafka, group=group, options=SubscriptionOptions(stall_after_s=settings.stall_after_s)
    )
    try:
        yield adapter
    finally:
        await adapter.close()
