"""The audit of the demonstration: it must see what is missing and what is there twice."""

import sqlite3
from uuid import UUID, uuid4

import pytest

from spile.services.demo._store import StoreWatch, audit, percentile
from spile.services.persistence import Decoder, SqliteEventStore
from spile.topics import default_catalogue


@pytest.fixture
async def store(tmp_path, make_record):
    """A store with ten stored calls; gives its file and their ids."""
    ids = [str(uuid4()) for _ in range(10)]
    decoder = Decoder(default_catalogue(), "dev")
    records = [make_record(offset, event_id=event_id) for offset, event_id in enumerate(ids)]
    path = tmp_path / "events.db"
    async with SqliteEventStore(path) as opened:
        await opened.append(decoder.decode(records).runs)
    return path, ids


async def test_audit_of_a_whole_store(store):
    """All acknowledged events are there, once; what was not acknowledged is not counted."""
    path, ids = store
    found = audit(path, ids[:8])
    assert (found.persisted, found.lost, found.duplicated) == (8, 0, 0)
    assert found.event_types == {"PRE_TOOL_USE": 8}


async def test_audit_sees_what_is_lost(store):
    """An acknowledged event that is not in the store is lost, whatever happened to it."""
    path, ids = store
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM events WHERE event_id = ?", (UUID(ids[3]).bytes,))
    database.close()
    found = audit(path, [*ids, str(uuid4())])
    assert (found.persisted, found.lost, found.duplicated) == (9, 2, 0)


async def test_audit_sees_what_is_there_twice(store):
    """A second row of an event is seen even where the store's own unique column differs."""
    path, ids = store
    columns = (
        'topic, "partition", "offset" + 100, recorded_ms, happened_us, event_type, service,'
        ' correlation_id, causation_id, session_id, agent_id, tool_name, "key", envelope, headers'
    )
    with sqlite3.connect(path) as database:
        database.execute(
            f"INSERT INTO events SELECT 1000, ?, {columns} FROM events WHERE event_id = ?",
            (uuid4().bytes, UUID(ids[0]).bytes),
        )
    database.close()
    found = audit(path, ids)
    assert (found.persisted, found.lost, found.duplicated) == (10, 0, 1)


async def test_watch_sees_every_committed_row(store):
    """The watch notes rows that are there and rows that come later."""
    path, ids = store
    with StoreWatch(path) as watch:
        while len(watch.seen) < len(ids):
            assert watch.failure is None
    assert set(watch.seen) == set(ids)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 5.0), (0.95, 10.0), (0.9, 9.0), (1.0, 10.0)]
)
def test_percentile_is_nearest_rank(share, expected):
    """The smallest value that at least this share of the values does not exceed."""
    assert percentile([float(number) for number in range(1, 11)], share) == expected
