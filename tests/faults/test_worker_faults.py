"""Workers that are killed, stopped and told to stop while events come in."""

import asyncio
import random
import signal

from spile.testkit.ledger import check, read_history

KILLS = 6


async def begun(rig, **load):
    """Start a load and wait until it is under way."""
    process = rig.load(**load)
    await rig.acknowledges(50)
    return process


async def finish(process):
    """End a load in peace and return its summary."""
    process.send(signal.SIGTERM)
    assert await process.ended(70) == 0, process.tail()
    return process.summary()


async def kill_with_events_in_hand(rig, worker, chance):
    """Kill a worker that has stored something and lags; say whether it was so."""
    await worker.said("worker reads")
    before = rig.stored()
    await rig.stores(before + 1)
    await asyncio.sleep(chance.uniform(0.0, 0.1))
    # What was acknowledged a moment ago is not stored yet, so it is in the hands of the worker.
    await rig.until(lambda: rig.acknowledged() > rig.stored(), 10)
    return await worker.kill()


async def test_worker_killed_again_and_again(make_rig):
    """Six kills with SIGKILL in the middle of batches lose, double and reorder nothing."""
    rig = await make_rig()
    chance = random.Random(11)
    load = await begun(rig, rate=400, many=False)
    kills = 0
    for number in range(KILLS):
        # Half of them with transactions that stay open for a while.
        worker = rig.worker("slow-a-little") if number % 2 else rig.worker()
        kills += await kill_with_events_in_hand(rig, worker, chance)
    last = rig.worker()
    await finish(load)
    drained_s = await rig.drained()
    verdict = await rig.judge(
        "worker killed", faults=kills, min_faults=KILLS, drained_s=drained_s, stored=rig.stored()
    )
    assert verdict.valid, verdict
    last.send(signal.SIGTERM)
    assert await last.ended() == 0


async def test_zombie_worker_writes_nothing(make_rig):
    """A worker stopped for longer than its session wakes with batches in hand: no second effect."""
    rig = await make_rig()
    load = await begun(rig, rate=300)
    zombie = rig.worker("slow")
    await rig.stores(1)
    heir = rig.worker("slow")
    await heir.said("worker reads")
    wakes = 0
    for _ in range(2):
        wakes += await stop_past_session(rig, zombie)
    await rig.acknowledges(2200)
    await finish(load)
    await rig.drained()
    rejected = await rejections(zombie)
    verdict = await rig.judge("worker stopped", faults=wakes, min_faults=2, rejected=rejected)
    assert verdict.valid, verdict
    assert rejected > 0, "no zombie had anything to write: the run proves nothing"


async def stop_past_session(rig, worker):
    """
    SIGSTOP until others have taken over and stored on; say whether they did.

    A worker that happens to be stopped inside a transaction keeps the lock of the store, so nobody
    can store on: it is let go for a moment and stopped anew.
    """
    await rig.stores(rig.stored() + 50)
    for _ in range(10):
        worker.send(signal.SIGSTOP)
        before = rig.offsets()
        await asyncio.sleep(rig.settings.session_timeout_ms / 1000 + 0.3)
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
    await rig.stores(rig.stored() + 200)
    return worker.running


async def rejections(worker):
    """Count what the store refused this worker: stale rows, and stale offsets."""
    stale = await worker.metric("spile_store_records_total", outcome="stale")
    anew = sum("offsets are read anew" in line for line in worker.log.read_text().splitlines())
    return int(stale) + anew


async def test_sigterm_under_load_redelivers_nothing(make_rig):
    """Told to stop under load a worker ends with 0 in time, and its successor repeats nothing."""
    rig = await make_rig()
    load = await begun(rig, rate=500, many=True)
    slowest_s, terms = 0.0, 0
    for _ in range(3):
        worker = rig.worker()
        await worker.said("worker reads")
        await rig.stores(rig.stored() + 300)
        began = asyncio.get_running_loop().time()
        worker.send(signal.SIGTERM)
        assert await worker.ended(25) == 0, worker.tail()
        slowest_s = max(slowest_s, asyncio.get_running_loop().time() - began)
        terms += 1
        stood = {place: at for place, at in rig.offsets().items() if at}
        assert await rig.committed() == stood
    last = rig.worker()
    await rig.acknowledges(2200)
    await finish(load)
    await rig.drained()
    repeated = [
        await last.metric("spile_store_records_total", outcome=outcome)
        for outcome in ("duplicate", "stale")
    ]
    verdict = await rig.judge(
        "worker told to stop",
        faults=terms,
        min_faults=3,
        slowest_exit_s=slowest_s,
        redelivered=sum(repeated),
    )
    assert verdict.valid, verdict
    assert repeated == [0, 0]


async def test_publisher_killed_mid_run(make_rig):
    """What a publisher had acknowledged before SIGKILL is there, on the bus and in the store."""
    rig = await make_rig()
    rig.worker()
    kills = 0
    for many in (False, True):
        so_far = rig.acknowledged()
        load = rig.load(rate=800, keys=32, many=many)
        await rig.acknowledges(so_far + 1200)
        kills += await load.kill()
    await rig.drained()
    verdict = await rig.judge("publisher killed", faults=kills, min_faults=2)
    assert verdict.valid, verdict


async def test_mutant_that_commits_first_is_caught(make_rig):
    """A worker that moves its offsets before it writes loses events, and the ledger says so."""
    rig = await make_rig()
    load = await begun(rig, rate=600, many=True)
    kills = 0
    for _ in range(2):
        worker = rig.worker("commit-first")
        await worker.said("worker reads")
        await rig.stores(rig.stored() + 1)
        kills += await worker.kill()
    rig.worker()
    await rig.acknowledges(2000)
    await finish(load)
    await rig.drained()
    verdict = await rig.judge("mutant commits first", faults=kills, min_faults=2)
    assert set(verdict.anomalies) == {"lost:store"}, verdict


async def test_fence_decides_what_a_zombie_may_do(make_rig):
    """
    Without compare-and-set and unique ids a zombie's batch has a second effect, and the ledger says
    so; the compare-and-set alone, without unique ids, prevents it.
    """
    broken, fenced = await asyncio.gather(
        zombie_with(make_rig, "no-fence"), zombie_with(make_rig, "only-fence")
    )
    assert "duplicate:store" in broken.anomalies, broken
    assert fenced.valid, fenced


async def zombie_with(make_rig, mode):
    """Let one variant of the worker become a zombie beside another of its kind."""
    rig = await make_rig()
    load = await begun(rig, rate=500)
    zombie = rig.worker("slow", mode)
    await rig.stores(1)
    heir = rig.worker("slow", mode)
    await heir.said("worker reads")
    wakes = await stop_past_session(rig, zombie)
    await rig.acknowledges(2000)
    await finish(load)
    await rig.drained()
    verdict = check(
        read_history(rig.history), [rig.observe_store()], faults_seen=wakes, min_faults=1
    )
    rig.report(f"mutant {mode}", verdict, faults=wakes)
    return verdict
