"""Contestants that publish. Each takes ready input and returns when all is acknowledged."""

import asyncio
from collections.abc import Awaitable, Callable

from bench.events import ENVIRONMENT, SERVICE, TOPIC, events, records

OUTSTANDING = 500
CHUNK = 1000
BATCH_BYTES = 131_072
Timed = Callable[[], Awaitable[None]]


def _kafka_options(bootstrap: str) -> dict:
    return {
        "bootstrap_servers": bootstrap,
        "acks": "all",
        "enable_idempotence": True,
        "max_batch_size": BATCH_BYTES,
        "linger_ms": 5,
        "request_timeout_ms": 10_000,
    }


async def raw_send(bootstrap: str, count: int, *, given_partition: bool = False) -> Timed:
    """`AIOKafkaProducer.send`, futures gathered by the thousand."""
    from aiokafka import AIOKafkaProducer

    ready = records(count)
    producer = AIOKafkaProducer(**_kafka_options(bootstrap))
    await producer.start()
    partitions = len(await producer.partitions_for(TOPIC))

    async def run() -> None:
        for start in range(0, count, CHUNK):
            futures = []
            for index, record in enumerate(ready[start : start + CHUNK]):
                partition = index % partitions if given_partition else None
                futures.append(
                    await producer.send(
                        TOPIC, record.value, record.key, partition, headers=record.headers
                    )
                )
            await asyncio.gather(*futures)

    run.close = producer.stop
    return run


async def raw_send_given_partition(bootstrap: str, count: int) -> Timed:
    """The same with the partition given, so without the key's hash."""
    return await raw_send(bootstrap, count, given_partition=True)


async def raw_send_batch(bootstrap: str, count: int) -> Timed:
    """`create_batch` and `send_batch`, partitions in turn: no key, no future per record."""
    from aiokafka import AIOKafkaProducer

    ready = records(count)
    producer = AIOKafkaProducer(**_kafka_options(bootstrap))
    await producer.start()
    partitions = sorted(await producer.partitions_for(TOPIC))

    async def run() -> None:
        futures, turn = [], 0
        batch = producer.create_batch()
        for record in ready:
            while (
                batch.append(
                    timestamp=None, key=record.key, value=record.value, headers=record.headers
                )
                is None
            ):
                partition = partitions[turn % len(partitions)]
                futures.append(await producer.send_batch(batch, TOPIC, partition=partition))
                batch, turn = producer.create_batch(), turn + 1
        futures.append(await producer.send_batch(batch, TOPIC, partition=partitions[0]))
        await asyncio.gather(*futures)

    run.close = producer.stop
    return run


async def raw_send_and_wait(bootstrap: str, count: int) -> Timed:
    """500 tasks, each awaiting `send_and_wait`."""
    from aiokafka import AIOKafkaProducer

    ready = records(count)
    producer = AIOKafkaProducer(**_kafka_options(bootstrap))
    await producer.start()

    async def one(record) -> None:
        await producer.send_and_wait(TOPIC, record.value, record.key, headers=record.headers)

    async def run() -> None:
        await _outstanding(ready, one)

    run.close = producer.stop
    return run


async def _outstanding(items: list, one: Callable[[object], Awaitable[object]]) -> None:
    """Keep 500 calls under way."""
    position = iter(items)

    async def worker() -> None:
        for item in position:
            await one(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(OUTSTANDING):
            group.create_task(worker())


def _publisher(bootstrap: str):
    from spile.adapters.kafka import KafkaSettings, create_publisher
    from spile.topics import default_catalogue

    return create_publisher(
        KafkaSettings(bootstrap_servers=bootstrap, environment=ENVIRONMENT),
        default_catalogue(services=(SERVICE,)),
        service=SERVICE,
    )


async def spile_publish_many(bootstrap: str, count: int) -> Timed:
    """`publish_many` by the thousand, from plain mappings: validation, envelope, headers."""
    ready = events(count)
    publisher = _publisher(bootstrap)
    await publisher.publish_event(ready[0])

    async def run() -> None:
        for start in range(0, count, CHUNK):
            assert all(await publisher.publish_many(ready[start : start + CHUNK]))

    run.close = publisher.close
    return run


async def spile_publish(bootstrap: str, count: int) -> Timed:
    """`publish` with 500 outstanding, from plain mappings."""
    ready = events(count)
    publisher = _publisher(bootstrap)
    await publisher.publish_event(ready[0])

    async def one(event) -> None:
        assert await publisher.publish(event.event_type, event.payload)

    async def run() -> None:
        await _outstanding(ready, one)

    run.close = publisher.close
    return run


async def faststream_publish(bootstrap: str, count: int) -> Timed:
    """FastStream `publish(no_confirm=True)`, futures gathered by the thousand."""
    from faststream.kafka import KafkaBroker

    ready = records(count)
    broker = KafkaBroker(
        bootstrap,
        acks="all",
        enable_idempotence=True,
        max_batch_size=BATCH_BYTES,
        linger_ms=5,
        logger=None,
    )
    await broker.start()

    async def run() -> None:
        for start in range(0, count, CHUNK):
            futures = [
                await broker.publish(
                    record.value,
                    topic=TOPIC,
                    key=record.key,
                    headers={name: value.decode() for name, value in record.headers},
                    no_confirm=True,
                )
                for record in ready[start : start + CHUNK]
            ]
            await asyncio.gather(*futures)

    run.close = broker.stop
    return run


async def confluent_produce(bootstrap: str, count: int) -> Timed:
    """librdkafka `produce` with a delivery callback for each record."""
    from confluent_kafka import Producer

    ready = records(count)
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 5,
            "batch.size": BATCH_BYTES,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    delivered = [0]

    def on_delivery(error, _message) -> None:
        assert error is None, error
        delivered[0] += 1

    async def run() -> None:
        before = delivered[0]
        for record in ready:
            producer.produce(
                TOPIC, record.value, record.key, headers=record.headers, on_delivery=on_delivery
            )
            producer.poll(0)
        producer.flush()
        assert delivered[0] - before == count

    async def close() -> None:
        producer.flush()

    run.close = close
    return run


CASES = {
    "aiokafka send": raw_send,
    "aiokafka send, partition given": raw_send_given_partition,
    "aiokafka send_batch": raw_send_batch,
    "aiokafka send_and_wait, 500 outstanding": raw_send_and_wait,
    "spile publish_many": spile_publish_many,
    "spile publish, 500 outstanding": spile_publish,
    "FastStream publish": faststream_publish,
    "confluent-kafka produce": confluent_produce,
}
