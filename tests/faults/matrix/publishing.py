"""Publishers refused, with a wrong clock, or with too much to do (F13, F19, F21, F27, F28)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

from tests.faults.matrix.brokers import SHORT
from tests.faults.matrix.stage import ENOUGH, Stage, cell, p99
from tests.faults.rig import DLQ, TOPIC, eventually

from spile.adapters.delivery import OutgoingEvent
from spile.adapters.kafka import KafkaAdmin, create_publisher
from spile.adapters.publishing import BreakerState, CircuitBreaker, EventPublisher
from spile.spi import CircuitOpenError, MessageTooLargeError
from spile.testkit.ledger import History
from spile.testkit.load import EVENT_TYPE, LOAD_CATALOGUE, Load, LoadPlan
from spile.topics import uuid7_text

MIB = 1 << 20
KEY = "poison"


def event(padding: str = "", **changes: Any) -> OutgoingEvent:
    """Return an event that the ledger does not know."""
    return OutgoingEvent(
        event_type=EVENT_TYPE,
        payload={"key": KEY, "seq": 0, "padding": padding},
        partition_key=KEY,
        event_id=uuid7_text(),
        **changes,
    )


@contextlib.asynccontextmanager
async def load_here(stage: Stage, publisher: Any, *, rate: float = 300) -> AsyncIterator[Load]:
    """Run a load in this process while this lasts."""
    history = History(stage.rig.history / "here.jsonl")
    load = Load(publisher, history, LoadPlan(rate_per_s=rate, keys=32, limit_s=90, many=True))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(load.run())
        try:
            yield load
            await stage.rig.until(lambda: load.acknowledged >= ENOUGH, 60)
        finally:
            load.stop()
    stage.figures["slowest_call_s"] = running.result().slowest_s
    history.close()


@cell(
    "F13", "events that are refused: too large here, too large for the broker, old and future times"
)
async def refused(stage: Stage) -> None:
    rig = stage.rig
    async with KafkaAdmin(rig.settings) as admin:
        await admin.configure(TOPIC, {"max.message.bytes": "60000"})
    stage.workers.append(rig.worker())
    bulk = base64.b64encode(os.urandom(67_000)).decode()
    failed_after = 0
    async with create_publisher(rig.settings, LOAD_CATALOGUE, service="load") as publisher:
        async with load_here(stage, publisher) as load:
            await rig.until(lambda: load.acknowledged > 200)
            for _ in range(3):
                try:
                    await publisher.publish_event(event("x" * 1_000_001))
                except MessageTooLargeError:
                    stage.hit()
                stage.hit(await publisher.publish_event(event(bulk)) is False)
                for year in (1970, 9000):
                    when = datetime(year, 1, 2, tzinfo=UTC)
                    stage.hit(await publisher.publish_event(event(timestamp=when)))
                after = await asyncio.gather(
                    *(publisher.publish_event(event()) for _ in range(100))
                )
                failed_after += after.count(False)
        metrics = await publisher.get_metrics()
    stage.healed()
    await finish_here(stage, min_faults=12)
    dead = len(await rig.read(DLQ))
    stage.figures |= {"failed_of_next_300": failed_after, "dead": dead}
    stage.require(failed_after == 0, "a refusal failed the next publishes")
    stage.require(metrics["circuit_breaker_opens"] == 0, "a refusal opened the breaker")
    stage.require(dead == 3, "not each refusal of the broker became one dead letter")


async def finish_here(stage: Stage, *, min_faults: int = 5) -> None:
    """Judge a run whose load was in this process; what the ledger does not know is left out."""
    rig = stage.rig
    await rig.drained()
    stage.recovery_s = time.monotonic() - stage.healed_at
    await stage.judge_all(min_faults=min_faults)


@cell(
    "F19", "clocks: publishers 50 minutes ahead and an hour behind, a worker whose clock steps back"
)
async def wrong_clocks(stage: Stage) -> None:
    rig = stage.rig
    stage.workers.append(rig.worker("clock-steps-back:600"))
    stage.loads += [
        rig.load("skew:3000", rate=100, many=True, writer="ahead"),
        rig.load("skew:-3600", rate=100, many=True, writer="behind"),
    ]
    await rig.stores(100)
    began = time.monotonic()
    await stage.end_loads()
    stage.healed()
    stage.hit(2 + int(time.monotonic() - began))  # the worker's clock steps back every second
    await stage.finish()
    (worker,) = stage.workers
    stage.require(await stage.stop_worker(worker) == 0, "a worker with a wrong clock did not end")


@cell("F21", "breaker opens and probes: all brokers killed, twice", times=SHORT)
async def breaker(stage: Stage) -> None:
    rig = stage.rig
    stage.workers.append(rig.worker())
    await stage.workers[0].said("worker reads")
    states: Counter[BreakerState] = Counter()
    guard = CircuitBreaker(reset_after_s=1.5, on_change=lambda _, new: states.update([new]))
    fast: list[float] = []
    probes: list[int] = []
    publisher = create_publisher(rig.settings, LOAD_CATALOGUE, service="load", breaker=guard)
    async with publisher, load_here(stage, publisher, rate=250) as load:
        for _ in range(2):
            so_far = load.acknowledged
            await rig.until(lambda so_far=so_far: load.acknowledged > so_far + 300)
            await each_node(stage, rig.broker.kill)
            await provoke(publisher, guard)
            fast += [await rejection_s(publisher) for _ in range(100)]
            probes += [await half_open(publisher, guard) for _ in range(2)]
            for node in rig.broker.nodes:
                await asyncio.to_thread(lambda node=node: rig.broker.restart(node, wait=False))
            await asyncio.to_thread(rig.broker.wait_until_ready)
            stage.healed()
    await finish_here(stage, min_faults=6)
    stage.figures |= {
        "rejection_p99_ms": p99(fast) * 1000,
        "probes_at_once": max(probes),
        "opened": guard.opens,
        "half_open": states[BreakerState.HALF_OPEN],
    }
    stage.require(p99(fast) < 0.05, "a rejection took long")
    stage.require(set(probes) <= {0, 1}, "more than one probe at a time")


async def each_node(stage: Stage, do: Callable[[int], None]) -> None:
    for node in stage.rig.broker.nodes:
        stage.hit(stage.rig.broker.is_running(node))
        await asyncio.to_thread(do, node)


async def provoke(publisher: EventPublisher, guard: CircuitBreaker) -> None:
    """Publish until the breaker is open."""
    async with asyncio.timeout(30):
        while guard.state is not BreakerState.OPEN:
            with contextlib.suppress(CircuitOpenError):
                await asyncio.gather(*(publisher.publish_event(event()) for _ in range(6)))


async def rejection_s(publisher: EventPublisher) -> float:
    """Return how long a rejection took; 0 when a probe was due just then."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(0.5):
            await publisher.publish_event(event())
    except CircuitOpenError:
        return time.monotonic() - began
    except TimeoutError:
        pass
    return 0.0


async def half_open(publisher: EventPublisher, guard: CircuitBreaker) -> int:
    """Publish 50 events at the moment a probe is due; return how many were let through."""
    await asyncio.sleep(1.6)
    results = await asyncio.gather(
        *(publisher.publish_event(event()) for _ in range(50)), return_exceptions=True
    )
    return sum(not isinstance(result, CircuitOpenError) for result in results)


@cell("F27", "bursts of ten times the load, five times for 2 s")
async def bursts(stage: Stage) -> None:
    rig = stage.rig
    stage.workers.append(rig.worker())
    steady = rig.load(rate=100, keys=20, writer="steady")
    stage.loads.append(steady)
    await rig.stores(300)
    (worker,) = stage.workers
    before = [process.resident_bytes for process in (worker, steady)]
    quiet_until = time.monotonic_ns()
    for number in range(5):
        burst = rig.load(rate=1000, keys=64, limit_s=2.0, many=True, writer=f"burst{number}")
        assert await burst.ended(40) == 0, burst.tail()
        stage.hit()
    stage.healed()
    over = time.monotonic_ns()
    most = [peak_of(process.pid) for process in (worker, steady)]
    await stage.rig.acknowledges(rig.acknowledged() + 400)
    await stage.finish()
    calls = stage.call_times("steady")
    base_s = p99([s for at, s in calls if at < quiet_until])
    after_s = p99([s for at, s in calls if at > over + 1_000_000_000])
    growth = max(high / low for high, low in zip(most, before, strict=True))
    stage.figures |= {
        "p99_before_ms": base_s * 1000,
        "p99_after_ms": after_s * 1000,
        "memory_grown_times": round(growth, 2),
    }
    stage.require(growth <= 1.5, "memory grew by more than half")
    stage.require(after_s <= max(2 * base_s, 0.1), "publishing stayed slow after the bursts")


def peak_of(pid: int) -> int:
    """Return the most memory that a process ever held."""
    from tests.faults.matrix.records import peak_bytes  # noqa: PLC0415 - one home, no cycle

    return peak_bytes(pid)


@cell("F28", "a backlog of more than 10,000 records, once: it takes most of the cell's time")
async def backlog(stage: Stage) -> None:
    rig = stage.rig
    first = rig.worker()
    stage.loads.append(rig.load(rate=1500, keys=200, many=True))
    await rig.stores(100)
    assert await stage.stop_worker(first) == 0
    stored = rig.stored()
    await rig.acknowledges(stored + 11_000, 60)
    behind = rig.acknowledged() - stored
    stage.hit(behind > 10_000)
    worker = rig.worker()
    stage.workers.append(worker)
    began = time.monotonic()
    await worker.said("worker reads")
    alert_s = await alerted(worker, began)
    started, at = time.monotonic(), rig.stored()
    ingress = rig.acknowledged()
    await eventually(lambda: rig.acknowledged() - rig.stored() < 500, 60, "catching up", 0.2)
    took_s = time.monotonic() - started
    drained = (rig.stored() - at) / max(took_s, 0.1)
    ingress = (rig.acknowledged() - ingress) / max(took_s, 0.1)
    stage.healed()
    await stage.finish(min_faults=1)
    stage.figures |= {
        "behind": behind,
        "alert_after_s": alert_s,
        "drain_per_ingress": round(drained / max(ingress, 1), 2),
        "peak_MiB": peak_of(worker.pid) / MIB,
    }
    stage.require(alert_s <= 30, "the lag was not told within 30 s")


async def alerted(worker: Any, began: float) -> float:
    """Wait until the metric that alerts tells of the lag; return after how long."""
    async with asyncio.timeout(40):
        while True:
            lags = [
                await worker.metric(
                    "spile_consumer_lag_messages",
                    group="persistence",
                    partition=str(partition),
                    topic=TOPIC,
                )
                for partition in range(6)
            ]
            if sum(lags) > 0:
                return time.monotonic() - began
            await asyncio.sleep(0.2)
