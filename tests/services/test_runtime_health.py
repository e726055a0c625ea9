"""Health and metrics over HTTP."""

import asyncio
import json
import time
import urllib.error
import urllib.request

import pytest

from spile.services.runtime import Health, side_app, side_server
from spile.services.runtime._health import LOOP_LAG, follow, watch_loop
from spile.spi import (
    BrokerUnavailableError,
    ClosedError,
    ConfigurationError,
    HandlerStalledError,
)

HERE = ("dev.agent.tool.recorded.v1", 0)


class Clock:
    """Seconds that pass when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def health(clock):
    """Health of a worker that nobody has heard of yet."""
    return Health("persistence", max_age_s=30, stall_after_s=60, clock=clock)


async def get(port, path):
    """Return status and body."""

    def ask():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(ask)


async def test_endpoints_answer(health):
    """The process is alive at once, ready when the bus has answered, and shows its metrics."""
    async with side_server(side_app([health]), host="127.0.0.1", port=0) as port:
        assert (await get(port, "/healthz"))[0] == 200
        status, body = await get(port, "/readyz")
        assert status == 503
        assert json.loads(body)["reasons"] == {"persistence": ["the bus has not answered yet"]}

        health.heard({HERE: 0})

        assert (await get(port, "/readyz"))[0] == 200
        status, body = await get(port, "/metrics")
        assert status == 200
        assert 'spile_ready{group="persistence"} 1.0' in body
        assert (await get(port, "/other"))[0] == 404


async def test_port_in_use_is_a_configuration_error(health):
    """The error names the setting and the address."""
    async with side_server(side_app([health]), host="127.0.0.1", port=0) as port:
        with pytest.raises(ConfigurationError, match=f"SPILE_HTTP_PORT.*{port}"):
            async with side_server(side_app([health]), host="127.0.0.1", port=port):
                pass


def test_silent_bus_is_not_ready(health, clock):
    """An answer counts for its time only."""
    health.heard({})
    assert health.reasons() == []

    clock.now += 31
    assert health.reasons() == ["no answer of the bus for 31 s"]


def test_lag_that_does_not_shrink_is_not_ready(health, clock):
    """Records that wait while nothing is committed make the worker not ready; progress cures it."""
    health.heard({HERE: 5})
    clock.now += 31
    health.heard({HERE: 7})
    assert health.reasons() == ["7 records wait and nothing was committed for 31 s"]

    health.heard({HERE: 6})
    assert health.reasons() == []


async def test_stalled_handler_is_not_ready(health, clock):
    """A call that runs too long shows while it runs."""
    running, release = asyncio.Event(), asyncio.Event()

    async def handler(records):
        running.set()
        await release.wait()

    health.heard({})
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(health.watch(handler)([_Record()]))
        await running.wait()
        clock.now += 61
        health.heard({})
        assert health.reasons() == ["the handler runs for 61 s"]
        release.set()

    assert health.reasons() == []
    assert health.finished == 1


async def test_failed_batch_is_not_ready_until_it_succeeds(health):
    """The reason of the last failure shows."""
    outcomes = [BrokerUnavailableError("store is full"), None]

    async def handler(records):
        if (error := outcomes.pop(0)) is not None:
            raise error

    watched = health.watch(handler)
    with pytest.raises(BrokerUnavailableError):
        await watched([_Record()])
    assert health.reasons() == ["the last batch failed: store is full"]

    await watched([_Record()])
    assert health.reasons() == []


def test_ended_worker_is_not_ready(health):
    """A failure shows by its class."""
    health.heard({})
    health.failure = ClosedError("offsets")

    assert health.reasons() == ["ended: ClosedError"]


class _Record:
    timestamp = 0


async def test_a_worker_that_stands_still_while_records_wait_is_ended(health, clock):
    """P9: no progress past the stall limit ends the following with the error for code 70."""

    class StandingStill:
        """A subscription whose lag never shrinks, each look half a minute later."""

        async def lag(self):
            clock.now += 30
            return {HERE: 5}

    async with asyncio.timeout(10):
        error = await follow(health, StandingStill(), every_s=0)
    assert isinstance(error, HandlerStalledError)
    assert "5 records wait" in str(error)


async def test_a_batch_that_is_tried_again_does_not_count_as_standing_still(health, clock):
    """Its error is known; the process must not end for a store that is away for long."""

    async def away(_records):
        raise BrokerUnavailableError("away")

    health.heard({HERE: 5})
    with pytest.raises(BrokerUnavailableError):
        await health.watch(away)([])
    clock.now += 600
    health.heard({HERE: 5})
    assert health.stalled() is None
    assert any("away" in reason for reason in health.reasons())


def test_what_a_worker_has_in_hand_does_not_wait(clock):
    """A sink that collects for long is ready, and not ended, while it has read all there is."""
    health = Health("archiver", stall_after_s=60, in_hand=lambda: {HERE: 5}, clock=clock)
    health.heard({HERE: 5})
    clock.now += 600
    health.heard({HERE: 5})
    assert (health.reasons(), health.stalled()) == ([], None)
    health.heard({HERE: 6})
    clock.now += 600
    health.heard({HERE: 6})
    assert health.stalled() is not None


def test_trouble_is_told_and_does_not_count_as_standing_still(clock):
    """What a worker tries again for ever makes it unready; it is not ended for that."""
    health = Health("archiver", stall_after_s=60, trouble=lambda: "away", clock=clock)
    health.heard({HERE: 6})
    clock.now += 600
    health.heard({HERE: 6})
    assert "away" in health.reasons()
    assert health.stalled() is None


async def test_short_block_of_the_loop_is_told_for_a_while():
    """F9: a scrape that comes later than the block sees it all the same, until the time is over."""

    def told():
        return LOOP_LAG.collect()[0].samples[0].value

    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch_loop(0.01, hold_s=1.0))
        await asyncio.sleep(0.05)
        time.sleep(0.3)  # noqa: ASYNC251 - the fault itself
        await asyncio.sleep(0.1)
        assert told() > 0.2
        async with asyncio.timeout(10):
            while told() > 0.2:  # noqa: ASYNC110 - a gauge has no event
                await asyncio.sleep(0.02)
        watching.cancel()
