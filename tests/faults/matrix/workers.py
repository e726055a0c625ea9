"""Workers that are killed, stopped, slow, or come and go (F5-F9, F20)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time

from tests.faults.matrix.stage import Stage, cell
from tests.faults.raw import poisoned
from tests.faults.rig import Process

SESSION_S = 1.2
KILLS = 15
RUNS = 20


@cell("F5", "worker killed (SIGKILL) with events in hand, 15 times")
async def worker_killed(stage: Stage) -> None:
    rig = stage.rig
    stage.loads.append(rig.load(rate=250, keys=32, many=True))
    await rig.acknowledges(50)
    longest_s, died = 0.0, time.monotonic()
    for number in range(KILLS):
        worker = rig.worker("slow-a-little") if number % 2 else rig.worker()
        await rig.stores(rig.stored() + 1)
        longest_s = max(longest_s, time.monotonic() - died)
        await asyncio.sleep(stage.chance.uniform(0.0, 0.1))
        await rig.until(lambda: rig.acknowledged() > rig.stored(), 10)
        stage.hit(await worker.kill())
        died = time.monotonic()
    stage.workers.append(rig.worker())
    stage.healed()
    await stage.finish(min_faults=KILLS)
    stage.figures["redelivery_after_s"] = longest_s
    stage.require(longest_s <= SESSION_S + 20, "redelivery took long: session, start and 20 s")


async def die_again_and_again(stage: Stage, mode: str) -> None:
    """Start a worker that kills itself at a point, 20 times, then one that does not."""
    rig = stage.rig
    async with poisoned(rig, every_s=0.05 if "letter" in mode else 1.0) as poison:
        stage.loads.append(rig.load(rate=120, keys=24))
        await rig.acknowledges(20)
        for _ in range(RUNS):
            worker = rig.worker(f"{mode}:{stage.chance.randint(1, 3)}")
            code = await worker.ended(60)
            died = code == -signal.SIGKILL and "dies " in worker.log.read_text()
            assert died, f"exit code {code}:\n{worker.tail()}"
            stage.hit()
        stage.workers.append(rig.worker())
        stage.healed()
        await stage.end_loads()
    await stage.finish(min_faults=RUNS)
    buried = await poison.buried()
    stage.figures |= {"poison": len(poison.places), "dead_letters_twice": buried.repeats}
    stage.require(buried.places == poison.places, "dead letters are not those that were injected")


@cell("F5 poll", "worker killed after the poll, 20 times")
async def killed_after_poll(stage: Stage) -> None:
    await die_again_and_again(stage, "die-after-poll")


@cell("F5 decode", "worker killed after decoding, 20 times")
async def killed_after_decode(stage: Stage) -> None:
    await die_again_and_again(stage, "die-after-decode")


@cell("F5 letter", "worker killed in the write of a dead letter, 20 times")
async def killed_in_dead_letter(stage: Stage) -> None:
    await die_again_and_again(stage, "die-in-dead-letter-write")


@cell("F5 before", "worker killed before the commit of the store, 20 times")
async def killed_before_store(stage: Stage) -> None:
    await die_again_and_again(stage, "die-before-store-commit")


@cell("F5 after", "worker killed between the commit of the store and that of Kafka, 20 times")
async def killed_after_store(stage: Stage) -> None:
    await die_again_and_again(stage, "die-after-store-commit")


@cell("F6", "worker stopped (SIGSTOP) for longer than its session: a zombie that wakes and writes")
async def zombie(stage: Stage) -> None:
    rig = stage.rig
    await stage.begin("slow", rate=250)
    (zombie,) = stage.workers
    heir = rig.worker("slow")
    await heir.said("worker reads")
    for _ in range(5):
        stage.hit(await stop_past_session(stage, zombie))
    stage.healed()
    await stage.finish()
    rejected = await rejections(zombie)
    stage.figures["writes_rejected"] = rejected
    stage.require(rejected > 0, "the zombie had nothing to write: the run proves nothing")


async def stop_past_session(stage: Stage, worker: Process) -> bool:
    """
    SIGSTOP until others have taken over and stored on; say whether it lived.

    A worker that happens to be stopped inside a transaction keeps the lock of the store, so nobody
    can store on: it is let go for a moment and stopped anew.
    """
    rig = stage.rig
    await rig.stores(rig.stored() + 50)
    for _ in range(10):
        worker.send(signal.SIGSTOP)
        before = rig.offsets()
        await asyncio.sleep(SESSION_S + 0.3)
        try:
            await rig.until(
                lambda before=before: all(
                    offset > before.get(place, 0) for place, offset in rig.offsets().items()
                ),
                limit_s=8,
            )
            break
        except TimeoutError:
            worker.send(signal.SIGCONT)
            await asyncio.sleep(0.05)
    worker.send(signal.SIGCONT)
    await rig.stores(rig.stored() + 100)
    return worker.running


async def rejections(worker: Process) -> int:
    """Count what the store refused this worker: stale rows, and stale offsets."""
    stale = await worker.metric("spile_store_records_total", outcome="stale")
    anew = sum("offsets are read anew" in line for line in worker.log.read_text().splitlines())
    return int(stale) + anew


@cell("F7", "rebalance storm: 12 members join and leave, half of them killed")
async def storm(stage: Stage) -> None:
    rig = stage.rig
    await stage.begin(rate=200)
    began, stored = time.monotonic(), rig.stored()
    members = list(stage.workers)
    for number in range(12):
        members.append(rig.worker())
        stage.hit()
        await asyncio.sleep(stage.chance.uniform(0.7, 1.7))
        if len(members) > 3:
            oldest = members.pop(0)
            await oldest.said("workers start")  # before that SIGTERM ends any program
            if number % 2:
                stage.hit(await oldest.kill())
            else:
                oldest.send(signal.SIGTERM)
                code = await oldest.ended()
                stage.require(code == 0, f"a member ended with {code}: {oldest.tail()}")
    share = (rig.stored() - stored) / ((time.monotonic() - began) * 200)
    stage.healed()
    stage.workers[:] = members
    await stage.finish(min_faults=12)
    stage.figures["progress_share"] = round(share, 2)
    stage.require(share >= 0.2, "progress below 20 % of the load")


@cell(
    "F8",
    "handler hangs for twice the poll interval, beside another worker",
    times={"max_poll_interval_ms": 1500},
)
async def slow_handler(stage: Stage) -> None:
    rig = stage.rig
    await stage.begin("hang:3.0", rate=150)
    (slow,) = stage.workers
    await rig.worker().said("worker reads")
    most = 0

    def hangs() -> int:
        return slow.log.read_text().count("handler hangs")

    until = time.monotonic() + 45
    while hangs() < 5 and time.monotonic() < until:
        await asyncio.sleep(0.5)
        offsets, ends = rig.offsets(), await rig.ends()
        most = max(most, *(end - offsets.get(place, 0) for place, end in ends.items()))
    stage.healed()
    stage.hit(hangs())
    await stage.finish()
    stage.figures["most_behind"] = most
    stage.require(most < 1000, "a partition fell behind by 1,000 records")


@cell("F9", "handler blocks the event loop for 4 s, longer than the session")
async def blocking_handler(stage: Stage) -> None:
    rig = stage.rig
    await stage.begin("block:4.0", rate=150)
    (blocking,) = stage.workers
    await rig.worker().said("worker reads")

    def blocks() -> int:
        return blocking.log.read_text().count("handler blocks")

    noticed, until = 0.0, time.monotonic() + 45
    while blocks() < 5 and time.monotonic() < until:
        await asyncio.sleep(1.0)
        with contextlib.suppress(OSError):  # it answers when it is not blocked
            noticed = max(noticed, await blocking.metric("spile_event_loop_lag_seconds"))
    stage.healed()
    stage.hit(blocks())
    await stage.finish()
    stage.figures["loop_lag_noticed_s"] = noticed
    stage.require(noticed > 0.5, "the metric that alerts never told")


@cell("F20", "worker told to stop (SIGTERM) under load")
async def told_to_stop(stage: Stage) -> None:
    rig = stage.rig
    stage.loads.append(rig.load(rate=250, keys=32, many=True))
    slowest_s = 0.0
    for _ in range(5):
        worker = rig.worker()
        await worker.said("worker reads")
        await rig.stores(rig.stored() + 150)
        began = time.monotonic()
        worker.send(signal.SIGTERM)
        code = await worker.ended(30)
        slowest_s = max(slowest_s, time.monotonic() - began)
        stage.require(code == 0, f"exit code {code}")
        stage.hit()
        stood = {place: at for place, at in rig.offsets().items() if at}
        stage.require(await rig.committed() == stood, "Kafka and store stand at other offsets")
    last = rig.worker()
    stage.workers.append(last)
    stage.healed()
    await stage.finish()
    repeated = [
        await last.metric("spile_store_records_total", outcome=outcome)
        for outcome in ("duplicate", "stale")
    ]
    stage.figures |= {"slowest_exit_s": slowest_s, "redelivered": int(sum(repeated))}
    stage.require(slowest_s <= 25, "it took longer than 25 s to end")
    stage.require(sum(repeated) == 0, "the successor was given records again")
