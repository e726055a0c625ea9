"""The circuit breaker of a publisher: opens, lets one probe through, closes; refusals count not."""

from __future__ import annotations

import asyncio

import pytest

from spile.spi import (
    CircuitOpenError,
    InvalidEventError,
    MessageTooLargeError,
    ProtocolEventPublisher,
    UnknownTopicError,
)
from spile.testkit.conformance import Feature
from spile.testkit.conformance._stage import EVENT_TYPE, Stage

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.spile_needs(Feature.PUBLISHER, Feature.FAULTS),
]

_RESET_S = 0.2


def _publisher(stage: Stage, topic: str, reset_s: float = _RESET_S) -> ProtocolEventPublisher:
    return stage.publisher(
        topic, breaker_threshold=2, breaker_reset_s=reset_s, delivery_limit_s=1.0
    )


async def _status(publisher: ProtocolEventPublisher) -> str:
    return (await publisher.get_metrics())["circuit_breaker_status"]


async def _open(stage: Stage, publisher: ProtocolEventPublisher) -> None:
    """Fail as often as the threshold says; call it while there is a fault."""
    async with stage.limit("failing twice"):
        for _ in range(2):
            assert await publisher.publish(EVENT_TYPE, {}) is False
    assert await _status(publisher) == "open", "two failures in a row did not open the breaker"


async def test_failure_is_false_and_no_dead_letter(stage: Stage) -> None:
    """An event that no broker confirmed is False, stays with the caller, and counts as failed."""
    topic = await stage.topic()
    publisher = _publisher(stage, topic)
    async with stage.limit("publishing"):
        assert await publisher.publish(EVENT_TYPE, {})
        async with stage.under_test.fault():
            assert await publisher.publish(EVENT_TYPE, {}) is False
        metrics = await publisher.get_metrics()
    assert (metrics["events_published"], metrics["events_failed"]) == (1, 1)
    assert metrics["events_sent_to_dlq"] == 0
    assert await stage.count(f"{topic}.dlq") == 0


async def test_breaker_opens(stage: Stage) -> None:
    """After the threshold of failures in a row publishing fails at once, and nothing is sent."""
    topic = await stage.topic()
    publisher = _publisher(stage, topic, reset_s=600.0)
    async with stage.limit("publishing"):
        assert await publisher.publish(EVENT_TYPE, {})
        async with stage.under_test.fault():
            await _open(stage, publisher)
        with pytest.raises(CircuitOpenError):
            await publisher.publish(EVENT_TYPE, {}, partition_key="refused")
        assert (await publisher.get_metrics())["circuit_breaker_opens"] == 1
        # What timed out may still be written, so that counting would tell nothing.
        assert await stage.publisher(topic).publish(EVENT_TYPE, {}, partition_key="after")
    messages = await stage.read_messages(topic, await stage.count(topic))
    assert b"after" in {message.key for message in messages}
    assert b"refused" not in {message.key for message in messages}


async def test_breaker_lets_one_probe_through(stage: Stage) -> None:
    """After the reset time one call is let through; when it fails the breaker is open again."""
    publisher = _publisher(stage, await stage.topic())
    admitted: list[bool | BaseException] = []

    async def probed() -> bool:
        calls = [publisher.publish(EVENT_TYPE, {}) for _ in range(5)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        admitted[:] = [one for one in outcomes if not isinstance(one, CircuitOpenError)]
        return bool(admitted)

    async with stage.limit("publishing"):
        assert await publisher.publish(EVENT_TYPE, {})
        async with stage.under_test.fault():
            await _open(stage, publisher)
            await stage.settle(probed, "a probe being let through")
            assert admitted == [False], "more than one call was let through, or none"
            assert await _status(publisher) == "open"
    assert (await publisher.get_metrics())["circuit_breaker_opens"] == 2


async def test_breaker_closes(stage: Stage) -> None:
    """When the probe works the breaker is closed, and all are let through again."""
    topic = await stage.topic()
    publisher = _publisher(stage, topic)

    async def works() -> bool:
        try:
            return await publisher.publish(EVENT_TYPE, {})
        except CircuitOpenError:
            return False

    async with stage.limit("publishing"):
        assert await publisher.publish(EVENT_TYPE, {})
        async with stage.under_test.fault():
            await _open(stage, publisher)
        await stage.settle(works, "the probe working")
        assert await _status(publisher) == "closed"
        calls = [publisher.publish(EVENT_TYPE, {}) for _ in range(5)]
        assert await asyncio.gather(*calls) == [True] * 5


async def test_success_begins_the_count_anew(stage: Stage) -> None:
    """Failures that are not in a row do not open the breaker."""
    publisher = _publisher(stage, await stage.topic())
    async with stage.limit("publishing"):
        for _ in range(2):
            assert await publisher.publish(EVENT_TYPE, {})
            async with stage.under_test.fault():
                assert await publisher.publish(EVENT_TYPE, {}) is False
        assert await _status(publisher) == "closed"


async def test_refusals_do_not_count_for_the_breaker(stage: Stage) -> None:
    """Unknown, invalid and oversized events say nothing about the broker's health."""
    topic = await stage.topic()
    publisher, astray = _publisher(stage, topic), _publisher(stage, stage.name("lost"))
    async with stage.limit("publishing"):
        for _ in range(3):
            with pytest.raises(UnknownTopicError):
                await publisher.publish("CONFORMANCE_LOST", {})
            with pytest.raises(UnknownTopicError):
                await astray.publish(EVENT_TYPE, {})
            with pytest.raises(InvalidEventError):
                await publisher.publish(EVENT_TYPE, {}, correlation_id="session 7")
            with pytest.raises(MessageTooLargeError):
                await publisher.publish(EVENT_TYPE, {"text": "x" * 1_000_001})
        assert await _status(publisher) == await _status(astray) == "closed"
        assert await publisher.publish(EVENT_TYPE, {}) is True
    assert await stage.count(topic) == 1
