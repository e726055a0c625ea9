"""Contestants that consume, each at least once, with commits after handling."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable

from bench.events import ENVIRONMENT, SERVICE, TOPIC

Timed = Callable[[], Awaitable[None]]
FETCH_BYTES = 1 << 20


class Stopwatch:
    """
    Runs from the first batch to the last record, so that joining the group is nobody's time.

    Attributes:
        counted: Records after the first batch.
        seconds: Wall time for these.
        cpu_seconds: CPU time of this process for these.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._seen = 0
        self._started = (0.0, 0.0)
        self.counted = 0
        self.seconds = 0.0
        self.cpu_seconds = 0.0

    def saw(self, records: int) -> bool:
        """Note a handled batch; return whether all are handled."""
        now = (time.perf_counter(), time.process_time())
        if self._seen == 0:
            self._started = now
        else:
            self.counted += records
        self._seen += records
        self.seconds = now[0] - self._started[0]
        self.cpu_seconds = now[1] - self._started[1]
        return self._seen >= self._count


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
        watch = run.watch = Stopwatch(count)
        done = False
        while not done:
            polled = await consumer.getmany(timeout_ms=200, max_records=5000)
            for batch in polled.values():
                for record in batch:
                    handle(record)
            if polled:
                await consumer.commit()
                done = watch.saw(sum(map(len, polled.values())))

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

    async def run() -> None:
        watch = run.watch = Stopwatch(count)
        done = asyncio.Event()

        async def on_batch(batch) -> None:
            for record in batch:
                handle(record)
            if watch.saw(len(batch)):
                done.set()

        subscription = await adapter.subscribe_batches([TOPIC], f"bench-{uuid.uuid4()}", on_batch)
        finished = asyncio.ensure_future(done.wait())
        ended = asyncio.ensure_future(subscription.wait())
        await asyncio.wait({finished, ended}, return_when=asyncio.FIRST_COMPLETED)
        assert finished.done(), subscription.failure
        await subscription.close()
        await ended

    run.close = adapter.close
    return run


async def spile_bytes(bootstrap: str, count: int) -> Timed:
    """Batch subscriber; the handler looks at the bytes."""
    total = [0]

    def handle(record) -> None:
        total[0] += len(record.value)

    return await _spile(bootstrap, count, handle)


async def spile_events(bootstrap: str, count: int) -> Timed:
    """Batch subscriber; the handler reads validated events."""
    from spile.adapters.subscribing import EventReader
    from spile.topics import default_catalogue

    read = EventReader(default_catalogue(services=(SERVICE,))).read
    total = [0]

    def handle(record) -> None:
        total[0] += len(read(record).data.payload.tool_name)

    return await _spile(bootstrap, count, handle)


async def faststream_batch(bootstrap: str, count: int) -> Timed:
    """FastStream batch subscriber, raw bytes, its own commits."""
    from faststream import AckPolicy
    from faststream.kafka import KafkaBroker

    total = [0]
    broker = KafkaBroker(bootstrap, logger=None)
    watch = Stopwatch(count)
    done = asyncio.Event()

    @broker.subscriber(
        TOPIC,
        batch=True,
        group_id=f"bench-{uuid.uuid4()}",
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.ACK,
        max_records=5000,
        max_partition_fetch_bytes=FETCH_BYTES,
        decoder=lambda message: message.body,
    )
    async def handle(batch: list) -> None:
        for value in batch:
            total[0] += len(value)
        if watch.saw(len(batch)):
            done.set()

    async def run() -> None:
        run.watch = watch
        await broker.start()
        await done.wait()

    run.close = broker.stop
    return run


async def confluent_consume(bootstrap: str, count: int) -> Timed:
    """librdkafka `consume` and `commit`; the handler looks at the bytes."""
    from confluent_kafka import Consumer

    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"bench-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "max.partition.fetch.bytes": FETCH_BYTES,
        }
    )
    consumer.subscribe([TOPIC])
    total = [0]

    async def run() -> None:
        watch = run.watch = Stopwatch(count)
        done = False
        while not done:
            batch = consumer.consume(5000, timeout=0.2)
            for message in batch:
                total[0] += len(message.value())
            if batch:
                consumer.commit(asynchronous=False)
                done = watch.saw(len(batch))

    async def close() -> None:
        consumer.close()

    run.close = close
    return run


CASES = {
    "aiokafka getmany, bytes": raw_getmany,
    "aiokafka getmany + orjson": raw_getmany_orjson,
    "spile batches, bytes": spile_bytes,
    "spile batches, validated events": spile_events,
    "FastStream batches, bytes": faststream_batch,
    "confluent-kafka consume, bytes": confluent_consume,
}
