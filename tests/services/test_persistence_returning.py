"""Dead letters that come back to the persistence worker."""

import json
import re
from uuid import UUID

import pytest

from spile.adapters.dead_letters import DeadLetterQueue, Reprocessor, ReprocessWish
from spile.adapters.delivery import OutgoingRecord
from spile.adapters.memory import MemoryCluster
from spile.adapters.subscribing import FailureGuard
from spile.services.persistence import Decoder, EventFilter, PersistenceHandler, event_topics
from spile.topics import default_catalogue

TOPIC = "dev.agent.tool.recorded.v1"
DLQ = f"{TOPIC}.dlq"
RETRY = f"{TOPIC}.persistence.retry.0"
ALL = EventFilter()


@pytest.fixture
def cluster():
    """An in-memory cluster with the topics of the catalogue."""
    return MemoryCluster.of_catalogue(default_catalogue(), "dev")


@pytest.fixture
def letters(cluster):
    return DeadLetterQueue(cluster.sender(), group="persistence")


@pytest.fixture
def handle(store, letters):
    """The handler under test; one failure is enough to stop it, unless it came back."""
    return PersistenceHandler(
        store,
        Decoder(default_catalogue(), "dev"),
        letters,
        group="persistence",
        guard=FailureGuard(share=0.01, after=1),
    )


@pytest.fixture
def reprocess(cluster):
    async def run():
        work = Reprocessor(cluster.reader, cluster.sender(), default_catalogue().retry_topic)
        return await work.run(DLQ, ReprocessWish())

    return run


def _added(record):
    prefix = "x-spile-dlq-"
    return {n.removeprefix(prefix): v.decode() for n, v in record.headers if n.startswith(prefix)}


async def test_returned_event_is_stored_where_it_stood(
    handle, store, cluster, letters, reprocess, make_record
):
    """A letter that comes back is stored once, with the place and headers of its own topic."""
    record = make_record(41, partition=3)
    await letters.keep(record, ValueError("bug"), group="persistence", attempts=1)
    await reprocess()
    returned = cluster.records(RETRY)

    await handle(returned)
    await handle(returned)

    (event,) = await store.query(ALL)
    assert (event.topic, event.partition, event.offset) == (TOPIC, 3, 41)
    assert event.recorded_at.timestamp() * 1000 == record.timestamp
    assert json.loads(event.headers) == [[n, v.decode()] for n, v in record.headers]
    assert await store.next_offsets([(RETRY, 0)]) == {(RETRY, 0): 1}


async def test_returned_rows_do_not_depend_on_offsets_of_the_retry_topic(
    handle, store, cluster, letters, reprocess, make_record
):
    """A batch that overlaps what is stored keeps rows whose own offsets are small, or large."""
    for offset in (5, 0, 900):
        await letters.keep(make_record(offset), ValueError("bug"), group="persistence", attempts=1)
    await reprocess()
    returned = cluster.records(RETRY)

    await handle(returned[:2])
    await handle(returned)

    assert {event.offset for event in await store.query(ALL)} == {0, 5, 900}


async def test_what_the_topic_brought_already_is_no_second_event(
    handle, store, cluster, letters, reprocess, make_record
):
    """An event that is stored and comes back too stays one."""
    record = make_record(0, event_id=str(UUID(int=9)))
    await handle([record])
    await letters.keep(record, ValueError("bug"), group="persistence", attempts=1)
    await reprocess()
    await handle(cluster.records(RETRY))
    assert await store.count(ALL) == 1


async def test_still_bad_goes_back_with_its_count(
    handle, store, cluster, letters, reprocess, make_record
):
    """What fails again is buried anew, one replay older, until its replays are spent."""
    await letters.keep(
        make_record(41, value=b"{"), ValueError("first"), group="persistence", attempts=1
    )
    read = 0
    for _ in range(5):
        await reprocess()
        returned = cluster.records(RETRY)
        if returned[read:]:
            await handle(returned[read:])
        read = len(returned)
    kept = [_added(record) for record in cluster.records(DLQ)]
    assert [added.get("replay-count") for added in kept] == [None, "1", "2", "3"]
    assert {added["original-offset"] for added in kept} == {"41"}
    assert {added["original-topic"] for added in kept} == {TOPIC}
    assert {added["first-failure"] for added in kept} == {kept[0]["first-failure"]}
    assert {record.value for record in cluster.records(DLQ)} == {b"{"}
    assert await store.count(ALL) == 0


async def test_too_many_replays_are_not_tried(handle, store, cluster, make_record):
    """A record that claims more replays than allowed is buried unhandled, although it is fine."""
    record = make_record(0)
    headers = [
        *record.headers,
        ("x-spile-retry-role", b"reprocess"),
        ("x-spile-retry-origin-partition", b"0"),
        ("x-spile-retry-origin-offset", b"7"),
        ("x-spile-retry-origin-timestamp", b"5"),
        ("x-spile-retry-attempts", b"0"),
        ("x-spile-retry-due", b"0"),
        ("x-spile-retry-first-failure", b"2026-01-02T03:04:05Z"),
        ("x-spile-retry-error-type", b"ValueError"),
        ("x-spile-dlq-replay-count", b"4"),
    ]
    await cluster.sender().send([OutgoingRecord(RETRY, record.key, record.value, headers)])
    await handle(cluster.records(RETRY))
    (kept,) = cluster.records(DLQ)
    assert _added(kept)["error-type"] == "ReplaysSpentError"
    assert _added(kept)["replay-count"] == "4"
    assert await store.count(ALL) == 0


async def test_foreign_records_in_the_retry_topic_are_buried(handle, store, cluster, make_record):
    """A record without the headers of a retry goes to the topic's own queue, bytes and all."""
    forged = [("x-spile-retry-origin-topic", b"dev.bank.money.sent.v1"), ("a", b"\xff")]
    await cluster.sender().send([OutgoingRecord(RETRY, b"k", b"?", forged)])
    await handle(cluster.records(RETRY))
    (kept,) = cluster.records(DLQ)
    assert (kept.key, kept.value, kept.headers[0]) == (b"k", b"?", ("a", b"\xff"))
    assert await store.next_offsets([(RETRY, 0)]) == {(RETRY, 0): 1}


def test_pattern_holds_own_retries_alone():
    """The worker reads event topics and its own retry topics."""
    pattern = re.compile(event_topics("dev"))
    names = default_catalogue().topics("dev")
    assert pattern.match(TOPIC)
    assert pattern.match(RETRY)
    assert f"{TOPIC}.persistence.retry.0" in names
    for other in (DLQ, f"{DLQ}.done", f"{TOPIC}.analytics.retry.0", f"prod{TOPIC[3:]}"):
        assert not pattern.match(other), other
