"""
Not meant to be executed: what type checkers must accept of the public API.

pyright (strict) and mypy read it in `make check`.
"""

from collections.abc import Sequence

from spile.adapters.delivery import OutgoingEvent, RecordSender, RecordSource
from spile.adapters.kafka import (
    KafkaClient,
    KafkaEventBus,
    KafkaEventBusAdapter,
    KafkaSender,
    KafkaSettings,
    KafkaSource,
    RedpandaEventBusAdapter,
    create_event_publisher,
)
from spile.adapters.memory import MemoryCluster, MemoryEventBus
from spile.adapters.publishing import EventPublisher
from spile.spi import (
    ProtocolBatchPublisher,
    ProtocolBatchSubscriber,
    ProtocolEventBus,
    ProtocolEventBusContextManager,
    ProtocolEventBusInMemory,
    ProtocolEventMessage,
    ProtocolEventPublisher,
    ProtocolKafkaAdapter,
    ProtocolKafkaClient,
    ProtocolKafkaConfig,
    ProtocolKafkaEventBusAdapter,
    ProtocolRecord,
    ProtocolRedpandaAdapter,
    Unsubscribe,
)


def adapters_are_what_they_say(settings: KafkaSettings) -> None:
    config: ProtocolKafkaConfig = settings
    client: ProtocolKafkaClient = KafkaClient(settings)
    adapter: ProtocolKafkaAdapter = KafkaEventBusAdapter(settings)
    redpanda: ProtocolRedpandaAdapter = RedpandaEventBusAdapter(settings)
    core: ProtocolKafkaEventBusAdapter = adapter
    bus: ProtocolEventBus = KafkaEventBus(KafkaEventBusAdapter(settings))
    batches: ProtocolBatchSubscriber = KafkaEventBus()
    context: ProtocolEventBusContextManager = KafkaEventBus()
    memory: ProtocolEventBusInMemory = MemoryEventBus()
    same: ProtocolEventBus = MemoryEventBus()
    sender: RecordSender = KafkaSender(settings)
    also: RecordSender = MemoryCluster({}).sender()
    source: RecordSource = KafkaSource(settings, ["dev.a.b.c.v1"], "group")
    print(config, client, redpanda, core, bus, batches, context, memory, same, sender, also, source)


async def publishing_is_typed(publisher: EventPublisher) -> None:
    single: ProtocolEventPublisher = create_event_publisher("localhost:9092", "shop")
    many: ProtocolBatchPublisher[OutgoingEvent] = publisher
    confirmed: bool = await single.publish("ORDER_PLACED", {"order_id": "o-1"})
    outcomes: Sequence[bool] = await many.publish_many(
        [OutgoingEvent(event_type="ORDER_PLACED", payload={"order_id": "o-2"})]
    )
    print(confirmed, outcomes)


async def subscribing_is_typed(bus: ProtocolEventBus, workers: ProtocolBatchSubscriber) -> None:
    async def on_message(message: ProtocolEventMessage) -> None:
        print(message.headers.event_type, message.value)
        await message.ack()

    async def on_batch(records: Sequence[ProtocolRecord]) -> None:
        print(len(records), records[0].offset)

    unsubscribe: Unsubscribe = await bus.subscribe("shop.orders.placed.v1", "mail", on_message)
    subscription = await workers.subscribe_batches(["shop.orders.placed.v1"], "sums", on_batch)
    await unsubscribe()
    await subscription.close()
