"""Workers and publishers that are broken on purpose: the ledger must find what they do."""

from __future__ import annotations

import asyncio
import contextlib

from tests.faults.matrix.brokers import SHORT
from tests.faults.matrix.stage import ENOUGH, Stage, cell
from tests.faults.matrix.workers import stop_past_session

from spile.adapters.kafka import create_publisher
from spile.spi import CircuitOpenError
from spile.testkit.ledger import History
from spile.testkit.load import LOAD_CATALOGUE, Load, LoadPlan


@cell("M commit-first", "offsets are committed before the rows", brokers=1, mutant="lost:store")
async def commits_first(stage: Stage) -> None:
    await killed_often(stage, "commit-first")


@cell("M latest", "a worker begins at the end of the log", brokers=1, mutant="lost:store")
async def begins_at_the_end(stage: Stage) -> None:
    await killed_often(stage, "latest")


async def killed_often(stage: Stage, mode: str) -> None:
    """Kill a broken worker five times while events come in, then let a sound one drain."""
    rig = stage.rig
    stage.loads.append(rig.load(rate=400, keys=32, many=True))
    await rig.acknowledges(50)
    for _ in range(5):
        worker = rig.worker(mode)
        await worker.said("worker reads")
        await rig.stores(rig.stored() + 1)
        stage.hit(await worker.kill())
    stage.workers.append(rig.worker())
    stage.healed()
    await stage.finish()


@cell(
    "M no-fence",
    "no compare-and-set of offsets and no unique id",
    brokers=1,
    mutant="duplicate:store",
)
async def has_no_fence(stage: Stage) -> None:
    rig = stage.rig
    await stage.begin("slow", "no-fence", rate=300)
    heir = rig.worker("slow", "no-fence")
    await heir.said("worker reads")
    for _ in range(5):
        stage.hit(await stop_past_session(stage, stage.workers[0]))
    stage.healed()
    await stage.finish()


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


@cell(
    "M skipped-future",
    "a publisher acknowledges without waiting for the broker",
    brokers=1,
    times=SHORT | {"request_timeout_ms": 500, "delivery_timeout_ms": 1000},
    mutant="lost:bus",
)
async def awaits_nothing(stage: Stage) -> None:
    rig = stage.rig
    history = History(rig.history / "here.jsonl")
    async with (
        create_publisher(rig.settings, LOAD_CATALOGUE, service="load") as publisher,
        asyncio.TaskGroup() as tasks,
    ):
        load = Load(HastyPublisher(publisher, tasks), history, LoadPlan(rate_per_s=400, limit_s=90))
        running = tasks.create_task(load.run())
        for _ in range(5):
            so_far = load.acknowledged
            await rig.until(lambda so_far=so_far: load.acknowledged >= so_far + 300)
            stage.hit(rig.broker.is_running(1))
            await asyncio.to_thread(rig.broker.kill)
            await asyncio.to_thread(rig.broker.restart)
        await rig.until(lambda: load.acknowledged >= ENOUGH)
        load.stop()
        await running
    history.close()
    stage.judge([await rig.observe_bus()])
