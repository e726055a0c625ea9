"""Who owns the tasks of a subscription, and what a cancel does to it."""

from __future__ import annotations

import asyncio

import pytest

from spile.adapters.delivery._tasks import Tasks
from spile.adapters.subscribing import Subscription
from spile.spi import BrokerUnavailableError, UnauthorisedError


async def test_failure_is_reported():
    """What a task raises is told to its owner."""
    failures: list[BaseException] = []
    tasks = Tasks(failures.append)

    async def fail():
        raise ValueError("x")

    await asyncio.wait([tasks.start(fail(), "fails")])
    await asyncio.sleep(0)
    assert [str(failure) for failure in failures] == ["x"]


async def test_foreign_cancel_is_reported():
    """A task that somebody else cancelled is told to its owner; an own cancel is not."""
    failures: list[BaseException] = []
    tasks = Tasks(failures.append)
    foreign = tasks.start(asyncio.Event().wait(), "foreign")
    tasks.start(asyncio.Event().wait(), "own")
    await asyncio.sleep(0)
    foreign.cancel()
    await asyncio.sleep(0)
    await tasks.close()
    await asyncio.sleep(0)
    assert [str(failure) for failure in failures] == ["task 'foreign' was cancelled from outside"]


async def test_inside():
    """Code in a task, and in tasks that it starts, knows whose it is."""
    tasks = Tasks(lambda failure: None)
    seen: list[bool] = []

    async def inner():
        seen.append(tasks.is_inside())

    async def outer():
        async with asyncio.TaskGroup() as group:
            group.create_task(inner())

    await asyncio.wait([tasks.start(outer(), "outer")])
    await inner()
    assert seen == [True, False]


async def test_cancelled_subscription_says_so(bench):
    """A cancel from outside ends it with a failure; what was done is committed."""
    seen: list[bytes] = []

    async def handle(message):
        seen.append(message.value)

    subscription = await bench.messages(handle, commit_interval_s=60.0)
    await bench.send(b"1")
    await bench.until(lambda: seen == [b"1"])
    polls = next(task for task in asyncio.all_tasks() if task.get_name() == "polls")
    polls.cancel()
    with pytest.raises(RuntimeError, match="cancelled from outside"):
        await subscription.wait()
    assert bench.committed() == 1


async def test_failed_start_leaves_nothing(bench):
    """A start that fails raises, and leaves neither task nor member behind."""

    async def handle(message):
        pass

    before = asyncio.all_tasks()
    bench.cluster.faults.fail("open", UnauthorisedError("no"))
    with pytest.raises(UnauthorisedError):
        await bench.messages(handle)
    assert asyncio.all_tasks() == before
    assert bench.cluster.group(bench.group).members == []


async def test_close_before_the_start(bench):
    """A subscription that was never started closes at once."""

    async def handle(message):
        pass

    source = bench.cluster.source([bench.topic], bench.group)
    subscription = Subscription.of_messages(source, handle, group_id=bench.group)
    async with asyncio.timeout(1):
        await subscription.close()


async def test_returning_partition_waits_for_its_old_handler(bench):
    """A partition that comes back while its old handler runs is not handled twice at a time."""
    running = most = 0
    first, go = asyncio.Event(), asyncio.Event()
    seen: list[bytes] = []

    async def handle(message):
        nonlocal running, most
        running += 1
        most = max(most, running)
        if not first.is_set():
            first.set()
            await go.wait()
        running -= 1
        seen.append(message.value)

    async def other(message):
        await asyncio.Event().wait()

    await bench.messages(handle, drain_limit_s=0.02)
    await bench.send(b"1", b"2", partition=0)
    await first.wait()
    joined = await bench.messages(other, close_limit_s=0.0)
    await joined.close()
    await asyncio.sleep(0.05)
    assert (most, seen) == (1, [])
    go.set()
    await bench.until(lambda: bench.committed() == 2)
    assert most == 1
    assert seen == [b"1", b"1", b"2"]


async def test_source_that_cannot_be_opened_anew(bench):
    """When opening anew fails it is tried after every further failed poll until it works."""
    seen: list[bytes] = []

    async def handle(message):
        seen.append(message.value)

    source = bench.cluster.source([bench.topic], bench.group)
    reopens = 0
    reopen = source.reopen

    async def flaky():
        nonlocal reopens
        reopens += 1
        if reopens < 3:
            raise BrokerUnavailableError("still away")
        await reopen()

    source.reopen = flaky
    await bench.messages(handle, source=source)
    bench.cluster.faults.fail("poll", BrokerUnavailableError("away"), times=5)
    await bench.send(b"1")
    await bench.until(lambda: seen == [b"1"])
    assert reopens == 3
