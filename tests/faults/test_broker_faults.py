"""Brokers that die and come back while events come in."""

import asyncio
import contextlib
import signal
import time

import pytest

from spile.adapters.delivery import OutgoingEvent
from spile.adapters.kafka import create_publisher
from spile.adapters.publishing import CircuitBreaker
from spile.spi import CircuitOpenError, ClosedError
from spile.testkit.ledger import History, check, read_history
from spile.testkit.load import EVENT_TYPE, LOAD_CATALOGUE, Load, LoadPlan
from spile.topics import uuid7_text

DLQ = "dev.spile.load.sequenced.v1.dlq"
SHORT = {
    "request_timeout_ms": 800,
    "delivery_timeout_ms": 2500,
    "start_timeout_ms": 1500,
    "close_timeout_ms": 2000,
}


def event(key="k", seq=0, **changes):
    """Return an event of the load, made by hand."""
    return OutgoingEvent(
        event_type=EVENT_TYPE,
        payload={"key": key, "seq": seq},
        partition_key=key,
        event_id=uuid7_text(),
        **changes,
    )


async def finish(*loads):
    """End loads in peace; return the longest call of a publisher, in seconds."""
    for load in loads:
        load.send(signal.SIGTERM)
    for load in loads:
        assert await load.ended(90) == 0, load.tail()
        assert "pump failed" not in load.log.read_text()  # a bug of ours, by its own account
    return max(load.summary()["slowest_s"] for load in loads)


async def crash(rig, node, down_s):
    """Kill a broker with SIGKILL and start it again; say whether it was up before."""
    was_up = rig.broker.is_running(node)
    await asyncio.to_thread(rig.broker.kill, node)
    await asyncio.sleep(down_s)
    await asyncio.to_thread(rig.broker.restart, node)
    return was_up


async def test_brokers_of_a_cluster_killed_in_turn(make_rig):
    """Two of three brokers die in turn: nothing lost or doubled, a gap of 15 s at the most."""
    rig = await make_rig(brokers=3)
    worker = rig.worker()
    loads = [rig.load(rate=150), rig.load(rate=150, many=True)]
    await rig.stores(200)
    crashes = 0
    controller = await asyncio.to_thread(rig.broker.quorum_leader)
    other = next(node for node in rig.broker.nodes if node != controller)
    for node in (controller, other):
        crashes += await crash(rig, node, 4.0)
        await rig.in_sync()
        await rig.acknowledges(rig.acknowledged() + 100)
    await rig.acknowledges(2200)
    slowest_s = await finish(*loads)
    drained_s = await rig.drained()
    verdict = await rig.judge(
        "brokers killed in turn",
        faults=crashes,
        min_faults=2,
        slowest_publish_s=slowest_s,
        drained_s=drained_s,
    )
    assert verdict.valid, verdict
    assert verdict.longest_ack_gap_s <= 15, verdict
    assert worker.running
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0


async def test_leader_that_hangs_holds_publishing_up_for_a_bounded_time(make_rig):
    """P8: a broker stopped for 6 s costs three request timeouts at the most, and no event."""
    rig = await make_rig(brokers=3)
    worker = rig.worker()
    load = rig.load(rate=300, many=True)
    await rig.stores(300)
    node = await asyncio.to_thread(rig.broker.quorum_leader)
    await asyncio.to_thread(rig.broker.pause, node)
    await asyncio.sleep(6)
    await asyncio.to_thread(rig.broker.resume, node)
    await rig.in_sync()
    await rig.acknowledges(2200)
    slowest_s = await finish(load)
    await rig.drained()
    verdict = await rig.judge("leader hangs", faults=1, min_faults=1, slowest_publish_s=slowest_s)
    assert verdict.valid, verdict
    assert verdict.longest_ack_gap_s <= 15, verdict
    assert worker.running


async def test_single_broker_restarts_under_load(make_rig):
    """The only broker dies for 5 s under load: publisher and worker go on by themselves."""
    rig = await make_rig()
    worker = rig.worker()
    loads = [rig.load(rate=300), rig.load(rate=300, many=True)]
    await rig.stores(800)
    crashes = int(await crash(rig, 1, 5.0))
    await rig.acknowledges(2200)
    slowest_s = await finish(*loads)
    drained_s = await rig.drained()
    verdict = await rig.judge(
        "single broker restarted",
        faults=crashes,
        min_faults=1,
        slowest_publish_s=slowest_s,
        drained_s=drained_s,
    )
    assert verdict.valid, verdict
    assert verdict.longest_ack_gap_s <= 15, verdict
    assert worker.running


async def test_all_brokers_down(make_rig):
    """Publishing fails within its deadline, fills no dead letter queue, and recovers by itself."""
    rig = await make_rig(**SHORT)
    history = History(rig.history / "here.jsonl")
    publisher = create_publisher(
        rig.settings,
        LOAD_CATALOGUE,
        service="load",
        breaker=CircuitBreaker(reset_after_s=1.0),
    )
    load = Load(publisher, history, LoadPlan(rate_per_s=700, keys=24))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(load.run())
        await rig.until(lambda: load.acknowledged >= 1200)
        crashing = tasks.create_task(crash(rig, 1, 8.0))
        await rig.until(lambda: not rig.broker.is_running(1))
        newcomer_s = await newcomer(rig)
        crashes = int(await crashing)
        healed = time.monotonic()
        so_far = load.acknowledged
        await rig.until(lambda: load.acknowledged > so_far)
        back_s = time.monotonic() - healed
        await rig.until(lambda: load.acknowledged >= 2200)
        load.stop()
    summary = running.result()
    metrics = await publisher.get_metrics()
    await publisher.close()
    assert len(asyncio.all_tasks()) == 1

    verdict = check(
        read_history(rig.history),
        [await rig.observe_bus()],
        faults_seen=crashes,
        min_faults=1,
    )
    dead = await rig.read(DLQ)
    rig.report(
        "all brokers down",
        verdict,
        slowest_publish_s=summary.slowest_s,
        newcomer_s=newcomer_s,
        deadline_s=SHORT["delivery_timeout_ms"] / 1000,
        repeated=summary.repeated,
        breaker_opened=metrics["circuit_breaker_opens"],
        back_after_s=back_s,
        dead=len(dead),
    )
    assert verdict.valid, verdict
    assert dead == []
    assert metrics["circuit_breaker_opens"] >= 1
    assert summary.repeated > 0
    assert max(summary.slowest_s, newcomer_s) < SHORT["delivery_timeout_ms"] / 1000 + 1.0, summary
    assert back_s < 20


async def test_close_ends_in_time_while_brokers_are_down(make_rig):
    """`close` keeps its deadline with publishes under way that nobody will acknowledge."""
    closed_s = await asyncio.gather(
        close_while_down(make_rig, connected=True), close_while_down(make_rig, connected=False)
    )
    assert max(closed_s) < SHORT["close_timeout_ms"] / 1000 + 1
    assert len(asyncio.all_tasks()) == 1


async def close_while_down(make_rig, *, connected):
    """Close a publisher that waits for a broker; return how long that took, in seconds."""
    rig = await make_rig(**SHORT | {"delivery_timeout_ms": 30_000, "start_timeout_ms": 30_000})
    publisher = create_publisher(rig.settings, LOAD_CATALOGUE, service="load")
    if connected:
        assert await publisher.publish_event(event())
    await asyncio.to_thread(rig.broker.kill)
    calls = asyncio.gather(
        *(publisher.publish_event(event()) for _ in range(20)),
        publisher.publish_many([event() for _ in range(20)]),
        return_exceptions=True,
    )
    await asyncio.sleep(0.5)
    began = time.monotonic()
    await publisher.close()
    closed_s = time.monotonic() - began
    async with asyncio.timeout(1):
        results = await calls
    rig.report("close while brokers are down", connected=connected, took_s=closed_s)
    assert unconfirmed(results), results
    return closed_s


def unconfirmed(results):
    """Say whether each call told that it has no acknowledgement, by its result or by an error."""
    return all(
        isinstance(result, ClosedError) or result in (False, [False] * 20) for result in results
    )


async def newcomer(rig):
    """Publish with a publisher that meets no broker: False in time, then errors at once."""
    publisher = create_publisher(rig.settings, LOAD_CATALOGUE, service="load")
    began = time.monotonic()
    results = await asyncio.gather(*(publisher.publish_event(event()) for _ in range(5)))
    took_s = time.monotonic() - began
    assert results == [False] * 5
    began = time.monotonic()
    with pytest.raises(CircuitOpenError):
        await publisher.publish_event(event())
    assert time.monotonic() - began < 0.05
    await publisher.close()
    return took_s


class HastyPublisher:
    """A broken publisher: takes an event for acknowledged when it was only handed over."""

    def __init__(self, publisher, tasks):
        self._publisher = publisher
        self._tasks = tasks

    async def publish_event(self, event):
        self._tasks.create_task(self._forget(event))
        return True

    async def _forget(self, event):
        with contextlib.suppress(CircuitOpenError):
            await self._publisher.publish_event(event)


async def test_mutant_that_awaits_no_acknowledgement_is_caught(make_rig):
    """A publisher that does not wait for its futures loses events in an outage: caught."""
    rig = await make_rig(**SHORT | {"request_timeout_ms": 500, "delivery_timeout_ms": 1000})
    history = History(rig.history / "here.jsonl")
    async with (
        create_publisher(rig.settings, LOAD_CATALOGUE, service="load") as publisher,
        asyncio.TaskGroup() as tasks,
    ):
        load = Load(HastyPublisher(publisher, tasks), history, LoadPlan(rate_per_s=800))
        running = tasks.create_task(load.run())
        await rig.until(lambda: load.acknowledged >= 300)
        crashes = await crash(rig, 1, 0.5)
        load.stop()
        await running
    history.close()
    verdict = check(
        read_history(rig.history), [await rig.observe_bus()], faults_seen=crashes, min_faults=1
    )
    rig.report("mutant awaits nothing", verdict)
    assert "lost:bus" in verdict.anomalies, verdict
