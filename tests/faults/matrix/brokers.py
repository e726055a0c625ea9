"""Brokers that die or hang, and networks that are bad (F1-F4)."""

from __future__ import annotations

import asyncio
import time

from aiokafka.admin import AIOKafkaAdminClient
from tests.faults.matrix.stage import Stage, cell, p99
from tests.faults.rig import DLQ, TOPIC

from spile.services.persistence import GROUP
from spile.testkit.proxy import Conditions, Direction

ROLES = ("leader", "coordinator", "controller", "leader", "coordinator")
SHORT = {
    "request_timeout_ms": 800,
    "delivery_timeout_ms": 2500,
    "start_timeout_ms": 1500,
    "close_timeout_ms": 2000,
}
MIB = 1 << 20


async def node_of(stage: Stage, role: str) -> int:
    """Return the broker that has a role now."""
    if role == "controller":
        return await asyncio.to_thread(stage.rig.broker.quorum_leader)
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.rig.broker.bootstrap_servers)
    await admin.start()
    try:
        if role == "coordinator":
            return await admin.find_coordinator(GROUP)
        (topic,) = await admin.describe_topics([TOPIC])
        return stage.chance.choice(topic["partitions"])["leader"]
    finally:
        await admin.close()


async def through_roles(stage: Stage, seconds: tuple[float, ...], *, kill: bool) -> None:
    """Kill or stop the holder of each role in turn, for so many seconds each."""
    broker = stage.rig.broker
    for role, pause_s in zip(ROLES, seconds, strict=True):
        node = await node_of(stage, role)
        stage.hit(broker.is_running(node))
        await asyncio.to_thread(broker.kill if kill else broker.pause, node)
        await asyncio.sleep(pause_s)
        await asyncio.to_thread(broker.restart if kill else broker.resume, node)
        stage.healed()
        await stage.rig.in_sync()
        await stage.progress()
    verdict = await stage.finish()
    stage.require(verdict.longest_ack_gap_s <= 15, "longest gap between acknowledgements > 15 s")
    stage.require(all(worker.running for worker in stage.workers), "a worker ended")


@cell("F1", "broker killed (SIGKILL), back after 4 s: leader, coordinator, controller in turn")
async def broker_killed(stage: Stage) -> None:
    await stage.begin(rate=150)
    stage.loads.append(stage.rig.load(rate=100))
    await through_roles(stage, (4.0,) * 5, kill=True)


@cell("F2", "broker stopped (SIGSTOP) for 9 s, then four times for 4 s, by role in turn")
async def broker_stopped(stage: Stage) -> None:
    await stage.begin(rate=250)
    await through_roles(stage, (9.0, 4.0, 4.0, 4.0, 4.0), kill=False)


@cell("F3", "all brokers killed, for 12 s and for 4 s", times=SHORT)
async def all_brokers_killed(stage: Stage) -> None:
    await stage.begin(rate=250)
    (load, worker), broker = (stage.loads[0], stage.workers[0]), stage.rig.broker
    await stage.progress(300)
    before = {process: process.resident_bytes for process in (load, worker)}
    back_s = 0.0
    for pause_s in (12.0, 4.0):
        for node in broker.nodes:
            stage.hit(broker.is_running(node))
            await asyncio.to_thread(broker.kill, node)
        await asyncio.sleep(pause_s)
        for node in broker.nodes:
            await asyncio.to_thread(lambda node=node: broker.restart(node, wait=False))
        await asyncio.to_thread(broker.wait_until_ready)
        stage.healed()
        began = time.monotonic()
        await stage.rig.acknowledges(stage.rig.acknowledged() + 1)
        back_s = max(back_s, time.monotonic() - began)
        await stage.progress()
    grown = max(process.resident_bytes - size for process, size in before.items())
    await stage.finish()
    dead = len(await stage.rig.read(DLQ))
    slowest_s = stage.figures["slowest_call_s"]
    stage.figures |= {"back_after_s": back_s, "memory_grown_MiB": grown / MIB, "dead": dead}
    deadline_s = SHORT["delivery_timeout_ms"] / 1000
    stage.require(slowest_s <= deadline_s + 1.5, f"a publish took longer than {deadline_s} s")
    stage.require(back_s <= 20, "publishing was not back within 20 s")
    stage.require(grown <= 50 * MIB, "memory grew by more than 50 MiB")
    stage.require(dead == 0, "an outage filled the dead letter queue")
    stage.require(worker.running, "the worker ended")


async def in_bad_network(stage: Stage, conditions: Conditions, events: int) -> None:
    """Let conditions hold on every link until so many events more got through."""
    for proxy in stage.proxies:
        proxy.change(conditions)
    await stage.progress(events, limit_s=60)
    for proxy in stage.proxies:
        proxy.change(Conditions())
    stage.healed()


async def settle(stage: Stage, least: int = 5) -> None:
    """End a run with a bad network and check how long publishing took."""
    await stage.finish(min_faults=least)
    slow_s = p99([took_s for _, took_s in stage.call_times()])
    stage.figures["publish_p99_s"] = slow_s
    stage.require(slow_s <= 5, "p99 of publishing > 5 s")
    stage.require(all(worker.running for worker in stage.workers), "a worker ended")


@cell("F4 latency", "network: 200 ms +- 100 ms more a round trip", proxied=True)
async def latency(stage: Stage) -> None:
    await stage.begin(rate=300, keys=64)
    await in_bad_network(stage, Conditions(latency_s=0.1, jitter_s=0.05), 1800)
    stage.hit(sum(proxy.delayed for proxy in stage.proxies))
    await settle(stage)


@cell("F4 width", "network: 1 Mbit/s each way for each connection", proxied=True)
async def width(stage: Stage) -> None:
    await stage.begin(rate=300, keys=64)
    await in_bad_network(stage, Conditions(bytes_per_s=125_000), 1800)
    stage.hit(sum(proxy.delayed for proxy in stage.proxies))
    await settle(stage)


@cell("F4 resets", "network: each connection reset with a chance of 5 % every 100 ms", proxied=True)
async def resets(stage: Stage) -> None:
    await stage.begin(rate=300, keys=64)
    await in_bad_network(stage, Conditions(resets_per_s=0.5), 1800)
    stage.hit(sum(proxy.resets for proxy in stage.proxies))
    await settle(stage)


@cell("F4 one-way", "network: nothing gets through one way to one broker, 2.5 s", proxied=True)
async def one_way(stage: Stage) -> None:
    await stage.begin(rate=250, keys=64)
    for number in range(6):
        way = list(Direction)[number % 2]
        await hold(stage, frozenset({way}), 2.5)
    await settle(stage)


@cell("F4 blackhole", "network: nothing gets through to one broker, 4 s", proxied=True)
async def blackhole(stage: Stage) -> None:
    await stage.begin(rate=250, keys=64)
    for _ in range(5):
        await hold(stage, frozenset(Direction), 4.0)
    await settle(stage)


async def hold(stage: Stage, ways: frozenset[Direction], seconds: float) -> None:
    """Hold up directions of the link to one broker, then let events flow again."""
    proxy = stage.chance.choice(stage.proxies)
    stage.hit(proxy.connections > 0)
    proxy.change(Conditions(held=ways))
    await asyncio.sleep(seconds)
    proxy.change(Conditions())
    stage.healed()
    await stage.progress(50, limit_s=60)
