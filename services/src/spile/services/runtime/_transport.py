"""The bus that a worker process reads, and where it keeps dead letters."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable

from spile.adapters.kafka import KafkaEventBusAdapter, KafkaSettings
from spile.adapters.subscribing import SubscriptionOptions
from spile.services.runtime._settings import WorkerSettings


@contextlib.asynccontextmanager
async def open_kafka(
    kafka: KafkaSettings,
    settings: WorkerSettings,
    *,
    group: str,
    scrub: Callable[[str], str] | None = None,
) -> AsyncGenerator[KafkaEventBusAdapter]:
    """
    Open the bus on Kafka for a worker process.

    Args:
        kafka: How to connect.
        settings: Of the process.
        group: Named in dead letters.
        scrub: Takes secrets out of errors in dead letters; by the built-in rules by default.
    """
    adapter = KafkaEventBusAdapter(
        kafka,
        group=group,
        options=SubscriptionOptions(stall_after_s=settings.stall_after_s),
        scrub=scrub,
    )
    try:
        yield adapter
    finally:
        await adapter.close()
