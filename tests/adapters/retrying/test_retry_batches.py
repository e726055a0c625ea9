"""Batches of which some records fail: those are found and parked, the others go on."""

from __future__ import annotations

import asyncio

import pytest

from spile.adapters.delivery import OutgoingRecord
from spile.adapters.subscribing import FailureGuard, Retries
from spile.spi import BatchFailedError, ConfigurationError, RejectedError, TooManyFailuresError

KEYS = (b"a", b"b", b"c", b"d")


class Effects:
    """What a handler that is idempotent did: each record once, at its first success."""

    def __init__(self, fail):
        self.done: list[bytes] = []
        self.calls = 0
        self.fail = fail

    async def __call__(self, batch):
        self.calls += 1
        await asyncio.sleep(0)
        for record in batch:
            self.fail(record.value)
        self.done += [record.value for record in batch if record.value not in self.done]

    def of(self, key):
        return [value for value in self.done if value[:1] == key]


def times(count, *values):
    """Return a check that raises for these values, each so many times."""
    left = dict.fromkeys(values, count)

    def check(value):
        if left.get(value, 0) > 0:
            left[value] -= 1
            raise ValueError("not now")

    return check


async def _publish(bench, count=20, partition=0):
    for n in range(count):
        for key in KEYS:
            await bench.send(key + b"%d" % n, key=key, partition=partition)


async def test_key_order_through_tiers(retry_bench):
    """One record that fails parks its key alone; the rest of the batch goes on, each in order."""
    bench = retry_bench
    effects = Effects(times(8, b"b3"))
    await _publish(bench)
    await bench.batches(effects)
    await bench.until(lambda: len(effects.of(b"a") + effects.of(b"c") + effects.of(b"d")) == 60)
    await bench.until(lambda: len(effects.done) == 80)
    for key in KEYS:
        assert effects.of(key) == [key + b"%d" % n for n in range(20)]
    await bench.until(bench.all_committed)
    assert bench.dead() == []


async def test_spent_record_is_buried_and_followers_proceed(retry_bench):
    """After the last tier a record is a dead letter; the events of its key go on behind it."""
    bench = retry_bench
    effects = Effects(times(1000, b"b3"))
    await _publish(bench, 8)
    await bench.batches(effects)
    await bench.until(lambda: len(effects.done) == 31)
    await bench.until(bench.all_committed)
    assert [letter.value for letter in bench.dead()] == [b"b3"]
    assert effects.of(b"b") == [b"b%d" % n for n in range(8) if n != 3]


async def test_handler_names_what_failed(retry_bench):
    """A handler that names failed records is not called for the others again."""
    bench = retry_bench
    calls: list[list[bytes]] = []

    async def handle(batch):
        calls.append([record.value for record in batch])
        failures = {
            index: ValueError("not now")
            for index, record in enumerate(batch)
            if record.key == b"b" and len(calls) < 3
        }
        if failures:
            raise BatchFailedError(failures)

    await _publish(bench, 3)
    await bench.batches(handle)
    await bench.until(bench.all_committed)
    flat = [value for call in calls for value in call]
    for key in (b"a", b"c", b"d"):
        assert [v for v in flat if v[:1] == key] == [key + b"%d" % n for n in range(3)]
    assert flat[-3:] == [b"b0", b"b1", b"b2"]


async def test_permanent_error_is_buried_at_once(retry_bench):
    """A permanent error of one record skips the tiers; its followers are handled right behind."""
    bench = retry_bench
    done: list[bytes] = []

    async def handle(batch):
        if any(record.value == b"b1" for record in batch):
            raise RejectedError("never")
        done.extend(record.value for record in batch)

    await _publish(bench, 4)
    await bench.batches(handle)
    await bench.until(lambda: len(done) == 15)
    await bench.until(bench.all_committed)
    assert [letter.value for letter in bench.dead()] == [b"b1"]
    assert bench.parked(0) == []
    assert [value for value in done if value[:1] == b"b"] == [b"b0", b"b2", b"b3"]


async def test_search_is_short(retry_bench):
    """One bad record in 1,000 of 500 keys costs some twenty calls, not hundreds."""
    bench = retry_bench
    effects = Effects(times(1000, b"7-1"))
    for n in range(2):
        for key in range(500):
            await bench.send(b"%d-%d" % (key, n), key=b"%d" % key, partition=0)
    await bench.batches(effects, tiers=(0.01,))
    await bench.until(lambda: len(effects.done) == 999)
    await bench.until(lambda: len(bench.dead()) == 1)
    assert effects.calls < 40


async def test_survives_a_crash_in_the_delay(retry_bench):
    """A member that dies while keys are parked: the next one goes on with them, in order."""
    bench = retry_bench
    first, second = Effects(times(1000, b"b1", b"c0")), Effects(times(0))
    dying = await bench.batches(first, tiers=(0.2, 0.2))
    await _publish(bench, 5)
    await bench.until(lambda: bench.cluster.committed(bench.group)[bench.topic, 0] == 20)
    bench.leave_dead(dying)
    await bench.send(b"b5", key=b"b", partition=0)
    await bench.batches(second, tiers=(0.2, 0.2))
    await bench.until(bench.all_committed)
    assert first.of(b"b") == [b"b0"]
    assert second.of(b"b") == [b"b%d" % n for n in range(1, 6)]
    assert second.of(b"c") == [b"c%d" % n for n in range(5)]


async def test_guard_keeps_offsets(retry_bench):
    """When too much fails the subscription ends before anything is parked."""
    bench = retry_bench
    effects = Effects(times(1000, *(key + b"%d" % n for key in KEYS for n in range(5))))
    await _publish(bench, 5)
    subscription = await bench.batches(effects, guard=FailureGuard(after=2, window=10))
    with pytest.raises(TooManyFailuresError):
        await subscription.wait()
    assert bench.parked(0) == []
    assert bench.cluster.committed(bench.group)[bench.topic, 0] == 0


async def test_tiers_need_committed_offsets(retry_bench):
    """Tiers with manual commits are refused."""

    async def handle(batch):
        pass

    with pytest.raises(ConfigurationError, match="manual commits"):
        await retry_bench.batches(handle, manual_commit=True, retries=Retries.tiered())


@pytest.mark.parametrize("tiers", [(), (0.01,)])
async def test_ticks_pass_unseen(retry_bench, tiers):
    """Ticks are acknowledged without the handler, wherever their event type stands."""
    bench = retry_bench
    seen: list[bytes] = []

    async def handle(batch):
        seen.extend(record.value for record in batch)

    await bench.batches(handle, retries=Retries(tiers=tiers))
    plain = [("a", b"1")] * 5
    for headers in ([("event_type", b"TICK")], [*plain, ("event_type", b"TICK"), ("b", b"2")]):
        await bench.sender.send([OutgoingRecord(bench.topic, None, b"tick", headers, 0)])
    await bench.send(b"v", partition=0)
    await bench.until(lambda: bench.cluster.committed(bench.group)[bench.topic, 0] == 3)
    assert seen == [b"v"]
