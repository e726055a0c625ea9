"""What every cell of the matrix gets to work with, and what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.faults.rig import OVERRIDES, Process, Rig

from spile.testkit.broker import BrokerAddress, BrokerSettings, EmbeddedBroker, PortLease
from spile.testkit.ledger import Entry, Observation, Outcome, Verdict, check, read_history
from spile.testkit.proxy import TcpProxy

ENOUGH = 2_100
"""A little more than the ledger wants of a run that is not vacuous."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """
    One row of the matrix.

    Attributes:
        name: Such as `F1`; several rows may share a number.
        title: The fault in words.
        play: Does it.
        brokers: How many to start; 3 is what the matrix is about.
        proxied: Whether clients reach the brokers through proxies.
        times: Settings that differ from those of the rig.
        mutant: The anomaly that must be found, when something is broken on purpose.
    """

    name: str
    title: str
    play: Callable[[Stage], Awaitable[None]]
    brokers: int = 3
    proxied: bool = False
    times: dict[str, int] = field(default_factory=dict)
    mutant: str = ""


CELLS: dict[str, Cell] = {}


def cell(name: str, title: str, **facts: Any) -> Callable[[Callable], Callable]:
    """Enter a coroutine function into the matrix."""

    def enter(play: Callable) -> Callable:
        assert name not in CELLS, name
        CELLS[name] = Cell(name=name, title=title, play=play, **facts)
        return play

    return enter


class Stage:
    """One cell at work: a rig, chance, and the books of what was done."""

    def __init__(self, rig: Rig, seed: int, proxies: Sequence[TcpProxy]) -> None:
        self.rig = rig
        self.seed = seed
        self.chance = random.Random(seed)
        self.proxies = proxies
        self.faults = 0
        self.workers: list[Process] = []
        self.loads: list[Process] = []
        self.figures: dict[str, float | int] = {}
        self.broken: list[str] = []
        self.verdict: Verdict | None = None
        self.recovery_s = 0.0
        self.healed_at = time.monotonic()

    async def begin(
        self, *modes: str, rate: float = 300, keys: int = 32, many: bool = True, **extra: str
    ) -> None:
        """Start a worker and a load, and wait until events flow from end to end."""
        self.workers.append(self.rig.worker(*modes, **extra))
        self.loads.append(self.rig.load(rate=rate, keys=keys, many=many))
        await self.rig.stores(50)

    def hit(self, count: int = 1) -> None:
        """Note faults that took effect."""
        self.faults += count

    def healed(self) -> None:
        """Note that all is well again from now on."""
        self.healed_at = time.monotonic()

    def require(self, is_true: bool, text: str) -> None:
        """Note a limit that was not kept."""
        if not is_true:
            self.broken.append(text)

    async def end_loads(self, least: int = ENOUGH) -> None:
        """Let the loads finish once there are enough acknowledgements."""
        await self.rig.acknowledges(least)
        for load in self.loads:
            load.send(signal.SIGTERM)
        slowest_s = 0.0
        for load in self.loads:
            assert await load.ended(70) == 0, load.tail()
            assert "pump failed" not in load.log.read_text()
            slowest_s = max(slowest_s, load.summary()["slowest_s"])
        if self.loads:
            self.figures["slowest_call_s"] = slowest_s
        self.loads.clear()

    async def finish(self, *, min_faults: int = 5, least: int = ENOUGH) -> Verdict:
        """Let all of it come to an end, and compare bus and store with the ledger."""
        await self.end_loads(least)
        await self.rig.drained()
        self.recovery_s = time.monotonic() - self.healed_at
        return await self.judge_all(min_faults=min_faults)

    async def judge_all(self, *, min_faults: int = 5) -> Verdict:
        """Compare bus and store with the ledger, without what cells made beside the loads."""
        found = [self.rig.observe_store(), await self.rig.observe_bus()]
        sinks = [
            replace(one, rows=[row for row in one.rows if not row.key.startswith("poison")])
            for one in found
        ]
        return self.judge(sinks, min_faults=min_faults)

    def judge(
        self, observations: Sequence[Observation], *, min_faults: int = 5, least: int = 2_000
    ) -> Verdict:
        """Compare sinks with the ledger."""
        self.verdict = check(
            read_history(self.rig.history),
            observations,
            faults_seen=self.faults,
            min_faults=min_faults,
            min_acknowledged=least,
        )
        return self.verdict

    def call_times(self, writer: str = "") -> list[tuple[int, float]]:
        """Return when each event was invoked (ns) and how long it took to be acknowledged (s)."""
        begun: dict[str, Entry] = {}
        found = []
        for entry in read_history(self.rig.history):
            if entry.outcome is Outcome.INVOKE:
                begun[entry.event_id] = entry
            elif entry.outcome is Outcome.OK and entry.key.startswith(writer):
                start = begun[entry.event_id].moment_ns
                found.append((start, (entry.moment_ns - start) / 1e9))
        return found

    async def stop_worker(self, worker: Process) -> int:
        """Tell a worker to stop; return its exit code."""
        worker.send(signal.SIGTERM)
        code = await worker.ended()
        if worker in self.workers:
            self.workers.remove(worker)
        return code

    async def progress(self, count: int = 50, limit_s: float = 40.0) -> None:
        """Wait until more is acknowledged and stored than now."""
        acknowledged, stored = self.rig.acknowledged(), self.rig.stored()
        await self.rig.acknowledges(acknowledged + count, limit_s)
        await self.rig.stores(stored + count, limit_s)


def p99(values: Sequence[float]) -> float:
    """Return the 99th percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] if ordered else 0.0


@contextlib.asynccontextmanager
async def open_stage(cell: Cell, seed: int, folder: Path) -> AsyncIterator[Stage]:
    """Start the brokers of a cell, with proxies before them if it wants some."""
    async with contextlib.AsyncExitStack() as stack:
        lease = PortLease(BrokerSettings().cache_dir / "ports")
        stack.callback(lease.close)
        fronts = lease.take(2 * cell.brokers) if cell.proxied else []
        broker = await asyncio.to_thread(
            lambda: EmbeddedBroker(brokers=cell.brokers, overrides=_overrides(fronts))
        )
        stack.push_async_callback(asyncio.to_thread, broker.close)
        proxies = [
            await stack.enter_async_context(
                TcpProxy(
                    f"127.0.0.1:{fronts[2 * index + 1]}",
                    port=fronts[2 * index],
                    chance=random.Random(seed * 10 + index),
                )
            )
            for index in range(len(fronts) // 2)
        ]
        servers = ",".join(proxy.address for proxy in proxies) or None
        rig = Rig(broker, folder, cell.times, servers)
        stack.push_async_callback(rig.close)
        await rig.make_topics()
        yield Stage(rig, seed, proxies)


def _overrides(fronts: Sequence[int]) -> Callable[[BrokerAddress], dict[str, str]]:
    """Return settings by broker: with fronts, a listener for clients that a proxy stands before."""

    def chosen(address: BrokerAddress) -> dict[str, str]:
        if not fronts:
            return OVERRIDES
        front, behind = fronts[2 * (address.node - 1) : 2 * address.node]
        kinds = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,FRONT:PLAINTEXT"
        return OVERRIDES | {
            "listener.security.protocol.map": kinds,
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": (
                f"PLAINTEXT://{address.client},FRONT://127.0.0.1:{behind},"
                f"CONTROLLER://{address.controller}"
            ),
            "advertised.listeners": (f"PLAINTEXT://{address.client},FRONT://127.0.0.1:{front}"),
        }

    return chosen
