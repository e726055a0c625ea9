"""Records that an operator sent back to the group, and what survives a crash beside them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from spile.adapters.dead_letters import RetryFacts, retry_headers
from spile.adapters.delivery import OutgoingRecord

HANDLERS = pytest.mark.parametrize("kind", ["messages", "batches"])


def reprocessed(bench, value, replays=1, partition=0):
    """Make what `spile dlq reprocess` writes."""
    facts = RetryFacts(
        role="reprocess",
        partition=partition,
        offset=3,
        timestamp=1234,
        attempts=0,
        due=0,
        first_failure=datetime(2026, 1, 1, tzinfo=UTC),
    )
    headers = [("h", b"1"), *retry_headers(facts), ("x-spile-dlq-replay-count", b"%d" % replays)]
    return OutgoingRecord(bench.retry_topics[0], b"k", value, headers, partition)


async def _join(bench, kind, handle):
    if kind == "messages":

        async def message(received):
            handle(received.record)

        return await bench.messages(message)

    async def batch(records):
        for record in records:
            handle(record)

    return await bench.batches(batch)


@HANDLERS
async def test_handled_as_it_was(retry_bench, kind):
    """The handler sees the record of origin, without a header that anybody added."""
    bench, seen = retry_bench, []
    await _join(bench, kind, seen.append)
    await bench.sender.send([reprocessed(bench, b"v")])
    await bench.until(bench.all_committed)
    (record,) = seen
    assert (record.topic, record.partition, record.offset) == (bench.topic, 0, 3)
    assert (record.timestamp, record.key, record.value) == (1234, b"k", b"v")
    assert tuple(record.headers) == (("h", b"1"),)


@HANDLERS
async def test_failing_again_goes_back_to_the_queue(retry_bench, kind):
    """It is a dead letter again at once, with its replay count and its first failure."""
    bench, calls = retry_bench, []

    def fail(record):
        calls.append(record.value)
        raise ValueError("again")

    await _join(bench, kind, fail)
    await bench.sender.send([reprocessed(bench, b"v", 2)])
    await bench.until(bench.all_committed)
    (letter,) = bench.dead()
    headers = dict(letter.headers)
    assert headers["x-spile-dlq-replay-count"] == b"2"
    assert headers["x-spile-dlq-original-offset"] == b"3"
    assert headers["x-spile-dlq-first-failure"].startswith(b"2026-01-01")
    assert [len(bench.parked(tier)) for tier in range(3)] == [1, 0, 0]
    assert len(calls) == 2


@HANDLERS
async def test_replays_are_bounded(retry_bench, kind):
    """One that was reprocessed too often goes back unhandled, and says so."""
    bench, seen = retry_bench, []
    await _join(bench, kind, seen.append)
    await bench.sender.send([reprocessed(bench, b"v", 4)])
    await bench.until(bench.all_committed)
    (letter,) = bench.dead()
    assert dict(letter.headers)["x-spile-dlq-error-type"] == b"ReplaysSpentError"
    assert seen == []


@HANDLERS
async def test_foreign_record_is_buried(retry_bench, kind):
    """A record that nobody of us wrote into a retry topic ends in the queue, unhandled."""
    bench, seen = retry_bench, []
    await _join(bench, kind, seen.append)
    await bench.sender.send([OutgoingRecord(bench.retry_topics[1], b"k", b"?", [], 0)])
    await bench.until(bench.all_committed)
    (letter,) = bench.dead()
    assert dict(letter.headers)["x-spile-dlq-error-type"] == b"UndecodableError"
    assert seen == []


async def test_done_out_of_order_is_not_repeated(retry_bench):
    """What is done behind a record that still waits is not handed out again after a crash."""
    bench = retry_bench
    first, second = [], []

    async def fail(message):
        if message.value == b"slow":
            raise ValueError("not now")
        first.append(message.value)

    async def handle(message):
        second.append(message.value)

    dying = await bench.messages(fail, tiers=(60.0, 60.0, 60.0))
    await bench.send(b"slow", key=b"slow", partition=0)
    await bench.until(lambda: len(bench.parked(0)) == 1)
    await bench.sender.send([reprocessed(bench, b"done")])
    await bench.until(lambda: first == [b"done"])
    group = bench.cluster.group(bench.group)
    await bench.until(lambda: group.notes.get((bench.retry_topics[0], 0), "") != "")
    bench.leave_dead(dying)
    await bench.messages(handle, tiers=(0.05, 0.05, 0.05))
    await bench.until(bench.all_committed)
    assert second == [b"slow"]
