"""Names and signatures; `isinstance` looks at names alone."""

from __future__ import annotations

import pytest

from spile.spi import (
    ProtocolBatchPublisher,
    ProtocolBatchSubscriber,
    ProtocolEventBus,
    ProtocolEventMessage,
    ProtocolEventPublisher,
    ProtocolKafkaEventBusAdapter,
    ProtocolRecord,
    ProtocolSubscription,
)
from spile.testkit.conformance import Feature
from spile.testkit.conformance._shape import departures
from spile.testkit.conformance._stage import Stage

pytestmark = pytest.mark.asyncio


async def test_bus_has_the_shape_of_its_contract(stage: Stage) -> None:
    """What is async in the contract is a coroutine function, and parameters are the same."""
    bus = stage.bus()
    assert departures(ProtocolEventBus, bus) == []
    assert departures(ProtocolKafkaEventBusAdapter, bus.adapter) == []
    assert bus.environment == stage.under_test.environment


async def test_message_has_the_shape_of_its_contract(stage: Stage) -> None:
    """A message has all that a handler may ask for."""
    topic = await stage.topic()
    await stage.publish(stage.bus(), topic, b"v")
    [message] = await stage.read_messages(topic, 1)
    assert departures(ProtocolEventMessage, message) == []


@pytest.mark.spile_needs(Feature.BATCHES)
async def test_batch_subscriber_has_the_shape_of_its_contract(stage: Stage) -> None:
    """So have the batch subscriber, its subscriptions and its records."""
    topic, bus, inbox = await stage.topic(), stage.bus(), stage.inbox()
    await stage.publish(bus, topic, b"v")
    subscription = await stage.subscribe_batches(bus, [topic], stage.group(), inbox.batch)
    await inbox.full(1)
    assert departures(ProtocolBatchSubscriber, stage.under_test.batch_subscriber(bus)) == []
    assert departures(ProtocolSubscription, subscription) == []
    # A record may be anything with these attributes.
    assert isinstance(inbox.records[0], ProtocolRecord)


@pytest.mark.spile_needs(Feature.PUBLISHER)
async def test_publisher_has_the_shape_of_its_contract(stage: Stage) -> None:
    """A publisher is called by position and by name as the contract says."""
    assert departures(ProtocolEventPublisher, stage.publisher(await stage.topic())) == []


@pytest.mark.spile_needs(Feature.MANY)
async def test_batch_publisher_has_the_shape_of_its_contract(stage: Stage) -> None:
    """So is a publisher of many."""
    assert departures(ProtocolBatchPublisher, stage.publisher(await stage.topic())) == []
