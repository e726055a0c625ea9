"""Contestants that consume, each at least once, with commits after handling."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

from bench.events import ENVIRONMENT, SERVICE, TOPIC

Timed = Callable[[], Awaitable[None]]
FETCH_BYTES = 1 << 20


async def _raw_getmany(bootstrap: str, count: int, handle: Callable[[object], None]) -> Timed:
    from aiokafka import AIOKafkaConsumer

    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=bootstrap,
        group_id=f"bench-{uuid.uuid4()}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    await consumer.start()

    async def run() -> None:
        seen = 0
        while seen < count:
            polled = await consumer.getmany(timeout_ms=200, max_records=5000)
            for batch in polled.values():
                for record in batch:
                    handle(record)
                seen += len(batch)
            if polled:
                await consumer.commit()

    run.close = consumer.stop
    return run


async def raw_getmany(bootstrap: str, count: int) -> Timed:
    """`getmany` and `commit`; the handler looks at the bytes."""
    total = [0]

    def handle(record) -> None:
        total[0] += len(record.value)

    return await _raw_getmany(bootstrap, count, handle)


async def raw_getmany_orjson(bootstrap: str, count: int) -> Timed:
    """The same with `orjson.loads` of every value: decoded, not validated."""
    import orjson

    total = [0]

    def handle(record) -> None:
        total[0] += len(orjson.loads(record.value)["event_id"])

    return await _raw_getmany(bootstrap, count, handle)


async def _spile(bootstrap: str, count: int, handle: Callable[[object], None]) -> Timed:
    from spile.adapters.kafka import KafkaEventBusAdapter, KafkaSettings
    from spile.topics import default_catalogue

    adapter = KafkaEventBusAdapter(
        KafkaSettings(bootstrap_servers=bootstrap, environment=ENVIRONMENT),
        default_catalogue(services=(SERVICE,)),
        group="bench",
    )
    seen = [0]
    done = asyncio.Event()

    async def on_batch(batch) -> None:
        for record in batch:
            handle(record)
        seen[0] += len(batch)
        if seen[0] >= count:
            done.set()

    async def run() -> None:
        subscription = await adapter.subscribe_batches([TOPIC], f"bench-{uuid.uuid4()}", on_batch)
        await done.wait()
        await subscription.close()

    run.close = adapter.close
    return run


async def spile_bytes(bootstrap: str, count: int) -> Timed:
    """Batch subscriber; the handler looks at the bytes. Joining the group is in the time."""
    total = [0]

    def handle(record) -> None:
        total[0] += len(record.value)

    return await _spile(bootstrap, count, handle)


async def spile_events(bootstrap: str, count: int) -> Timed:
    """Batch subscriber; the handler reads validated events."""
    from spile.adapters.delivery import EventReader
    from spile.topics import default_catalogue

    read = EventReader(default_catalogue(services=(SERVICE,))).read
    total = [0]

    def handle(record) -> None:
        total[0] += len(read(record).payload.payload.tool_name)

    return await _spile(bootstrap, count, handle)
