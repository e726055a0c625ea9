"""One message at a time: order, retries, acknowledgements, dead letters, rebalances."""

from __future__ import annotations

import asyncio

import pytest

from spile.spi import (
    BrokerUnavailableError,
    ClosedError,
    HandlerStalledError,
    ProtocolEventMessage,
    ProtocolSubscription,
    RejectedError,
    UnknownTopicError,
)


async def test_key_order(bench):
    """Messages of one key arrive in the order of their publishing, also through retries."""
    seen: list[bytes] = []
    failed: set[bytes] = set()

    async def handle(message):
        await asyncio.sleep(0)
        if message.value.endswith(b"3") and message.value not in failed:
            failed.add(message.value)
            raise ValueError("once")
        seen.append(message.value)

    for key in (b"a", b"b", b"c"):
        await bench.send(*(key + str(n).encode() for n in range(10)), key=key)
    await bench.messages(handle)
    await bench.until(lambda: len(seen) == 30)
    for key in (b"a", b"b", b"c"):
        assert [v for v in seen if v.startswith(key)] == [key + str(n).encode() for n in range(10)]
    assert len(failed) == 3


async def test_satisfies_the_contracts(bench):
    """A subscription and its messages are what the contracts ask for."""
    seen: list[ProtocolEventMessage] = []

    async def handle(message):
        seen.append(message)

    subscription = await bench.messages(handle)
    await bench.send(b"v", key=b"k", partition=1)
    await bench.until(lambda: bool(seen))
    assert isinstance(subscription, ProtocolSubscription)
    assert isinstance(seen[0].record.value, bytes)
    message = seen[0]
    assert (message.topic, message.key, message.value) == (bench.topic, b"k", b"v")
    assert (message.offset, message.partition) == ("0", 1)


async def test_nothing_committed_before_handled(bench):
    """While a handler runs its message is not committed."""
    began, go = asyncio.Event(), asyncio.Event()

    async def handle(message):
        began.set()
        await go.wait()

    await bench.messages(handle)
    await bench.send(b"v")
    await began.wait()
    await asyncio.sleep(0.03)
    assert bench.committed() == 0
    go.set()
    await bench.until(lambda: bench.committed() == 1)


async def test_redelivered_without_ack(bench):
    """With manual_ack, returning without ack() means the same message again, in order."""
    seen: list[bytes] = []

    async def handle(message):
        seen.append(message.value)
        if seen.count(message.value) == 3:
            await message.ack()

    await bench.messages(handle, manual_ack=True)
    await bench.send(b"1", b"2")
    await bench.until(lambda: bench.committed() == 2)
    assert seen == [b"1", b"1", b"1", b"2", b"2", b"2"]


async def test_late_ack_counts(bench):
    """An ack() that comes after the handler returned settles the message."""
    kept: list[ProtocolEventMessage] = []

    async def handle(message):
        kept.append(message)

    slow = bench.QUICK_DAY
    await bench.messages(handle, manual_ack=True, retries=slow)
    await bench.send(b"1", b"2")
    await bench.until(lambda: len(kept) == 1)
    await kept[0].ack()
    await bench.until(lambda: len(kept) == 2)
    await bench.until(lambda: bench.committed() == 1)
    assert [m.value for m in kept] == [b"1", b"2"]


async def test_acks_out_of_order(bench):
    """Acks in any order over partitions never commit past a message that is not acknowledged."""
    kept: dict[bytes, ProtocolEventMessage] = {}

    async def handle(message):
        kept[message.value] = message

    await bench.messages(handle, manual_ack=True, retries=bench.QUICK_DAY)
    await bench.send(b"a1", b"a2", partition=0)
    await bench.send(b"b1", b"b2", partition=1)
    await bench.until(lambda: len(kept) == 2)
    await kept[b"b1"].ack()
    await bench.until(lambda: b"b2" in kept)
    await kept[b"b2"].ack()
    await bench.until(lambda: bench.committed() == 2)
    assert bench.cluster.committed(bench.group)[bench.topic, 0] == 0
    await kept[b"a1"].ack()
    await bench.until(lambda: bench.committed() == 3)
    assert b"a2" in kept


async def test_ack_after_the_end_refused(bench):
    """An ack() after the close raises, and the offset stays where it was."""
    kept: list[ProtocolEventMessage] = []

    async def handle(message):
        kept.append(message)

    subscription = await bench.messages(handle, manual_ack=True, retries=bench.QUICK_DAY)
    await bench.send(b"1")
    await bench.until(lambda: bool(kept))
    await subscription.close()
    with pytest.raises(ClosedError, match="redelivered"):
        await kept[0].ack()
    assert bench.committed() == 0


async def test_dead_letter_outage_commits_nothing(bench):
    """While the dead letter queue is away the message stays in hand, uncommitted."""
    calls = 0

    async def handle(message):
        nonlocal calls
        calls += 1
        raise ValueError("always")

    async def away(operation, about):
        if operation == "send":
            raise BrokerUnavailableError("away")

    await bench.send(b"poison", b"next")
    bench.cluster.faults.hook = away
    await bench.messages(handle)
    await bench.until(lambda: calls == 4)
    await asyncio.sleep(0.05)
    assert calls == 4
    assert bench.committed() == 0
    bench.cluster.faults.hook = None
    await bench.until(lambda: bench.committed() == 2)
    assert len(bench.cluster.records(f"{bench.topic}.dlq")) == 2


async def test_no_dead_letter_topic_ends_it(bench):
    """A failure that no queue can take ends the subscription with the offsets kept."""
    bench.cluster.create_topic("dev.shop.orders.lost.v1")

    async def handle(message):
        raise ValueError("always")

    source = bench.cluster.source(["dev.shop.orders.lost.v1"], "g")
    subscription = await bench.messages(handle, source=source)
    await bench.sender.send([bench.record("dev.shop.orders.lost.v1", b"x")])
    with pytest.raises(UnknownTopicError):
        await subscription.wait()
    assert isinstance(subscription.failure, UnknownTopicError)
    assert sum(bench.cluster.committed("g").values()) == 0


async def test_permanent_error_skips_retries(bench):
    """A permanent error goes to the dead letter queue at once."""
    calls = 0

    async def handle(message):
        nonlocal calls
        calls += 1
        raise RejectedError("never")

    await bench.messages(handle)
    await bench.send(b"1")
    await bench.until(lambda: bench.committed() == 1)
    assert calls == 1


async def test_foreign_cancel_is_a_failure(bench):
    """A handler that raises CancelledError by itself does not stop its lane."""
    seen: list[bytes] = []

    async def handle(message):
        seen.append(message.value)
        if message.value == b"1":
            raise asyncio.CancelledError

    await bench.messages(handle)
    await bench.send(b"1", b"2")
    await bench.until(lambda: bench.committed() == 2)
    assert seen == [b"1"] * 4 + [b"2"]


async def test_slow_handler_pauses(bench):
    """A full lane pauses its partition; nothing is lost, others go on."""
    go = asyncio.Event()
    seen: list[bytes] = []

    async def handle(message):
        if message.partition == 0:
            await go.wait()
        seen.append(message.value)

    source = bench.cluster.source([bench.topic], bench.group)
    await bench.messages(handle, source=source, lane_capacity=10)
    slow = [f"s{n}".encode() for n in range(100)]
    await bench.send(*slow, partition=0)
    await bench.send(*(f"f{n}".encode() for n in range(100)), partition=1)
    await bench.until(lambda: len(seen) == 100)
    assert source.held[bench.topic, 0] <= 21
    go.set()
    await bench.until(lambda: bench.committed() == 200)
    assert [v for v in seen if v.startswith(b"s")] == slow


async def test_rebalance_drains_and_commits(bench):
    """A second member that joins while a handler runs gets nothing twice and misses nothing."""
    seen: list[tuple[str, bytes]] = []
    began, go = asyncio.Event(), asyncio.Event()

    def handler(name):
        async def handle(message):
            if not began.is_set():
                began.set()
                await go.wait()
            seen.append((name, message.value))

        return handle

    await bench.messages(handler("one"))
    for partition in range(3):
        await bench.send(*(f"{partition}{n}".encode() for n in range(5)), partition=partition)
    await began.wait()
    joining = asyncio.ensure_future(bench.messages(handler("two")))
    await asyncio.sleep(0.05)
    assert not joining.done()
    go.set()
    await joining
    await bench.until(lambda: bench.committed() == 15)
    values = [value for _, value in seen]
    assert sorted(values) == sorted(set(values))
    assert len(values) == 15
    await bench.send(b"late", partition=2)
    await bench.until(lambda: ("two", b"late") in seen)


async def test_late_result_is_dropped(bench):
    """A handler that outlives the drain limit loses its partition; its result is dropped."""
    go = asyncio.Event()
    seen: list[bytes] = []

    async def slow(message):
        await go.wait()

    async def quick(message):
        seen.append(message.value)

    first = await bench.messages(slow, drain_limit_s=0.05)
    await bench.send(b"x", partition=2)
    await asyncio.sleep(0.05)
    await bench.messages(quick)
    await bench.until(lambda: seen == [b"x"])
    await bench.until(lambda: bench.committed() == 1)
    go.set()
    await first.close()
    assert first.failure is None
    assert bench.committed() == 1


async def test_backoff_cut_short_by_revocation(bench):
    """A revocation does not wait for the backoff of a failed message, which is redelivered."""
    failing = True
    seen: list[bytes] = []

    async def handle(message):
        seen.append(message.value)
        if failing:
            raise ValueError("not now")

    await bench.messages(handle, retries=bench.QUICK_DAY)
    await bench.send(b"x", partition=2)
    await bench.until(lambda: len(seen) == 1)
    failing = False
    async with asyncio.timeout(1):
        await bench.messages(handle)
    await bench.until(lambda: bench.committed() == 1)
    assert seen == [b"x", b"x"]


async def test_close_waits_and_commits(bench):
    """A close lets the message in hand finish, commits it, and hands out no other."""
    began, go = asyncio.Event(), asyncio.Event()
    seen: list[bytes] = []

    async def handle(message):
        began.set()
        await go.wait()
        seen.append(message.value)

    subscription = await bench.messages(handle, commit_interval_s=60.0)
    await bench.send(b"1", b"2")
    await began.wait()
    closing = asyncio.ensure_future(subscription.close())
    await asyncio.sleep(0.03)
    assert not closing.done()
    go.set()
    await closing
    assert seen == [b"1"]
    assert bench.committed() == 1
    await subscription.wait()


async def test_close_from_the_handler(bench):
    """A handler may close its own subscription; its message counts."""
    subscription = None

    async def handle(message):
        await subscription.close()

    subscription = await bench.messages(handle)
    await bench.send(b"1", b"2")
    async with asyncio.timeout(2):
        await subscription.wait()
    assert bench.committed() == 1


async def test_pause_and_resume(bench):
    """A paused subscription hands out nothing and goes on where it was."""
    seen: list[bytes] = []

    async def handle(message):
        seen.append(message.value)

    subscription = await bench.messages(handle)
    await subscription.pause()
    await bench.send(b"1", b"2")
    await asyncio.sleep(0.05)
    assert seen == []
    assert sum((await subscription.lag()).values()) == 2
    await subscription.resume()
    await bench.until(lambda: seen == [b"1", b"2"])


async def test_stalled_handler_ends_it(bench):
    """A handler that does not come back ends the subscription, offsets kept."""

    async def handle(message):
        await asyncio.Event().wait()

    subscription = await bench.messages(handle, stall_after_s=0.1)
    await bench.send(b"1")
    with pytest.raises(HandlerStalledError, match="stall limit"):
        await subscription.wait()
    assert bench.committed() == 0


async def test_failed_polls_reopen(bench):
    """Three failed polls in a row open the source anew, and reading goes on."""
    seen: list[bytes] = []

    async def handle(message):
        seen.append(message.value)

    subscription = await bench.messages(handle)
    bench.cluster.faults.fail("poll", BrokerUnavailableError("away"), times=7)
    await bench.send(b"1")
    await bench.until(lambda: seen == [b"1"])
    assert subscription.failure is None


async def test_permanent_poll_error_ends_it(bench):
    """A poll that will not work again ends the subscription with that error."""

    async def handle(message):
        pass

    subscription = await bench.messages(handle)
    bench.cluster.faults.fail("poll", RejectedError("gone"))
    with pytest.raises(RejectedError):
        await subscription.wait()


async def test_commit_retried(bench):
    """A commit that fails for now is repeated until it stands."""

    async def handle(message):
        pass

    await bench.messages(handle)
    bench.cluster.faults.fail("commit", BrokerUnavailableError("away"), times=3)
    await bench.send(b"1")
    await bench.until(lambda: bench.committed() == 1)


async def test_observer_hears(bench):
    """The observer's counts add up: handled, retried, dead letters, and nothing left in hand."""
    counts = {"handled": 0, "retried": 0, "dead": 0, "in_hand": 0}

    class Observer:
        def handled(self, topic, records, seconds):
            counts["handled"] += records

        def retried(self, topic, records):
            counts["retried"] += records

        def dead_lettered(self, topic):
            counts["dead"] += 1

        def in_hand(self, change):
            counts["in_hand"] += change

    async def handle(message):
        if message.value == b"bad":
            raise ValueError("bad")

    await bench.messages(handle, observer=Observer())
    await bench.send(b"1", b"bad", b"2")
    await bench.until(lambda: bench.committed() == 3)
    assert counts == {"handled": 2, "retried": 3, "dead": 1, "in_hand": 0}
