"""The outbox in both databases; the relay on the bus in memory."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import timedelta

import asyncpg
import pytest

from spile.adapters.outbox import SqliteOutboxStore, _relay
from spile.adapters.outbox.postgres import PostgresOutboxStore
from spile.spi import (
    BrokerUnavailableError,
    ClosedError,
    ConfigurationError,
    InvalidEventError,
    MessageTooLargeError,
    RejectedError,
    UnauthorisedError,
    UnknownTopicError,
)
from spile.topics import decode_envelope

TOPIC = "test.shop.orders.order-placed.v1"
OTHER = "test.shop.orders.order-paid.v1"


class AutocommitConnection(sqlite3.Connection):
    """A connection as Python 3.12 makes it with `autocommit=True`."""

    autocommit = True


async def test_published_with_its_id(shop, make_event):
    """What was committed is published once, as it was encoded, with the id that `add` returned."""
    ids = await shop.place(make_event("a", 1), make_event("b", 2))
    assert await shop.relay().drain() == 2
    assert await shop.relay().drain() == 0
    records = shop.cluster.records(TOPIC)
    assert sorted(shop.ids()) == sorted(ids)
    for record in records:
        envelope = decode_envelope(record.value)
        assert dict(record.headers)["message_id"] == str(envelope.event_id).encode()
        assert record.key in envelope.payload_json


async def test_rolled_back_with_its_transaction(shop, make_event):
    """An event whose transaction fails is never published."""
    await shop.place_and_fail(make_event("lost"))
    await shop.place(make_event("kept"))
    assert await shop.relay().drain() == 1
    assert b"kept" in shop.sent()[0]


async def test_what_cannot_be_sent_is_refused_at_once(shop, make_event):
    """A wrong or too large event fails the application's transaction, not the relay."""
    huge = make_event("x" * 1_000_100)
    wrong = make_event("a", metadata={"x": object()})
    unknown = make_event("a", topic="shop.orders.order-lost.v1")
    for bad, error in (
        (huge, MessageTooLargeError),
        (wrong, InvalidEventError),
        (unknown, UnknownTopicError),
    ):
        with pytest.raises(error):
            await shop.place(bad)
    assert (await shop.store.counts()).pending == 0


async def test_secrets_stay_out_of_the_table(shop, make_event):
    """Secrets are taken out before the row is written."""
    await shop.place(make_event("a", number="password=hunter22x"))
    (row,) = await shop.store.pending(10)
    assert b"hunter22x" not in row.record.value


async def test_needs_a_transaction(sqlite_shop, postgres_shop, make_event):
    """Without a transaction the event would not stand or fall with anything."""
    bare = sqlite3.connect(sqlite_shop.path, isolation_level=None)
    with pytest.raises(ConfigurationError, match="BEGIN"):
        sqlite_shop.outbox.add(bare, make_event("a"))
    bare.close()
    modern = AutocommitConnection(sqlite_shop.path)
    with pytest.raises(ConfigurationError, match="BEGIN"):
        sqlite_shop.outbox.add(modern, make_event("a"))
    modern.close()
    with pytest.raises(ConfigurationError, match="transaction"):
        await postgres_shop.outbox.add(postgres_shop.connection, make_event("a"))


async def test_order_of_a_key(shop, make_event):
    """Events of one key are published in the order in which they were written."""
    for number in range(40):
        await shop.place(make_event(f"k{number % 4}", number))
    await shop.relay(batch=7).drain()
    numbers: dict[bytes, list[int]] = {}
    for record in shop.cluster.records(TOPIC):
        payload = decode_envelope(record.value).payload_json
        numbers.setdefault(record.key, []).append(int(payload.split(b":")[-1].rstrip(b"}")))
    assert numbers == {b"k%d" % k: list(range(k, 40, 4)) for k in range(4)}


async def test_order_holds_through_failures(shop, make_event):
    """While an event is not acknowledged, the next one of its key is not sent."""
    await shop.place(*(make_event("k", number) for number in range(5)))
    shop.cluster.faults.fail("send", BrokerUnavailableError("away"), times=3)
    attempts = []

    async def watch(operation, about):
        if operation == "send":
            attempts.append([record.value for record in about])
            if len(attempts) == 2:
                raise BrokerUnavailableError("away")

    relay = shop.relay()
    async with shop.running(relay):
        await shop.until(lambda: len(shop.cluster.records(TOPIC)) >= 1)
        shop.cluster.faults.hook = watch
        await shop.until(lambda: len(shop.cluster.records(TOPIC)) == 5)
    assert all(len(attempt) == 1 for attempt in attempts)
    bodies = [decode_envelope(r.value).payload_json for r in shop.cluster.records(TOPIC)]
    assert [b'"number":%d' % n in body for n, body in enumerate(bodies)] == [True] * 5


async def test_refused_rows_are_parked(shop, make_event):
    """A refused row stops its own key only, is shown with the reason, and goes on after a retry."""
    bad, _, _ = await shop.place(make_event("bad", 1), make_event("bad", 2), make_event("good", 3))

    class Picky:
        """Refuses the first row of the key `bad`, as a broker would."""

        def __init__(self, sender):
            self.sender = sender

        async def send(self, records, *, settled=None):
            wrong = [n for n, record in enumerate(records) if record.key == b"bad"]
            right = [record for record in records if record.key != b"bad"]
            settled(wrong, RejectedError("policy says no", code="POLICY_VIOLATION"))
            return await self.sender.send(right)

        async def close(self):
            """Nothing is held."""

    assert await shop.relay(sender=Picky(shop.cluster.sender())).drain() == 1
    (stuck,) = await shop.store.stuck()
    assert (stuck.event_id, stuck.topic, stuck.waiting) == (bad, TOPIC, 1)
    assert stuck.reason == "RejectedError: policy says no"
    counts = await shop.store.counts()
    assert (counts.pending, counts.stuck, counts.sent) == (1, 1, 1)
    assert await shop.relay().drain() == 0
    assert await shop.store.retry([stuck.row_id + 100]) == 0
    assert await shop.store.retry() == 1
    assert await shop.relay().drain() == 2
    assert await shop.store.stuck() == []


async def test_dropping_lets_the_rest_go_on(shop, make_event):
    """A refused row that is dropped is gone, and those behind it are published."""
    await shop.place(make_event("k", 1), make_event("k", 2))
    shop.cluster.faults.fail("send", RejectedError("no", code="X"))
    relay = shop.relay()
    assert await relay.drain() == 0
    (stuck,) = await shop.store.stuck()
    assert await shop.store.drop([stuck.row_id]) == 1
    assert await relay.drain() == 1
    assert (await shop.store.counts()).stuck == 0


async def test_missing_topics_park_their_rows_only(shop, make_event):
    """A topic that is not on the cluster parks its rows; other topics go on."""
    paid = make_event("k", 1)
    await shop.place(
        paid.__class__(event_type="ORDER_PAID", payload=paid.payload), make_event("k", 2)
    )
    shop.cluster._log.topics.pop(OTHER)
    await shop.relay().drain()
    (stuck,) = await shop.store.stuck()
    assert "UnknownTopicError" in stuck.reason
    assert len(shop.cluster.records(TOPIC)) == 1


async def test_waits_while_the_bus_is_away(shop, make_event):
    """With the bus away, or credentials refused, nothing is parked; it goes on when that passes."""
    await shop.place(make_event("k"))
    shop.cluster.faults.fail("send", BrokerUnavailableError("away"), times=3)
    shop.cluster.faults.fail("send", UnauthorisedError("expired"), times=2)
    async with shop.running(shop.relay()):
        await shop.until_sent(1)
    assert await shop.store.stuck() == []
    assert len(shop.ids()) == 1


async def test_keys_do_not_wait_for_one_that_fails(shop, make_event):
    """While events of one key are not acknowledged, all the others of the batch are published."""
    await shop.place(*(make_event(key, n) for n in range(3) for key in ("bad", "good")))

    sender = shop.cluster.sender()
    whole = sender.send

    async def send(records, *, settled=None):
        good = [record for record in records if record.key != b"bad"]
        receipt = await whole(good, settled=None)
        for index, record in enumerate(records):
            if record.key == b"bad":
                receipt.failures[index] = BrokerUnavailableError("its partition has no leader")
        return receipt

    sender.send = send
    with pytest.raises(BrokerUnavailableError):
        await shop.relay(sender=sender).drain()
    keys = [record.key for record in shop.cluster.records(TOPIC)]
    assert keys == [b"good"] * 3
    counts = await shop.counts()
    assert (counts.pending, counts.sent, counts.stuck) == (3, 3, 0)


async def test_wakes_up(shop, make_event):
    """A running relay publishes soon after the commit, much sooner than its longest wait."""
    async with shop.running(shop.relay()):
        await shop.place(make_event("first"))
        await shop.until(lambda: shop.cluster.records(TOPIC))
        await asyncio.sleep(0.05)
        started = asyncio.get_running_loop().time()
        await shop.place(make_event("second"))
        await shop.until(lambda: len(shop.cluster.records(TOPIC)) == 2)
        took = asyncio.get_running_loop().time() - started
    assert took < 0.7


async def test_one_relay_works(shop, make_event):
    """Of several relays one publishes; when it ends, another takes over."""
    one, two = shop.new_store(), shop.new_store()
    assert await one.lead() is True
    assert await two.lead() is False
    assert await one.lead() is True
    await shop.place(make_event("k"))
    assert await shop.relay(two).drain() == 0
    await one.close()
    assert await shop.relay(two).drain() == 1
    await two.close()


async def test_many_relays_at_once(shop, make_event):
    """Relays side by side publish each event once, in order."""
    stores = [shop.new_store() for _ in range(3)]
    async with (
        shop.running(shop.relay(stores[0])),
        shop.running(shop.relay(stores[1])),
        shop.running(shop.relay(stores[2])),
    ):
        ids = []
        for number in range(30):
            ids += await shop.place(make_event("k", number))
        await shop.until_sent(30)
    assert shop.ids() == ids


async def test_a_relay_that_lost_its_lease_notes_nothing(sqlite_shop, make_event):
    """A relay that was stopped for longer than its lease cannot mark rows any more."""
    await sqlite_shop.place(make_event("k"))
    old = SqliteOutboxStore(sqlite_shop.path, lease_s=0.05)
    assert await old.lead()
    (row,) = await old.pending(10)
    await asyncio.sleep(0.06)
    new = sqlite_shop.new_store()
    assert await new.lead()
    with pytest.raises(ClosedError):
        await old.settle([row.row_id], {})
    assert len(await new.pending(10)) == 1
    await old.close()
    assert await new.lead()
    await new.close()


async def test_a_clock_that_was_set_back(sqlite_shop, make_event):
    """A lease further ahead than any can be, since the clock was set back, counts as over."""
    await sqlite_shop.place(make_event("k"))
    dead = SqliteOutboxStore(sqlite_shop.path, lease_s=3600.0)
    assert await dead.lead()
    async with SqliteOutboxStore(sqlite_shop.path, lease_s=3590.0) as waiting:
        assert not await waiting.lead()
    new = sqlite_shop.new_store()
    assert await new.lead()
    await dead.close()
    assert await new.lead()
    await new.close()


async def test_later_ids_that_are_seen_first_wait(postgres_shop, make_event):
    """An id whose transaction commits late is not overtaken by a later one of another."""
    shop = postgres_shop
    slow = await asyncpg.connect(shop.dsn)
    transaction = slow.transaction()
    await transaction.start()
    first = await shop.outbox.add(slow, make_event("k", 1))
    (second,) = await shop.place(make_event("k", 2))
    async with shop.running(shop.relay()):
        await asyncio.sleep(0.3)
        assert shop.ids() == []
        await transaction.commit()
        await shop.until(lambda: len(shop.ids()) == 2)
    assert shop.ids() == [first, second]
    await slow.close()


async def test_older_transactions_that_write_later_wait(postgres_shop, make_event):
    """A row of an older transaction does not overtake one of its key that was written before it."""
    shop = postgres_shop
    older, between = await asyncpg.connect(shop.dsn), await asyncpg.connect(shop.dsn)
    writing, open_long = older.transaction(), between.transaction()
    await writing.start()
    await older.fetchval("SELECT pg_current_xact_id()::text")
    await open_long.start()
    await between.fetchval("SELECT pg_current_xact_id()::text")
    (first,) = await shop.place(make_event("k", 1))
    second = await shop.outbox.add(older, make_event("k", 2))
    other = await shop.outbox.add(older, make_event("free", 3))
    await writing.commit()
    assert await shop.relay().drain() == 1
    assert shop.ids() == [other]
    await open_long.commit()
    assert await shop.relay().drain() == 2
    in_order = [one for one in shop.ids() if one != other]
    assert in_order == [first, second]
    await older.close()
    await between.close()


async def test_a_server_notices_relays_that_vanished(postgres_shop):
    """The server probes a silent relay's connection within seconds, so that its lock is freed."""
    assert await postgres_shop.store.lead()
    connection = postgres_shop.store._connection
    assert int(await connection.fetchval("SHOW tcp_keepalives_idle")) in (0, 10)
    (sent,) = await connection.fetch(
        "SELECT reset_val FROM pg_settings WHERE name = 'tcp_keepalives_idle'"
    )
    assert sent["reset_val"] == "10"


async def test_lost_connections_are_made_anew(postgres_shop, make_event):
    """When the server drops the relay's connection, it leads again on a new one."""
    shop = postgres_shop
    async with shop.running(shop.relay()):
        await shop.place(make_event("k", 1))
        await shop.until(lambda: len(shop.ids()) == 1)
        await shop.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await shop.place(make_event("k", 2))
        await shop.until(lambda: len(set(shop.ids())) == 2)


async def test_databases_that_are_away(sqlite_shop, postgres_dsn, tmp_path):
    """A missing table or database is an error of ours that says so."""
    async with SqliteOutboxStore(tmp_path / "empty.db") as store:
        with pytest.raises(BrokerUnavailableError, match="no such table"):
            await store.counts()
    async with PostgresOutboxStore(postgres_dsn) as store:
        with pytest.raises(ConfigurationError, match="create_table"):
            await store.counts()
    with pytest.raises(BrokerUnavailableError):
        await PostgresOutboxStore("postgresql://postgres@127.0.0.1:1/x").counts()


async def test_cleaning(shop, make_event):
    """Rows that were sent long ago are deleted; those that wait are kept; ids are new."""
    await shop.place(make_event("k", 1))
    await shop.relay().drain()
    await shop.place(make_event("k", 2))
    assert await shop.store.clean(timedelta(hours=1)) == 0
    assert await shop.store.clean(timedelta(0)) == 1
    (row,) = await shop.store.pending(10)
    assert row.row_id == 2


async def test_care_does_not_stop_the_relay(shop, make_event, monkeypatch):
    """Where counting takes too long for the database, events are published all the same."""
    calls = []

    async def counts(*, sent=True):
        calls.append(sent)
        await asyncio.sleep(0.05)
        raise BrokerUnavailableError("took too long")

    monkeypatch.setattr(_relay, "_CARE_EVERY_S", 0.03)
    monkeypatch.setattr(shop.store, "counts", counts)
    async with shop.running(shop.relay()):
        await shop.place(make_event("k"))
        await shop.until(lambda: len(shop.ids()) == 1)
    assert set(calls) == {False}, "what was sent is not counted: it is most of the table"


async def test_a_closed_sender_ends_the_relay(shop, make_event):
    """A relay whose sender is closed ends with that, rather than wait for ever."""
    await shop.place(make_event("k"))
    sender = shop.cluster.sender()
    await sender.close()
    with pytest.raises(ClosedError):
        async with asyncio.timeout(5):
            await shop.relay(sender=sender).run()
