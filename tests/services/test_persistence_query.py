"""Reading the event store."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from spile.services.persistence import EventFilter, SqliteEventStore
from spile.spi import ConfigurationError, PermanentError

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
async def filled(store, make_run, make_row):
    """Ten events, a second apart, of two tools, services and sessions."""
    rows = [
        make_row(
            offset,
            happened_us=int((START + timedelta(seconds=offset)).timestamp()) * 1_000_000,
            event_type="PRE_TOOL_USE" if offset % 2 else "POST_TOOL_USE",
            tool_name="Read" if offset < 4 else "Bash",
            service="agent" if offset < 6 else "importer",
            session_id="one" if offset < 8 else None,
            correlation_id=UUID(int=offset // 5).bytes,
        )
        for offset in range(10)
    ]
    await store.append([make_run(0, 10, rows=rows)])
    return store


@pytest.mark.parametrize(
    ("filters", "offsets"),
    [
        ({}, range(10)),
        ({"event_type": "PRE_TOOL_USE"}, [1, 3, 5, 7, 9]),
        ({"tool_name": "Read"}, [0, 1, 2, 3]),
        ({"service": "importer"}, [6, 7, 8, 9]),
        ({"session_id": "one"}, range(8)),
        ({"correlation_id": UUID(int=1)}, [5, 6, 7, 8, 9]),
        ({"since": START + timedelta(seconds=7)}, [7, 8, 9]),
        ({"until": START + timedelta(seconds=2)}, [0, 1]),
        ({"limit": 3}, [7, 8, 9]),
        ({"after_seq": 4, "limit": 3}, [4, 5, 6]),
        ({"tool_name": "Bash", "event_type": "POST_TOOL_USE", "limit": 2}, [6, 8]),
    ],
)
async def test_filter_finds_what_fits(filled, filters, offsets):
    """Each filter alone and together gives the events that fit, in order."""
    found = await filled.query(EventFilter(**filters))

    assert [event.offset for event in found] == list(offsets)


async def test_event_comes_back_whole(filled):
    """What was stored is what is read."""
    (event,) = await filled.query(EventFilter(limit=1))

    assert event.happened_at == START + timedelta(seconds=9)
    assert event.correlation_id == UUID(int=1)
    assert (event.seq, event.key, event.envelope, event.headers) == (10, b"key", "{}", "[]")


async def test_no_record_time_keeps_events_from_being_read(store, make_run, make_row):
    """Producers choose the time of a record, any 64 bits; it must not break every query."""
    times = (-(2**63), -1, 2**63 - 1)
    rows = [make_row(offset, recorded_ms=time) for offset, time in enumerate(times)]
    await store.append([make_run(0, 3, rows=rows)])

    found = await store.query(EventFilter(after_seq=0))
    assert [event.recorded_at.year for event in found] == [1, 1969, 9999]


@pytest.mark.parametrize("name", ["event_type", "service", "session_id", "tool_name"])
@pytest.mark.parametrize(
    "hostile", ["x' OR '1'='1", "'; DROP TABLE events; --", 'x" OR 1=1 --', "%", "\x00"]
)
async def test_hostile_value_is_only_a_value(filled, name, hostile):
    """Injection finds nothing and changes nothing."""
    which = EventFilter(**{name: hostile})

    assert await filled.query(which) == []
    assert await filled.count(which) == 0
    assert await filled.count(EventFilter()) == 10


async def test_counts_by_a_column(filled):
    """Most first; the filter holds."""
    which = EventFilter(service="agent")

    assert await filled.count_by(which, "tool_name") == {"Read": 4, "Bash": 2}


async def test_column_of_a_count_must_be_known(filled):
    """What is no value is taken from a list of our own."""
    with pytest.raises(ValueError, match="cannot count by"):
        await filled.count_by(EventFilter(), "1; DROP TABLE events")


async def test_reader_sees_what_a_writer_adds(filled, database, make_run):
    """A store opened for reading follows the writer, and cannot write."""
    async with SqliteEventStore(database, read_only=True) as reader:
        assert await reader.last_seq() == 10
        await filled.append([make_run(10, 12)])

        assert len(await reader.query(EventFilter(after_seq=10))) == 2
        with pytest.raises(PermanentError, match="readonly"):
            await reader.append([make_run(12, 13)])


async def test_store_to_read_must_be_there(tmp_path):
    """Looking does not make a store."""
    missing = tmp_path / "none.db"

    with pytest.raises(ConfigurationError, match="there is no store"):
        async with SqliteEventStore(missing, read_only=True):
            pass
    assert not missing.exists()
