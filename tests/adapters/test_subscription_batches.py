"""Batches: what is buffered together, retries of the same batch, offsets kept on a stop."""

from __future__ import annotations

import asyncio

import pytest

from spile.spi import BrokerUnavailableError, HandlerStalledError, RejectedError


def _values(batch):
    return [record.value for record in batch]


async def test_all_records_in_order(bench):
    """Every record comes once, each partition in order, in batches of at most the limit."""
    batches: list[list] = []

    async def handle(batch):
        batches.append(list(batch))
        await asyncio.sleep(0)

    for partition in range(3):
        await bench.send(*(b"%d" % n for n in range(250)), partition=partition)
    await bench.batches(handle, max_batch_records=100)
    await bench.until(lambda: bench.committed() == 750)
    assert max(len(batch) for batch in batches) == 100
    for partition in range(3):
        offsets = [r.offset for batch in batches for r in batch if r.partition == partition]
        assert offsets == list(range(250))


async def test_waiting_chunks_are_joined(bench):
    """What was polled while the handler ran comes as one batch."""
    sizes: list[int] = []
    go = asyncio.Event()

    async def handle(batch):
        sizes.append(len(batch))
        await go.wait()

    await bench.batches(handle)
    await bench.send(b"first")
    await bench.until(lambda: sizes == [1])
    for n in range(5):
        await bench.send(b"%d" % n, partition=n % 3)
        await asyncio.sleep(0.01)
    go.set()
    await bench.until(lambda: bench.committed() == 6)
    assert sizes == [1, 5]


async def test_slow_handler_bounds_the_buffer(bench):
    """A slow handler stops intake at the lane's capacity; the member stays and loses nothing."""
    go = asyncio.Event()
    seen: list[bytes] = []

    async def handle(batch):
        await go.wait()
        seen.extend(_values(batch))

    source = bench.cluster.source([bench.topic], bench.group)
    await bench.batches(handle, source=source, max_batch_records=10, lane_capacity=20)
    await bench.send(*(b"%d" % n for n in range(300)), partition=0)
    await asyncio.sleep(0.1)
    assert source.held[bench.topic, 0] <= 30
    go.set()
    await bench.until(lambda: bench.committed() == 300)
    assert seen == [b"%d" % n for n in range(300)]


async def test_room_is_noticed_at_once(bench):
    """When the lane drains, reading goes on at once, not after a time-out."""
    seen = 0

    async def handle(batch):
        nonlocal seen
        seen += len(batch)
        await asyncio.sleep(0)

    await bench.send(*(b"x" for _ in range(2000)), partition=0)
    limits = {"poll_timeout_s": 0.5, "keepalive_s": 0.5}
    await bench.batches(handle, max_batch_records=10, lane_capacity=20, **limits)
    await bench.until(lambda: seen == 2000, limit_s=2.0)


async def test_same_batch_again(bench):
    """A retriable error means the same records again, and none is committed before."""
    attempts: list[list[bytes]] = []

    async def handle(batch):
        attempts.append(_values(batch))
        if len(attempts) < 4:
            raise BrokerUnavailableError("the store is away")

    await bench.send(b"1", b"2", b"3")
    await bench.batches(handle)
    await bench.until(lambda: bench.committed() == 3)
    assert attempts == [[b"1", b"2", b"3"]] * 4


async def test_error_stops_with_offsets_kept(bench):
    """Another error ends the subscription; a new one gets the same records."""
    first: list[bytes] = []
    second: list[bytes] = []

    async def fail(batch):
        first.extend(_values(batch))
        raise ValueError("a bug")

    async def handle(batch):
        second.extend(_values(batch))

    await bench.send(b"1", b"2")
    broken = await bench.batches(fail)
    with pytest.raises(ValueError, match="a bug"):
        await broken.wait()
    assert bench.committed() == 0
    await bench.batches(handle)
    await bench.until(lambda: bench.committed() == 2)
    assert first == second == [b"1", b"2"]


async def test_close_in_the_middle_keeps_offsets(bench):
    """A batch that does not finish within the close limit is not committed."""

    async def handle(batch):
        await asyncio.Event().wait()

    subscription = await bench.batches(handle, close_limit_s=0.05)
    await bench.send(b"1")
    await asyncio.sleep(0.05)
    await subscription.close()
    assert bench.committed() == 0


async def test_close_lets_the_batch_finish(bench):
    """A batch in hand at the close finishes and is committed; the rest is not handed out."""
    began, go = asyncio.Event(), asyncio.Event()
    seen: list[bytes] = []

    async def handle(batch):
        seen.extend(_values(batch))
        began.set()
        await go.wait()

    subscription = await bench.batches(handle, max_batch_records=2, commit_interval_s=60.0)
    await bench.send(b"1", b"2", b"3", b"4")
    await began.wait()
    closing = asyncio.ensure_future(subscription.close())
    await asyncio.sleep(0.03)
    go.set()
    await closing
    assert seen == [b"1", b"2"]
    assert bench.committed() == 2


async def test_rebalance_drains_and_commits(bench):
    """A member that joins while a batch is in hand gets none of its records."""
    seen: list[bytes] = []
    began, go = asyncio.Event(), asyncio.Event()

    async def handle(batch):
        if not began.is_set():
            began.set()
            await go.wait()
        seen.extend(_values(batch))

    await bench.batches(handle)
    for partition in range(3):
        await bench.send(*(b"%d-%d" % (partition, n) for n in range(20)), partition=partition)
    await began.wait()
    joining = asyncio.ensure_future(bench.batches(handle))
    await asyncio.sleep(0.03)
    go.set()
    await joining
    await bench.until(lambda: bench.committed() == 60)
    assert len(seen) == 60
    assert len(set(seen)) == 60


async def test_late_batch_is_dropped(bench):
    """A batch that outlives the drain limit does not move the offsets of its new owner."""
    go = asyncio.Event()
    seen: list[bytes] = []

    async def slow(batch):
        await go.wait()

    async def quick(batch):
        seen.extend(_values(batch))

    first = await bench.batches(slow, drain_limit_s=0.05)
    await bench.send(b"x", partition=2)
    await asyncio.sleep(0.05)
    await bench.batches(quick)
    await bench.until(lambda: seen == [b"x"])
    go.set()
    await first.close()
    await bench.until(lambda: bench.committed() == 1)


async def test_starts_at_the_stored_offsets(bench):
    """With an offset store partitions start where the store says, not where the group committed."""

    class Store:
        async def next_offsets(self, partitions):
            return {(bench.topic, 0): 7}

    seen: list[int] = []

    async def handle(batch):
        seen.extend(record.offset for record in batch)

    await bench.send(*(b"%d" % n for n in range(10)), partition=0)
    await bench.batches(handle, offsets=Store())
    await bench.until(lambda: bench.committed() == 10)
    assert seen == [7, 8, 9]


async def test_broken_offset_store_ends_it(bench):
    """When the store cannot tell its offsets nothing is read; the subscription ends."""

    class Store:
        async def next_offsets(self, partitions):
            raise ValueError("corrupt")

    async def handle(batch):
        raise AssertionError("must not be called")

    await bench.send(b"1")
    subscription = await bench.batches(handle, offsets=Store())
    with pytest.raises(ValueError, match="corrupt"):
        await subscription.wait()
    assert bench.committed() == 0


async def test_offset_beyond_the_end_ends_it(bench):
    """A stored offset beyond the end of the log is an error with its reason, not a wait."""

    class Store:
        async def next_offsets(self, partitions):
            return {(bench.topic, 0): 99}

    async def handle(batch):
        pass

    subscription = await bench.batches(handle, offsets=Store())
    with pytest.raises(RejectedError, match="beyond the end"):
        await subscription.wait()


async def test_stalled_batch_ends_it(bench):
    """A batch handler that does not come back ends the subscription."""

    async def handle(batch):
        await asyncio.Event().wait()

    subscription = await bench.batches(handle, stall_after_s=0.1)
    await bench.send(b"1")
    with pytest.raises(HandlerStalledError):
        await subscription.wait()


async def test_retry_ends_at_the_close(bench):
    """A close does not wait for a store that stays away; the batch is kept for the next owner."""
    calls = 0

    async def handle(batch):
        nonlocal calls
        calls += 1
        raise BrokerUnavailableError("away")

    subscription = await bench.batches(handle, backoff=bench.DAY)
    await bench.send(b"1")
    await bench.until(lambda: calls == 1)
    async with asyncio.timeout(1):
        await subscription.close()
    assert bench.committed() == 0
    assert subscription.failure is None


async def test_observer_hears_each_topic(bench):
    """A batch of several topics is noted per topic; nothing stays in hand."""
    bench.cluster.create_topic("other")
    handled: dict[str, int] = {}
    in_hand = [0]

    class Observer:
        def handled(self, topic, records, seconds):
            handled[topic] = handled.get(topic, 0) + records

        def retried(self, topic, records):
            raise AssertionError("nothing failed")

        def dead_lettered(self, topic):
            raise AssertionError("nothing failed")

        def in_hand(self, change):
            in_hand[0] += change

    async def handle(batch):
        pass

    await bench.send(b"1", b"2")
    await bench.sender.send([bench.record("other", b"3")])
    source = bench.cluster.source([bench.topic, "other"], bench.group)
    await bench.batches(handle, source=source, observer=Observer())
    await bench.until(lambda: bench.committed() == 3)
    assert handled == {bench.topic: 2, "other": 1}
    assert in_hand == [0]
