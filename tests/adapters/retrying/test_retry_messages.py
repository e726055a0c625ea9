"""Messages that fail wait in retry topics, with the events of their key behind them."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from spile.adapters.delivery import OutgoingRecord
from spile.adapters.subscribing import FailureGuard, Retries, Subscription
from spile.spi import ConfigurationError, RejectedError, TooManyFailuresError


async def test_key_order_through_tiers(retry_bench):
    """A key that fails goes through the tiers in order; another key of its partition goes on."""
    bench = retry_bench
    failures: dict[bytes, int] = {}
    seen: list[bytes] = []

    async def handle(message):
        if message.value == b"a2" and failures.get(b"a2", 0) < 4:
            failures[b"a2"] = failures.get(b"a2", 0) + 1
            raise ValueError("not now")
        seen.append(message.value)

    await bench.messages(handle)
    for n in range(10):
        await bench.send(b"a%d" % n, key=b"a", partition=0)
        await bench.send(b"b%d" % n, key=b"b", partition=0)
    await bench.until(lambda: seen.count(b"b9") == 1)
    assert b"a2" not in seen
    await bench.until(lambda: len(seen) == 20)
    assert [v for v in seen if v[:1] == b"a"] == [b"a%d" % n for n in range(10)]
    assert [v for v in seen if v[:1] == b"b"] == [b"b%d" % n for n in range(10)]
    assert bench.dead() == []
    await bench.until(bench.all_committed)
    assert [len(bench.parked(tier)) for tier in range(3)] == [8, 1, 1]


async def test_spent_head_is_buried_and_followers_proceed(retry_bench):
    """After the last tier the head is a dead letter with all its attempts; followers go on."""
    bench = retry_bench
    seen: list[bytes] = []

    async def handle(message):
        if message.value == b"bad":
            raise ValueError("never")
        seen.append(message.value)

    await bench.messages(handle)
    await bench.send(b"1", b"bad", b"2", b"3")
    await bench.until(lambda: len(seen) == 3)
    await bench.until(bench.all_committed)
    (letter,) = bench.dead()
    headers = dict(letter.headers)
    assert (letter.key, letter.value, headers["h"]) == (b"k", b"bad", b"1")
    assert headers["x-spile-dlq-attempts"] == b"5"
    assert headers["x-spile-dlq-original-topic"] == bench.topic.encode()
    assert headers["x-spile-dlq-original-offset"] == b"1"
    assert not [name for name in headers if name.startswith("x-spile-retry-")]
    assert seen == [b"1", b"2", b"3"]


async def test_handler_sees_the_record_of_origin(retry_bench):
    """In a retry the handler sees topic, partition, offset, time and headers as at first."""
    bench = retry_bench
    looks = []

    async def handle(message):
        record = message.record
        looks.append(
            (
                record.topic,
                record.partition,
                record.offset,
                record.timestamp,
                record.key,
                record.value,
                record.headers,
            )
        )
        if len(looks) < 4:
            raise ValueError("not now")

    await bench.messages(handle)
    await bench.send(b"v", key=None, partition=1)
    await bench.until(lambda: len(looks) == 4)
    assert set(looks) == {looks[0]}
    assert looks[0][6] == (("h", b"1"),)


async def test_permanent_error_skips_the_tiers(retry_bench):
    """A permanent error goes to the dead letter queue at once."""
    bench = retry_bench
    calls = []

    async def handle(message):
        calls.append(message.value)
        raise RejectedError("never")

    await bench.messages(handle)
    await bench.send(b"1")
    await bench.until(lambda: len(bench.dead()) == 1)
    await bench.until(bench.all_committed)
    assert calls == [b"1"]
    assert bench.parked(0) == []


async def test_records_without_key_park_alone(retry_bench):
    """A failed record without a key holds up no other."""
    bench = retry_bench
    seen: list[bytes] = []
    failed: set[bytes] = set()

    async def handle(message):
        if message.value == b"1" and len(failed) < 1:
            failed.add(message.value)
            raise ValueError("once")
        seen.append(message.value)

    await bench.messages(handle, retries=Retries.tiered((0.05,), limit=0))
    await bench.send(b"1", b"2", b"3", key=None, partition=0)
    await bench.until(lambda: len(seen) == 3)
    assert seen == [b"2", b"3", b"1"]
    await bench.until(bench.all_committed)


async def test_survives_a_crash_in_the_delay(retry_bench):
    """A member that dies while a key is parked: the next one goes on with it, in order."""
    bench = retry_bench
    first: list[bytes] = []
    second: list[bytes] = []

    async def fail(message):
        if message.value == b"a1":
            raise ValueError("not now")
        first.append(message.value)

    async def handle(message):
        second.append(message.value)

    dying = await bench.messages(fail, tiers=(0.2, 0.2, 0.2))
    await bench.send(*(b"a%d" % n for n in range(5)), key=b"a", partition=0)
    await bench.send(*(b"b%d" % n for n in range(5)), key=b"b", partition=0)
    await bench.until(lambda: b"b4" in first and len(bench.parked(0)) == 4)
    await bench.until(lambda: bench.cluster.committed(bench.group)[bench.topic, 0] == 10)
    bench.leave_dead(dying)
    await bench.messages(handle, tiers=(0.2, 0.2, 0.2))
    await bench.send(b"a5", key=b"a", partition=0)
    await bench.until(lambda: b"a5" in second)
    assert second == [b"a%d" % n for n in range(1, 6)]
    await bench.until(bench.all_committed)


async def test_rebalance_in_the_delay(retry_bench):
    """A key that is parked when a second member joins is handled once, in order, by its owner."""
    bench = retry_bench
    seen: list[bytes] = []
    failing = True

    async def handle(message):
        if failing and message.value in {b"a1", b"b1"}:
            raise ValueError("not now")
        seen.append(message.value)

    await bench.messages(handle, tiers=(0.15, 0.15, 0.15))
    for number, key in enumerate((b"a", b"b")):
        await bench.send(*(key + b"%d" % n for n in range(5)), key=key, partition=number)
    await bench.until(lambda: len(bench.parked(0)) == 8)
    failing = False
    await bench.messages(handle, tiers=(0.15, 0.15, 0.15))
    await bench.until(lambda: len(seen) == 10)
    for key in (b"a", b"b"):
        assert [v for v in seen if v[:1] == key] == [key + b"%d" % n for n in range(5)]
    await bench.until(bench.all_committed)


async def test_busy_key_is_free_again(retry_bench):
    """A key with steady traffic leaves the retry topics after its failure is over."""
    bench = retry_bench
    seen: list[bytes] = []
    failures = 0

    async def handle(message):
        nonlocal failures
        if message.value == b"0" and failures < 2:
            failures += 1
            raise ValueError("not now")
        seen.append(message.value)

    await bench.messages(handle)
    for n in range(150):
        await bench.send(b"%d" % n)
        await asyncio.sleep(0.001)
    await bench.until(lambda: len(seen) == 150)
    assert seen == [b"%d" % n for n in range(150)]
    assert len(bench.parked(0)) < 100


async def test_guard_keeps_offsets(retry_bench):
    """When too much fails the subscription ends before anything more is parked."""
    bench = retry_bench

    async def fail(message):
        raise ValueError("a bug")

    guard = FailureGuard(share=0.5, after=5, window=10)
    subscription = await bench.messages(fail, guard=guard, tiers=(5.0, 5.0, 5.0))
    await bench.send(*(b"%d" % n for n in range(20)), key=None, partition=0)
    with pytest.raises(TooManyFailuresError):
        await subscription.wait()
    assert len(bench.parked(0)) == 4
    assert bench.cluster.committed(bench.group)[bench.topic, 0] <= 4


async def test_ticks_pass_unseen(retry_bench):
    """A tick is acknowledged without the handler."""
    bench = retry_bench
    seen: list[bytes] = []

    async def handle(message):
        seen.append(message.value)

    await bench.messages(handle)
    tick = OutgoingRecord(bench.topic, None, b"tick", [("event_type", b"TICK")], 0)
    await bench.sender.send([tick])
    await bench.send(b"v", partition=0)
    await bench.until(bench.all_committed)
    assert seen == [b"v"]


async def test_missing_retry_topics(retry_bench):
    """A group without retry topics is told what to do."""
    bench = retry_bench

    async def handle(message):
        pass

    with pytest.raises(ConfigurationError, match=r"`groups`.*spile topics apply"):
        await bench.messages(handle, tiers=(0.1,) * 4)


async def test_member_that_subscribes_otherwise(retry_bench):
    """Beside a member without tiers nothing is lost; when it leaves, all partitions are read."""
    bench = retry_bench
    seen: list[bytes] = []

    async def handle(message):
        seen.append(message.value)

    plain = Subscription.of_messages(
        bench.cluster.source([bench.topic], bench.group), handle, group_id=bench.group
    )
    await plain.start()
    await bench.messages(handle)
    for number in range(2):
        await bench.send(b"%d" % number, partition=number)
    await bench.until(lambda: len(seen) == 2)
    await plain.close()
    for number in range(2):
        await bench.send(b"late-%d" % number, partition=number)
    await bench.until(lambda: len(seen) == 4)
    await bench.until(bench.all_committed)
    assert sorted(seen) == [b"0", b"1", b"late-0", b"late-1"]


async def test_pause_ends_the_draining_of_a_key(retry_bench):
    """While paused nothing is handed out, of what is parked and waits for no delay neither."""
    bench = retry_bench
    seen: list[bytes] = []
    failed: list[bytes] = []

    async def handle(message):
        if message.value == b"0" and len(failed) < 2:
            failed.append(message.value)
            raise ValueError("not now")
        seen.append(message.value)
        if message.value == b"0":
            await bench.send(b"last", partition=0)
            await asyncio.sleep(0.05)
        if message.value == b"1":
            await subscription.pause()

    subscription = await bench.messages(handle)
    await bench.send(*(b"%d" % n for n in range(20)), partition=0)
    await bench.until(lambda: len(seen) >= 2)
    await asyncio.sleep(0.1)
    assert seen == [b"0", b"1"]
    await subscription.resume()
    await bench.until(lambda: len(seen) == 21)
    assert seen == [*(b"%d" % n for n in range(20)), b"last"]


@pytest.mark.parametrize("kind", ["messages", "batches"])
async def test_the_log_says_where_an_event_waits(retry_bench, kind):
    """One line for each delay: origin, retry topic and seconds, and nothing of the event."""
    bench = retry_bench

    async def handle(_):
        raise ValueError("never")

    with capture_logs() as logs:
        await getattr(bench, kind)(handle, tiers=(0.03, 0.06, 0.12))
        await bench.send(b"secret value", key=b"secret key", partition=1)
        await bench.until(lambda: len(bench.dead()) == 1)
    lines = [line for line in logs if line["event"] == "event waits for another attempt"]
    assert lines == [
        {
            "event": "event waits for another attempt",
            "log_level": "info",
            "topic": bench.topic,
            "partition": 1,
            "offset": 0,
            "retry_topic": bench.retry_topics[tier],
            "seconds": seconds,
        }
        for tier, seconds in enumerate((0.03, 0.06, 0.12))
    ]
    assert "secret" not in str(logs)
