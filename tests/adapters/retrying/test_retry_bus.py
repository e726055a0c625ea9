"""Retry tiers as a user of a bus switches them on."""

from __future__ import annotations

import asyncio

import pytest

from spile.adapters.memory import MemoryCluster, MemoryEventBus
from spile.adapters.subscribing import Retries
from spile.spi import ConfigurationError
from spile.topics import Catalogue, ConsumerGroup, TopicSpec

TOPIC = "dev.shop.orders.placed.v1"
CATALOGUE = Catalogue(
    [
        TopicSpec(
            name="shop.orders.placed.v1",
            owner="shop",
            models={"ORDER_PLACED": None},
            groups=(ConsumerGroup(name="billing"),),
        )
    ]
)


@pytest.fixture
async def bus():
    made = MemoryEventBus(MemoryCluster.of_catalogue(CATALOGUE, "dev"), catalogue=CATALOGUE)
    yield made
    await made.close()


async def _until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - conditions over foreign state
            await asyncio.sleep(0.005)


async def test_messages(bus):
    """A group of the catalogue subscribes with tiers, by the logical name of the topic."""
    seen, failures = [], []

    async def bill(message):
        if message.value == b"1" and len(failures) < 2:
            failures.append(message.value)
            raise ValueError("not now")
        seen.append(message.value)

    retries = Retries.tiered((0.02, 0.02, 0.02), limit=0)
    close = await bus.subscribe("shop.orders.placed.v1", "billing", bill, retries=retries)
    for value in (b"0", b"1", b"2"):
        await bus.publish(TOPIC, b"k", value)
    await _until(lambda: len(seen) == 3)
    await close()
    assert seen == [b"0", b"1", b"2"]
    assert len(bus.cluster.records(f"{TOPIC}.billing.retry.1")) == 1


async def test_batches(bus):
    """So does a batch handler."""
    seen, calls = [], []

    async def bill(batch):
        calls.append(len(batch))
        if len(calls) == 1:
            raise ValueError("not now")
        seen.extend(record.value for record in batch)

    retries = Retries.tiered((0.02, 0.02, 0.02), limit=0)
    await bus.subscribe_batches([TOPIC], "billing", bill, retries=retries)
    await bus.publish(TOPIC, b"k", b"0")
    await _until(lambda: seen == [b"0"])
    assert len(bus.cluster.records(f"{TOPIC}.billing.retry.0")) == 1


async def test_group_without_retry_topics(bus):
    """A group that the catalogue does not know is told what to do."""

    async def handle(message):
        pass

    with pytest.raises(ConfigurationError, match=r"'audit' in the `groups`.*spile topics apply"):
        await bus.subscribe(TOPIC, "audit", handle, retries=Retries.tiered())


async def test_patterns_are_refused(bus):
    """Tiers need topics by name."""

    async def handle(message):
        pass

    with pytest.raises(ConfigurationError, match="not the pattern"):
        await bus.subscribe("^dev\\..*", "billing", handle, retries=Retries.tiered())


async def test_more_tiers_than_topics(bus):
    """A fourth delay needs a fourth retry topic; the error counts, since the group is named."""

    async def handle(message):
        pass

    with pytest.raises(ConfigurationError, match=r"retry\.3: .* has 3 .* 4 were asked .*tiers=4"):
        await bus.subscribe(TOPIC, "billing", handle, retries=Retries.tiered((1, 2, 3, 4)))
