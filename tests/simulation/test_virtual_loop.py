"""The loop: virtual time, seeded interleavings, what asyncio promises, and nothing from outside."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from random import Random

import pytest

from spile.adapters.delivery import OutgoingRecord
from spile.testkit.simulation import (
    FaultRates,
    Process,
    SimulationStuckError,
    VirtualLoop,
    simulate,
)


@pytest.fixture
def run():
    """Run a coroutine on a virtual loop of a seed."""

    def run(work, seed=1, **options):
        loop = VirtualLoop(Random(seed), **options)
        try:
            return loop.run_until_complete(work)
        finally:
            loop.close()

    return run


def test_a_day_takes_no_time(run):
    """Sleeping costs nothing, and the loop's clock has moved by exactly the sleep."""

    async def day():
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(86_400)
        return loop.time() - before

    started = time.monotonic()
    assert run(day()) == pytest.approx(86_400)
    assert time.monotonic() - started < 1.0


def test_timeouts_fire_in_virtual_time(run):
    """`asyncio.timeout` and `wait_for` work as on a real loop."""

    async def late():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.sleep(11)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(11), 10)
        async with asyncio.timeout(10):
            await asyncio.sleep(9)
        return asyncio.get_running_loop().time()

    assert run(late()) == pytest.approx(1029.0)


async def _race():
    order: list[int] = []

    async def runner(number):
        for _ in range(3):
            order.append(number)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(runner(number))
    return order


def test_the_seed_decides_who_goes_first(run):
    """The same seed gives the same interleaving, twenty seeds give many."""
    assert run(_race(), 7) == run(_race(), 7)
    assert len({tuple(run(_race(), seed)) for seed in range(20)}) > 15


def test_without_shuffling_it_is_a_real_loop_order(run):
    """Tasks run round robin as on asyncio's own loops."""
    assert run(_race(), shuffled=False) == asyncio.run(_race())


def test_callbacks_of_one_task_keep_their_order(run):
    """What one task hands to `call_soon`, and the tasks that it makes, begin in that order."""

    async def many():
        order: list[int] = []

        async def begin(number):
            order.append(number)

        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for number in range(0, 20, 2):
                loop.call_soon(order.append, number)
                group.create_task(begin(number + 1))
        return order

    for seed in range(20):
        assert run(many(), seed) == list(range(20))


def test_threads_run_in_line(run):
    """`to_thread` gives the result, and the error, without a thread."""

    async def work():
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        return await asyncio.to_thread(lambda: 42)

    assert run(work()) == 42


def test_the_network_is_refused(run):
    """A connection is refused with a text that says why."""
    with pytest.raises(SimulationStuckError, match="no network"):
        run(asyncio.open_connection("127.0.0.1", 9092))


def test_waiting_for_ever_is_an_error(run):
    """When nothing can happen any more the run ends and names the tasks."""

    async def stuck():
        with pytest.raises(asyncio.CancelledError):
            await asyncio.Event().wait()

    loop = VirtualLoop(Random(1))
    task = loop.create_task(stuck(), name="the one that waits")
    with pytest.raises(SimulationStuckError, match="the one that waits"):
        loop.run_until_complete(task)
    task.cancel()
    loop.run_until_complete(task)
    loop.close()


def test_polling_busily_is_an_error():
    """A loop that never lets time pass is found."""

    async def busy(sim):
        while True:  # noqa: ASYNC110 - on purpose
            await asyncio.sleep(0)

    with pytest.raises(SimulationStuckError, match="polls busily"):
        simulate(busy, 1)


def test_the_machines_clocks_follow():
    """`time` is virtual inside, goes on with the loop, and is real again afterwards."""
    inside: list[float] = []

    async def look(sim):
        before = time.time(), time.monotonic(), sim.clock.now()
        await asyncio.sleep(60)
        inside.extend([time.time() - before[0], time.monotonic() - before[1]])
        assert before[2] == datetime(2026, 1, 1, tzinfo=UTC)
        assert (sim.clock.now() - before[2]).total_seconds() == 60

    real = time.time()
    simulate(look, 1)
    assert inside == [pytest.approx(60), pytest.approx(60)]
    assert 0 <= time.time() - real < 30


def test_a_killed_process_cleans_nothing_up():
    """No `finally` of a killed process takes effect, and whoever waits for others goes on."""
    done: list[str] = []

    async def scenario(sim):
        async def work():
            try:
                await asyncio.sleep(10)
                sim.trace.note("never")
            finally:
                sim.trace.note("cleaned up")

        process = sim.process("victim")
        process.start(work())
        await asyncio.sleep(5)
        process.kill()
        await asyncio.sleep(100)
        assert sim.trace.counts.keys() == {"process"}
        done.append("yes")

    simulate(scenario, 1)
    assert done == ["yes"]


def test_a_stopped_process_goes_on_where_it_was():
    """While it is stopped nothing of it runs; its timers that ran out fire afterwards."""
    moments: list[float] = []

    async def scenario(sim):
        async def work():
            assert Process.current() is process
            await asyncio.sleep(10)
            moments.append(sim.loop.time())

        process = sim.process("sleeper")
        process.start(work())
        await asyncio.sleep(5)
        process.stop()
        await asyncio.sleep(100)
        process.go_on()
        await asyncio.sleep(1)

    simulate(scenario, 1)
    assert moments == [pytest.approx(1105.0)]


def test_a_failure_says_how_to_repeat_it():
    """The notes of the error hold the seed, the command and the last steps."""

    async def scenario(sim):
        sim.trace.note("something", "telling")
        raise AssertionError("broken")

    with pytest.raises(AssertionError, match="broken") as caught:
        simulate(scenario, 123)
    notes = "\n".join(caught.value.__notes__)
    assert "SPILE_SIM_SEED=123 pytest" in notes
    assert "something telling" in notes


def test_an_error_in_a_callback_is_not_swallowed():
    """What the loop would only log fails the run."""

    async def scenario(sim):
        sim.loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        simulate(scenario, 1)


def test_faults_have_the_rates_that_were_asked_for():
    """A send fails, is torn, or loses its answer, about as often as the rates say."""

    async def scenario(sim):
        cluster = sim.cluster({"t": 1})
        sender = cluster.sender()
        sim.faults.rates = FaultRates(send_fails=0.2, acks_lost=0.2, send_torn=0.2)
        acknowledged = 0
        for n in range(1000):
            receipt = await sender.send([OutgoingRecord("t", b"k", b"%d" % n, [])] * 2)
            acknowledged += len(receipt.positions())
        written = len(cluster.records("t"))
        assert 950 < acknowledged < 1450
        assert 1150 < written < 1700
        assert acknowledged < written
        for kind in ("send failed", "ack lost", "send torn"):
            assert 100 < sim.faults.seen[kind] < 260

    simulate(scenario, 1)
