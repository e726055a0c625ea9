"""What the persistence worker does with records."""

import json
from uuid import UUID

import msgspec
import pytest

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.memory import MemoryCluster
from spile.adapters.subscribing import FailureGuard
from spile.services.persistence import (
    Decoder,
    EventFilter,
    PersistenceHandler,
)
from spile.services.persistence import _decoding as handler_decoding
from spile.spi import BrokerUnavailableError, TooManyFailuresError, UnknownTopicError
from spile.topics import default_catalogue

TOPIC = "dev.agent.tool.recorded.v1"
DLQ = f"{TOPIC}.dlq"
HERE = (TOPIC, 0)
ALL = EventFilter()


@pytest.fixture
def cluster():
    """An in-memory cluster with the topics of the catalogue."""
    return MemoryCluster.of_catalogue(default_catalogue(), "dev")


@pytest.fixture
def handle(store, cluster):
    """The handler under test."""
    return PersistenceHandler(
        store,
        Decoder(default_catalogue(), "dev"),
        DeadLetterQueue(cluster.sender()),
        group="persistence",
    )


POISON = {
    "bad JSON": {"value": b'{"event_id": '},
    "empty value": {"value": b""},
    "not UTF-8": {"value": b"\xff\xfe"},
    "no envelope": {"value": b"{}"},
    "wrong type in the payload": {
        "payload": json.dumps(
            {
                "event_id": str(UUID(int=5)),
                "timestamp": "2026-01-02T03:04:05Z",
                "event_type": "PreToolUse",
                "event_category": "tool",
                "agent_id": str(UUID(int=1)),
                "metadata": {"schema_version": "1.1.0"},
                "payload": {"tool_name": 5, "parameters": {}},
            }
        )
    },
    "type of another topic": {"event_type": "WORKFLOW_STARTED"},
    "unknown schema version": {"headers": {"schema_version": b"9.0.0"}},
    "absurd schema version": {"headers": {"schema_version": b"1." + b"9" * 5000 + b".0"}},
    "newer schema version": {"headers": {"schema_version": b"1.2.0"}},
    "missing header": {"headers": {"message_id": None}},
    "other content type": {"headers": {"content_type": b"application/msgpack"}},
    "header disagrees": {"headers": {"event_type": b"POST_TOOL_USE"}},
    "two ids": {"headers": {"message_id": str(UUID(int=9)).encode()}},
    "naive time": {"headers": {"timestamp": b"2026-01-02T03:04:05"}},
}


@pytest.mark.parametrize("kind", POISON)
async def test_poison_is_kept_byte_exact_and_neighbours_go_on(
    handle, store, cluster, make_record, kind
):
    """Poison reaches the dead letter queue once, as it came; the records around it are stored."""
    poison = make_record(1, **POISON[kind])

    await handle([make_record(0), poison, make_record(2)])

    assert await store.count(ALL) == 2
    assert await store.next_offsets([HERE]) == {HERE: 3}
    (dead,) = cluster.records(DLQ)
    assert (dead.key, dead.value) == (poison.key, poison.value)
    assert list(dead.headers)[: len(poison.headers)] == list(poison.headers)


async def test_event_becomes_a_row(handle, store, make_record):
    """Ids, times, session, agent and tool are columns; envelope and headers stay whole."""
    record = make_record(4, headers={"trace_state": b"\xff"})

    await handle([record])

    (event,) = await store.query(ALL)
    assert event.envelope.encode() == record.value
    assert event.tool_name == "Read"
    assert event.agent_id == str(UUID(int=1))
    assert event.session_id == str(UUID(int=2))
    assert event.happened_at.isoformat() == "2026-01-02T03:04:05.000006+00:00"
    assert event.recorded_at.isoformat() == "2026-01-02T03:04:05+00:00"
    assert (event.partition, event.offset, event.key) == (0, 4, b"key")
    assert json.loads(event.headers)[-1] == ["trace_state", {"base64": "/w=="}]


async def test_dead_letter_queue_comes_before_the_offset(handle, store, cluster, make_record):
    """While the dead letter queue is away nothing is stored and no offset moves."""
    cluster.faults.fail("send", BrokerUnavailableError("away"))
    batch = [make_record(0), make_record(1, value=b"{")]

    with pytest.raises(BrokerUnavailableError):
        await handle(batch)
    assert await store.count(ALL) == 0
    assert await store.next_offsets([HERE]) == {}

    await handle(batch)
    assert await store.count(ALL) == 1
    assert len(cluster.records(DLQ)) == 1


async def test_batch_that_is_tried_again_buries_once(handle, store, cluster, make_record):
    """When the store fails after the burial, the second attempt does not bury again."""
    batch = [make_record(0), make_record(1, value=b"{")]
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute("PRAGMA query_only=ON")
    with pytest.raises(Exception, match="readonly"):
        await handle(batch)
    store._database.execute("PRAGMA query_only=OFF")

    await handle(batch)

    assert pages
    assert len(cluster.records(DLQ)) == 1
    assert await store.count(ALL) == 1


async def test_broken_deploy_stops_instead_of_flooding(handle, store, cluster, make_record):
    """Past the share nothing is buried and the offset stays."""
    await handle([make_record(offset) for offset in range(40)])
    flood = [make_record(40 + offset, value=b"{") for offset in range(60)]

    with pytest.raises(TooManyFailuresError, match="60 of the last 100"):
        await handle(flood)

    assert await store.next_offsets([HERE]) == {HERE: 40}
    assert not cluster.records(DLQ)


async def test_some_poison_does_not_stop(store, cluster, make_record):
    """One record in ten stays below the limit, however long it goes on."""
    handle = PersistenceHandler(
        store,
        Decoder(default_catalogue(), "dev"),
        DeadLetterQueue(cluster.sender()),
        group="persistence",
        guard=FailureGuard(share=0.2, after=10),
    )
    for start in range(0, 200, 20):
        await handle(
            [make_record(start + i, **({"value": b"{"} if i % 10 == 9 else {})) for i in range(20)]
        )

    assert await store.count(ALL) == 180
    assert len(cluster.records(DLQ)) == 20


async def test_tombstone_and_tick_move_the_offset_only(handle, store, cluster, make_record):
    """Records that hold no event are neither stored nor buried."""
    await handle([make_record(0, value=None), make_record(1, headers={"event_type": b"TICK"})])

    assert await store.count(ALL) == 0
    assert await store.next_offsets([HERE]) == {HERE: 2}
    assert not cluster.records(DLQ)


async def test_older_minor_version_is_read(handle, store, make_record):
    """A record of schema version 1.0.0 is stored by a release that knows 1.1.0."""
    await handle([make_record(0, headers={"schema_version": b"1.0.0"})])

    assert await store.count(ALL) == 1


async def test_topic_of_a_service_that_nobody_announced_is_checked(
    handle, store, cluster, make_record
):
    """The template's contracts hold for it; without a dead letter queue poison stops the worker."""
    other = "dev.stranger.tool.recorded.v1"
    await handle([make_record(0, topic=other)])
    assert await store.count(ALL) == 1

    with pytest.raises(UnknownTopicError):
        await handle([make_record(1, topic=other, event_type="WORKFLOW_STARTED")])


async def test_topic_outside_of_the_catalogue_is_stored(handle, store, make_record):
    """Its envelope is checked, its payload may be any object."""
    record = make_record(
        0,
        topic="dev.shop.orders.order-placed.v1",
        event_type="ORDER_PLACED",
        payload='{"tool_name":"till"}',
    )

    await handle([record])

    (event,) = await store.query(ALL)
    assert (event.event_type, event.tool_name) == ("ORDER_PLACED", "till")


async def test_ids_are_the_same_in_any_spelling(handle, store, make_record):
    """An id in capitals is the same event."""
    text = "0198c0de-0000-7000-8000-00000000abcd"
    await handle([make_record(0, event_id=text), make_record(1, event_id=text.upper())])

    assert await store.count(ALL) == 1


async def test_large_batch_over_several_partitions(handle, store, make_record):
    """Each partition moves by its own records."""
    batch = [make_record(i // 3, partition=i % 3) for i in range(300)]

    await handle(batch)

    assert await store.count(ALL) == 300
    assert await store.next_offsets([(TOPIC, p) for p in range(3)]) == {
        (TOPIC, p): 100 for p in range(3)
    }


async def test_a_header_without_value_is_stored(store, handle, make_record):
    """A null value is legal in Kafka; it must neither poison the record nor end the worker."""
    record = make_record(0)
    odd = msgspec.structs.replace(record, headers=(*record.headers, ("x-null", None)))
    await handle([odd, make_record(1)])
    assert await store.count(EventFilter()) == 2


async def test_an_unforeseen_error_is_poison_and_quotes_no_payload(
    handle, cluster, make_record, monkeypatch
):
    """Whatever reading a record raises, its neighbours go on, and the reason holds no content."""
    real = handler_decoding.decode_envelope

    def fails_on_secret(value):
        if b"s3cret" in value:
            raise UnicodeDecodeError("utf-8", value, 0, 1, "planted")
        return real(value)

    monkeypatch.setattr(handler_decoding, "decode_envelope", fails_on_secret)
    record = make_record(1)
    odd = msgspec.structs.replace(record, value=record.value.replace(b"Read", b"s3cret"))
    await handle([make_record(0), odd, make_record(2)])
    (dead,) = cluster.history
    added = [value for name, value in dead.headers if name.startswith("x-spile-dlq-")]
    assert dict(dead.headers)["x-spile-dlq-error-message"] == b"not readable: UnicodeDecodeError"
    assert not any(b"s3cret" in value for value in added)
