"""A retry topic that holds more of a key than memory: it goes on, in order, and ends."""

from __future__ import annotations

import pytest

from spile.adapters.retrying import _lot
from spile.adapters.retrying._window import MAX_SPAN
from spile.adapters.subscribing import Retries

COUNT = 24
RETRIES = Retries(limit=0, tiers=(0.1, 0.01, 0.01))
"""In the first delay all events of the test are parked."""


@pytest.mark.parametrize("kind", ["messages", "batches"])
async def test_no_more_at_once_than_a_note_holds(retry_bench, kind):
    """However large batches and buffers are, all that is done of a retry partition can be noted."""

    async def handle(what):
        pass

    sizes = {"max_batch_records": 50_000, "lane_capacity": 100_000}
    subscription = await getattr(retry_bench, kind)(handle, **sizes)
    assert subscription._lanes.wanted + _lot._CROWDED_SPAN <= MAX_SPAN


@pytest.fixture
def often_failing():
    """A handler of values of which each fails once, and what it has handled, each once."""
    failed: set[bytes] = set()
    done: list[bytes] = []

    def handle(value):
        if value not in failed:
            failed.add(value)
            raise ValueError("not now")
        if value not in done:
            done.append(value)

    return handle, done


@pytest.mark.parametrize("kind", ["messages", "batches"])
async def test_followers_that_fail_too(retry_bench, monkeypatch, often_failing, kind):
    """A follower that fails does not wait behind those that wait for it and crowd its topic."""
    monkeypatch.setattr(_lot, "_CROWDED_SPAN", 6)
    bench, (handle, done) = retry_bench, often_failing

    async def message(received):
        handle(received.value)

    async def batch(records):
        for record in records:
            handle(record.value)

    await bench.send(*(b"%d" % n for n in range(COUNT)), partition=0)
    if kind == "messages":
        await bench.messages(message, retries=RETRIES)
    else:
        await bench.batches(batch, retries=RETRIES, max_batch_records=5)
    await bench.until(lambda: len(done) == COUNT, limit_s=10)
    assert done == [b"%d" % n for n in range(COUNT)]
    await bench.until(bench.all_committed)
    assert bench.dead() == []
