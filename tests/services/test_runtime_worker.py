"""The life of a worker, on the bus in memory."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from prometheus_client import REGISTRY

from spile.adapters.delivery import OutgoingRecord
from spile.adapters.memory import MemoryEventBus
from spile.adapters.subscribing import SubscriptionOptions
from spile.services.persistence import (
    Decoder,
    EventFilter,
    PersistenceHandler,
    SqliteEventStore,
    StoreDamagedError,
    persistence_worker,
)
from spile.services.runtime import Worker, WorkerSettings, run_worker
from spile.spi import ClosedError, HandlerStalledError, PermanentError, TooManyFailuresError
from spile.topics import Catalogue, TopicSpec, default_catalogue

TOPIC = "dev.agent.tool.recorded.v1"
ALL = EventFilter()


@pytest.fixture
async def bus():
    """A bus in memory that closes in the end."""
    async with MemoryEventBus(options=SubscriptionOptions(poll_timeout_s=0.02)) as opened:
        yield opened


@pytest.fixture
def settings(database):
    """Settings with a store of the test's own."""
    return WorkerSettings(store=str(database))


@pytest.fixture
def publish(bus, make_record):
    """Publish some records."""

    async def send(count, **changes):
        records = [make_record(**changes) for _ in range(count)]
        await bus.cluster.sender().send(
            [OutgoingRecord(r.topic, r.key, r.value, list(r.headers)) for r in records]
        )

    return send


@pytest.fixture
def persist(bus, settings):
    """Run the persistence worker until it has stored as many events, then stop it."""

    async def run(until):
        stop = asyncio.Event()
        async with (
            persistence_worker(
                settings,
                catalogue=default_catalogue(),
                environment="dev",
                dead_letters=bus.adapter.dead_letters,
            ) as worker,
            asyncio.timeout(10),
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(run_worker(worker, bus, settings, stop=stop))
            while await worker.offsets.count(ALL) < until:  # noqa: ASYNC110 - a store tells nobody
                await asyncio.sleep(0.01)
            stop.set()

    return run


async def test_events_reach_the_store(bus, publish, persist, database):
    """What is published is stored, and the group's offsets follow."""
    await publish(20)
    await persist(20)

    assert sum(bus.cluster.committed("persistence").values()) == 20


async def test_worker_goes_on_where_the_store_is(bus, publish, persist, database):
    """After a restart nothing is stored twice; what came meanwhile is stored."""
    await publish(10)
    await persist(10)
    await publish(5)
    await persist(15)

    async with SqliteEventStore(database, read_only=True) as store:
        assert await store.count(ALL) == 15


async def test_fresh_store_is_filled_from_the_beginning(publish, persist, database):
    """A store that was lost is built anew from the log, wherever the group stood."""
    await publish(10)
    await persist(10)
    for path in database.parent.glob("events.db*"):
        path.unlink()
    await publish(3)
    await persist(13)


async def test_dead_letters_are_not_read(bus, publish, persist):
    """The worker's pattern leaves out dead letters, so poison does not go round."""
    await publish(1, value=b"{")
    await publish(3)
    await persist(3)

    dead = bus.cluster.records(f"{TOPIC}.dlq")
    assert len(dead) == 1


async def test_reset_store_is_read_anew(bus, publish, settings, database):
    """When the offsets vanish under the worker it joins anew instead of stopping."""
    await publish(5)
    stop = asyncio.Event()
    async with (
        persistence_worker(
            settings,
            catalogue=default_catalogue(),
            environment="dev",
            dead_letters=bus.adapter.dead_letters,
        ) as worker,
        asyncio.timeout(20),
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(run_worker(worker, bus, settings, stop=stop))
        while await worker.offsets.count(ALL) < 5:  # noqa: ASYNC110 - a store tells nobody
            await asyncio.sleep(0.01)
        async with SqliteEventStore(database) as operator:
            await operator.reset_offsets()
        await publish(5)
        while await worker.offsets.count(ALL) < 10:  # noqa: ASYNC110 - a store tells nobody
            await asyncio.sleep(0.01)
        stop.set()


async def test_signal_drains_and_commits(bus, publish, settings):
    """SIGTERM lets the batch in hand finish and commits it."""
    began, release, done = asyncio.Event(), asyncio.Event(), []

    async def handle(records):
        began.set()
        await release.wait()
        done.extend(records)

    worker = Worker(name="slow", group="slow", topics=[TOPIC], handle=handle)
    await publish(4)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(run_worker(worker, bus, settings))
        await began.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)
        release.set()

    assert len(done) == 4
    assert sum(bus.cluster.committed("slow").values()) == 4


async def test_permanent_failure_ends_the_worker_with_its_offsets(bus, publish, settings):
    """The error comes out, nothing is committed."""

    async def handle(records):
        raise PermanentError("no such table")

    worker = Worker(name="bad", group="bad", topics=[TOPIC], handle=handle)
    await publish(1)

    with pytest.raises(PermanentError, match="no such table"):
        async with asyncio.timeout(10):
            await run_worker(worker, bus, settings)
    assert sum(bus.cluster.committed("bad").values()) == 0


async def test_stalled_handler_ends_the_worker(settings, make_record):
    """A handler that does not come back is an error of its own."""
    options = SubscriptionOptions(poll_timeout_s=0.02, stall_after_s=0.1)
    async with MemoryEventBus(options=options) as bus:
        record = make_record()
        await bus.cluster.sender().send(
            [OutgoingRecord(record.topic, record.key, record.value, list(record.headers))]
        )

        async def handle(records):
            await asyncio.Event().wait()

        worker = Worker(name="stuck", group="stuck", topics=[TOPIC], handle=handle)
        with pytest.raises(HandlerStalledError):
            async with asyncio.timeout(10):
                await run_worker(worker, bus, settings)


async def test_closed_error_without_end_ends_the_worker(bus, publish, settings, monkeypatch):
    """Joining anew is tried some times only."""
    monkeypatch.setattr("spile.services.runtime._worker._REREADS", 1)
    calls = []

    async def handle(records):
        calls.append(records)
        raise ClosedError("stands elsewhere")

    worker = Worker(name="lost", group="lost", topics=[TOPIC], handle=handle)
    await publish(1)

    with pytest.raises(ClosedError):
        async with asyncio.timeout(10):
            await run_worker(worker, bus, settings)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("error", "code"), [("None", 0), ("PermanentError('no')", 1), ("HandlerStalledError('no')", 70)]
)
def test_exit_code_says_how_it_ended(error, code):
    """0 after a clean end, 1 for an error, 70 for a stalled handler even if its thread hangs."""
    program = f"""
import asyncio, threading
from spile.services.runtime import run_process
from spile.spi import HandlerStalledError, PermanentError

async def main():
    if {code} == 70:
        asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    if (error := {error}) is not None:
        raise error

raise SystemExit(run_process(main))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )

    assert done.returncode == code
    assert done.stderr == ("" if code == 0 else "error: no\n")


async def test_tripped_guard_waits_for_the_fix(bus, publish, settings, database):
    """
    A worker whose records nearly all fail buries none, keeps its offsets and stays up, unready; the
    mended one stores everything.
    """

    async def run(decoder, tripped):
        stop = asyncio.Event()
        async with SqliteEventStore(database) as store, asyncio.timeout(10):
            handler = PersistenceHandler(store, decoder, bus.adapter.dead_letters, group="p")
            worker = Worker(name="p", group="p", topics=[TOPIC], handle=handler, offsets=store)
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(_outcome(run_worker(worker, bus, settings, stop=stop)))
                while _guard_of("p") != tripped:  # noqa: ASYNC110 - a metric tells nobody
                    await asyncio.sleep(0.01)
                while not tripped and await store.count(ALL) < 200:  # noqa: ASYNC110 - the same
                    await asyncio.sleep(0.01)
                assert not running.done()
                stop.set()
            return await running

    await publish(200)
    broken = Decoder(Catalogue([TopicSpec(name=TOPIC.removeprefix("dev."), owner="x")]), "dev")
    assert isinstance(await run(broken, 1), TooManyFailuresError)
    assert not bus.cluster.records(f"{TOPIC}.dlq")
    assert await run(Decoder(default_catalogue(), "dev"), 0) is None


def _guard_of(group):
    return REGISTRY.get_sample_value("spile_guard_tripped", {"group": group})


async def _outcome(work):
    """Return the error that something ends with."""
    try:
        await work
    except TooManyFailuresError as exc:
        return exc
    return None


async def test_corrupt_store_stops_the_start(settings, database, bus):
    """A store that cannot be trusted is never written to."""
    database.write_bytes(b"no database" * 1000)

    with pytest.raises(StoreDamagedError):
        async with persistence_worker(
            settings,
            catalogue=default_catalogue(),
            environment="dev",
            dead_letters=bus.adapter.dead_letters,
        ):
            pass


def test_a_worker_that_still_connects_ends_when_it_is_told_to(database):
    """Nothing is in hand yet, so it does not wait for a broker that is not there: code 0."""
    process = subprocess.Popen(
        [sys.executable, "-m", "spile.services.persistence"],
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "SPILE_BOOTSTRAP_SERVERS": "127.0.0.1:9",
            "SPILE_STORE": str(database),
            "SPILE_START_TIMEOUT_MS": "60000",
        },
    )
    with process:
        try:
            next(line for line in process.stderr if "Unable connect" in line)
            process.send_signal(signal.SIGTERM)
            _, rest = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "workers stopped" in rest
