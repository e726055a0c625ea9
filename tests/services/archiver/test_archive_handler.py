"""The archiver on the bus in memory, into a folder."""

import asyncio
import contextlib
from datetime import timedelta

import pytest

from spile.services.archiver import Archiver, DivergedError
from spile.services.archiver.objects import CuttingRule
from spile.services.archiver.stores import ArchiveUnavailableError, FolderStore
from spile.services.runtime import Worker, WorkerSettings, run_worker
from spile.topics import TICK

OTHER = "dev.agent.memory.recorded.v1"
THIRD = "dev.agent.workflow.recorded.v1"


class Flaky(FolderStore):
    """A folder whose puts fail as a test says."""

    def __init__(self, root):
        super().__init__(root)
        self.before = lambda key: None
        self.after = lambda key: None
        self.puts = []

    def put(self, key, data):
        """Store bytes, with what the test does before and after."""
        self.puts.append(key)
        self.before(key)
        written = super().put(key, data)
        self.after(key)
        return written


@pytest.fixture
def flaky(tmp_path):
    """Open an archive in a folder that can fail."""
    return Flaky(tmp_path / "flaky")


@pytest.fixture
async def work(bus):
    """Run an archiver as the worker process does, and return the task."""
    async with contextlib.AsyncExitStack() as stack:
        stop = asyncio.Event()
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(stop.set)

        async def start(store, rule, topics):
            archiver = await stack.enter_async_context(
                Archiver(store, rule, publish=bus.adapter.publish_record)
            )
            worker = Worker(
                name="archiver",
                group="archiver",
                topics=topics,
                handle=archiver,
                offsets=archiver,
                manual_commit=True,
                bind=archiver.bind,
                in_hand=archiver.in_hand,
                trouble=archiver.trouble,
            )

            async def run():
                try:
                    await run_worker(worker, bus, WorkerSettings(), stop=stop)
                except DivergedError as exc:
                    return exc

            return tasks.create_task(run())

        yield start


async def test_each_offset_is_archived_once(bus, publish, folder, archiving, look, until, topic):
    """Whole objects are archived and committed; the tail waits and is read anew after a restart."""
    found = look(folder)
    await publish(250)
    async with archiving(bus, folder) as archiver:
        await until(lambda: found.archived() == 200)
        await until(lambda: bus.cluster.committed("archiver").get((topic, 0)) == 200)
        await until(lambda: archiver.in_hand() == {(topic, 0): 50})
    await publish(50)
    async with archiving(bus, folder):
        await until(lambda: found.archived() == 300)

    assert found.offsets() == list(range(300))
    values = [row["value"] for row in found.records()]
    assert values[249:251] == [b"0000000249", b"0000000000"]


async def test_a_rerun_writes_the_same_bytes(bus, publish, tmp_path, archiving, look, until):
    """The objects of a log, read anew by another group into another archive, are the same."""
    await publish(300)
    await publish(300, topic=OTHER)
    content = []
    for name in ("first", "second"):
        store = FolderStore(tmp_path / name)
        async with archiving(bus, store, group=name, topics=("^dev[.].*",)):
            await until(lambda store=store: look(store).archived() == 600)
        content.append(look(store).content())

    assert content[0] == content[1]
    assert len(content[0]) == 12


async def test_another_rule_goes_on_at_the_boundary(bus, publish, folder, archiving, look, until):
    """Another cutting rule starts a prefix of its own where the last whole object ended."""
    found = look(folder)
    await publish(250)
    async with archiving(bus, folder, records=100):
        await until(lambda: found.archived() == 200)
    async with archiving(bus, folder, records=25):
        await until(lambda: found.archived() == 250)

    assert found.offsets() == list(range(250))
    rules = [manifest.rule for manifest in found.manifests()]
    assert rules[:2] == [CuttingRule(records=100, window=timedelta(hours=1)).name] * 2
    assert rules[2:] == [CuttingRule(records=25, window=timedelta(hours=1)).name] * 2


async def test_a_tick_closes_the_object_of_an_idle_partition(
    bus, publish, folder, archiving, look, until, topic
):
    """A partition that gives nothing more gets one tick, which ends its object."""
    found = look(folder)
    await publish(3)
    async with archiving(bus, folder, window=timedelta(milliseconds=150)):
        await until(lambda: found.archived() == 4)
        await publish(2)
        await until(lambda: found.archived() == 7, 5)

    first, second = found.manifests()
    assert (first.ticks, second.ticks) == (1, 1)
    assert first.event_minutes == {"2026-01-01T12:00Z": 3}
    last = found.records()[-1]
    assert (last["key"], last["value"]) == (TICK.encode(), None)
    assert {"name": "event_type", "value": TICK.encode()} in last["headers"]
    assert len(bus.cluster.records(topic)) == 7


async def test_an_archive_that_is_away_holds_up_only_what_it_refuses(
    bus, publish, flaky, archiving, look, until, topic
):
    """While its uploads fail a partition is paused, nothing of it is committed; others go on."""

    def away(key):
        if f"topic={topic}/" in key:
            raise ArchiveUnavailableError("the server answers 503 SlowDown")

    flaky.before = away
    found = look(flaky)
    await publish(3_000)
    async with archiving(bus, flaky, topics=(topic, OTHER), records=100) as archiver:
        await until(lambda: (archiver.trouble() or "").endswith("503 SlowDown"))
        await publish(300, topic=OTHER)
        await until(lambda: found.archived() == 300)
        assert found.partitions() == {(OTHER, 0)}
        assert not bus.cluster.committed("archiver").get((topic, 0))
        flaky.before = lambda key: None
        await until(lambda: found.archived() == 3_300)
        assert archiver.trouble() is None
        await until(lambda: bus.cluster.committed("archiver").get((topic, 0)) == 3_000)

    assert found.offsets() == list(range(3_000))


async def test_an_answer_that_is_lost_doubles_nothing(
    bus, publish, flaky, archiving, look, until, topic
):
    """A put that succeeded but timed out is found by the next try, object and manifest alike."""
    lost = []

    def lose(key):
        if key not in lost:
            lost.append(key)
            raise ArchiveUnavailableError("ReadTimeoutError")

    flaky.after = lose
    found = look(flaky)
    await publish(200)
    async with archiving(bus, flaky):
        await until(lambda: bus.cluster.committed("archiver").get((topic, 0)) == 200)

    assert found.offsets() == list(range(200))
    assert len(found.content()) == 4
    assert len(lost) == 4


async def test_two_archivers_share_the_partitions(bus, publish, folder, archiving, look, until):
    """While a second one joins and leaves in the middle every offset is archived once."""
    topics = ("^dev[.]agent[.].*",)
    names = {OTHER, THIRD, "dev.agent.tool.recorded.v1"}
    found = look(folder)
    async with archiving(bus, folder, topics=topics, records=50):
        for name in sorted(names):
            await publish(220, topic=name)
        await until(lambda: found.archived() >= 100)
        async with archiving(bus, folder, topics=topics, records=50):
            for name in sorted(names):
                await publish(220, topic=name)
            await until(lambda: found.archived() >= 900)
        for name in sorted(names):
            await publish(60, topic=name)
        await until(lambda: found.archived() == 1_500)

    for name in names:
        assert found.offsets(name) == list(range(500))


async def test_memory_bounds_what_is_read(bus, publish, flaky, archiving, look, until):
    """Above the bound of the buffer partitions take turns, and all get archived."""
    found = look(flaky)
    held = []
    topics = sorted({OTHER, THIRD, "dev.agent.tool.recorded.v1"})
    for name in topics:
        await publish(400, topic=name, size=1_000)
    async with archiving(bus, flaky, topics=topics, records=200, buffer_bytes=100_000) as archiver:
        flaky.before = lambda key: held.append(
            sum(part.held_bytes for part in archiver._partitions.values())
        )
        await until(lambda: found.archived() == 1_200)

    assert len(found.manifests(OTHER)) == 2
    assert held


async def test_other_records_under_the_key_stop_the_worker(
    bus, publish, folder, work, numbered, seal, topic
):
    """An object that holds other records than the log ends the worker, which says so."""
    rule = CuttingRule(records=100, window=timedelta(hours=1))
    await publish(100)
    stamp = bus.cluster.records(topic)[0].timestamp
    rival = seal(numbered(100, timestamp=stamp), rule)[0]
    assert folder.put(rival.manifest.object, rival.data)
    async with asyncio.timeout(20):
        failure = await (await work(folder, rule, [topic]))

    assert failure.key == rival.manifest.object
    assert "holds other records than the log" in str(failure)


async def test_an_overtaken_archiver_goes_on_behind_the_other(
    bus, publish, folder, archiving, flaky, work, look, until, topic
):
    """When another rule archived a position first, the worker begins anew behind its object."""
    found = look(flaky)
    await publish(100)
    released = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait(key):
        if key.startswith("manifests/"):
            asyncio.run_coroutine_threadsafe(released.wait(), loop).result(10)

    flaky.before = wait
    rival = FolderStore(flaky._root)
    await work(flaky, CuttingRule(records=10, window=timedelta(hours=1)), [topic])
    await until(lambda: any(key.startswith("manifests/") for key in flaky.puts))
    async with archiving(bus, rival, group="rival", records=64):
        await until(lambda: found.archived() == 64)
    released.set()
    await until(lambda: found.archived() == 94)

    assert found.offsets() == list(range(94))
