"""Closing right after the first publish: nothing is lost, and nothing stays connected."""

from __future__ import annotations

import asyncio
import gc

from spile.adapters.delivery import OutgoingRecord
from spile.adapters.kafka import KafkaAdmin, KafkaSender, KafkaSettings
from spile.adapters.memory import MemoryCluster
from spile.adapters.publishing import CircuitBreaker, EventPublisher
from spile.testkit.conformance.memory import catalogue_of
from spile.topics import TopicSetup

TOPIC = "dev.contract.close.done.v1"


async def test_publish_submitted_in_the_turn_of_the_close_is_confirmed():
    """A publish that has not reached the sender when the publisher closes is sent all the same."""
    cluster = MemoryCluster({TOPIC: 1})
    publisher = EventPublisher(
        cluster.sender(),
        catalogue_of(TOPIC, {"DONE": None}),
        environment="dev",
        service="contract",
        breaker=CircuitBreaker(),
    )
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        published = tasks.create_task(publisher.publish("DONE", {}))
        await asyncio.sleep(0)
        await publisher.close()
    assert published.result() is True
    assert len(cluster.records(TOPIC)) == 1


async def test_sender_closes_after_a_send_that_still_connects(kafka, unique):
    """A sender that is closed while it connects waits for the send, and leaves no connection."""
    settings = KafkaSettings(bootstrap_servers=kafka)
    topic = f"dev.{unique('close')}.first.done.v1"
    async with KafkaAdmin(settings) as admin:
        await admin.create(TopicSetup(topic=topic, partitions=1, replication=1, config={}))
    sender = KafkaSender(settings)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        sent = tasks.create_task(sender.send([OutgoingRecord(topic, None, b"v", [])]))
        await asyncio.sleep(0)
        await sender.close()
        assert sent.done()
    assert sent.result().failures == {}
    assert sender.generation == 1
    gc.collect()  # a producer that was not closed warns here, and warnings are errors
