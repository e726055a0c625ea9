"""The transaction rules of the event store."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from spile.services.persistence import (
    EventFilter,
    SqliteEventStore,
    StaleOffsetsError,
    StoreDamagedError,
    StoreUnavailableError,
    store_path,
)
from spile.spi import ClosedError, ConfigurationError

TOPIC = "dev.agent.tool.recorded.v1"
HERE = (TOPIC, 0)
THERE = (TOPIC, 1)
ALL = EventFilter()


async def test_rows_and_next_offset_are_stored_together(store, make_run):
    """After an append both the rows and the offset to read next are there."""
    appended = await store.append([make_run(0, 3)])

    assert appended.inserted == 3
    assert await store.count(ALL) == 3
    assert await store.next_offsets([HERE, THERE]) == {HERE: 3}


async def test_stale_fetch_changes_nothing(store, make_run):
    """Rows below the stored offset are left out, whatever their ids."""
    await store.append([make_run(0, 5)])

    appended = await store.append([make_run(0, 5)])

    assert (appended.inserted, appended.stale) == (0, 5)
    assert await store.count(ALL) == 5
    assert await store.next_offsets([HERE]) == {HERE: 5}


async def test_overlapping_fetch_stores_only_what_is_new(store, make_run):
    """Of a run that begins below the stored offset only the rest is stored."""
    await store.append([make_run(0, 5)])

    appended = await store.append([make_run(3, 8)])

    assert (appended.inserted, appended.stale) == (3, 2)
    assert await store.next_offsets([HERE]) == {HERE: 8}


async def test_offsets_without_records_are_passed_over(store, make_run):
    """Transaction markers and compaction leave holes, which a writer in possession may pass."""
    await store.append([make_run(0, 5)])

    appended = await store.append([make_run(9, 10)])

    assert appended.jumped == 4
    assert await store.next_offsets([HERE]) == {HERE: 10}


async def test_zombie_is_refused(store, database, make_run):
    """A writer that slept while another took over cannot write beyond what it knows."""
    await store.append([make_run(0, 5)])
    async with SqliteEventStore(database) as other:
        await other.next_offsets([HERE])
        await other.append([make_run(5, 8)])

    with pytest.raises(StaleOffsetsError, match="is 8 in store"):
        await store.append([make_run(20, 25)])

    assert await store.count(ALL) == 8
    assert await store.next_offsets([HERE]) == {HERE: 8}


async def test_zombie_that_overlaps_doubles_nothing(store, database, make_run, make_row):
    """A writer that wakes with records that another stored meanwhile adds only the rest."""
    rows = [make_row(offset) for offset in range(10)]
    await store.append([make_run(0, 5, rows=rows[:5])])
    async with SqliteEventStore(database) as other:
        await other.next_offsets([HERE])
        await other.append([make_run(5, 8, rows=rows[5:8])])

    appended = await store.append([make_run(5, 10, rows=rows[5:])])

    assert (appended.inserted, appended.stale) == (2, 3)
    assert await store.count(ALL) == 10


async def test_writer_that_never_read_the_offset_must_not_leave_a_gap(store, database, make_run):
    """Without knowledge of the offset a run that begins beyond it is refused."""
    await store.append([make_run(0, 5)])
    async with SqliteEventStore(database) as other:
        with pytest.raises(StaleOffsetsError):
            await other.append([make_run(7, 9)])


async def test_reset_under_a_running_writer_stops_it_until_it_reads_anew(store, database, make_run):
    """Offsets that were reset are noticed; after reading them anew writing goes on."""
    await store.append([make_run(0, 5)])
    async with SqliteEventStore(database) as operator:
        assert await operator.reset_offsets() == 1

    with pytest.raises(StaleOffsetsError):
        await store.append([make_run(5, 6)])

    assert await store.next_offsets([HERE]) == {}
    await store.append([make_run(5, 6)])
    assert await store.count(ALL) == 6


async def test_reset_forgets_only_the_topic_that_is_named(store, make_run):
    """Resetting another topic leaves the offsets alone."""
    await store.append([make_run(0, 5)])

    assert await store.reset_offsets("dev.other.tool.recorded.v1") == 0
    assert await store.stored_offsets() == {HERE: 5}


async def test_batch_is_all_or_nothing(store, database, make_run):
    """When one partition is refused, the rows of the other are not stored either."""
    await store.append([make_run(0, 5)])
    async with SqliteEventStore(database) as other:
        await other.next_offsets([HERE])
        await other.append([make_run(5, 6)])

    with pytest.raises(StaleOffsetsError):
        await store.append([make_run(0, 4, partition=1), make_run(10, 11)])

    assert await store.count(ALL) == 6
    assert await store.next_offsets([THERE]) == {}


async def test_event_is_stored_once(store, make_run, make_row):
    """The same id in one batch, in another batch and in another partition makes one row."""
    row = make_row(0)
    again = row._replace(offset=1)
    await store.append([make_run(0, 2, rows=[row, again])])
    await store.append([make_run(2, 3, rows=[row._replace(offset=2)])])

    appended = await store.append([make_run(0, 1, partition=1, rows=[row._replace(partition=1)])])

    assert (appended.inserted, appended.duplicates) == (0, 1)
    assert await store.count(ALL) == 1
    assert await store.next_offsets([HERE, THERE]) == {HERE: 3, THERE: 1}


async def test_empty_run_moves_the_offset(store, make_run):
    """Records that are not stored, such as poison, still move the offset."""
    await store.append([make_run(0, 4, rows=[])])

    assert await store.next_offsets([HERE]) == {HERE: 4}


async def test_full_disk_rolls_back_and_the_batch_can_be_tried_again(store, make_run, make_row):
    """A full disk is retriable, stores nothing, and the same batch fits once there is room."""
    await store.append([make_run(0, 5)])
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute(f"PRAGMA max_page_count={pages + 2}")
    large = make_run(5, 105, rows=[make_row(5 + i, envelope="x" * 1000) for i in range(100)])

    with pytest.raises(StoreUnavailableError, match="full"):
        await store.append([large])
    assert await store.count(ALL) == 5
    assert await store.next_offsets([HERE]) == {HERE: 5}

    store._database.execute(f"PRAGMA max_page_count={1 << 30}")
    await store.append([large])
    assert await store.count(ALL) == 105
    assert store._database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_lock_of_another_process_is_retriable(store, database, make_run):
    """A locked store raises a retriable error, and takes the batch when the lock is gone."""
    store._database.execute("PRAGMA busy_timeout=50")
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailableError, match="locked"):
        await store.append([make_run(0, 2)])

    other.execute("ROLLBACK")
    other.close()
    assert (await store.append([make_run(0, 2)])).inserted == 2


async def test_reader_does_not_hold_up_the_writer(store, database, make_run):
    """An open read transaction lets appends through; it makes the write-ahead log grow."""
    await store.append([make_run(0, 1)])
    reader = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchone()

    await store.append([make_run(1, 50)])

    assert reader.execute("SELECT count(*) FROM events").fetchone() == (1,)
    assert store.wal_bytes > 0
    reader.close()


@pytest.mark.parametrize("place", [0, 4096 * 8])
async def test_corrupt_file_is_refused(database, make_run, make_row, place):
    """A flipped header or page stops the start with the way out."""
    async with SqliteEventStore(database) as store:
        rows = [make_row(offset, envelope="x" * 3000) for offset in range(50)]
        await store.append([make_run(0, 50, rows=rows)])
    damaged = bytearray(database.read_bytes())
    damaged[place : place + 400] = b"\xa5" * 400
    database.write_bytes(damaged)

    with pytest.raises(StoreDamagedError, match="move it away"):
        async with SqliteEventStore(database):
            pass


async def test_database_of_another_program_is_refused(database):
    """A store never adds its tables to a file that is somebody else's."""
    other = sqlite3.connect(database)
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()

    with pytest.raises(StoreDamagedError, match="another program"):
        async with SqliteEventStore(database):
            pass


async def test_store_of_a_newer_release_is_refused(database):
    """A schema version that this release does not know is refused."""
    async with SqliteEventStore(database) as store:
        store._database.execute("PRAGMA user_version=99")

    with pytest.raises(StoreDamagedError, match="version 99"):
        async with SqliteEventStore(database):
            pass


async def test_file_is_for_the_owner_only(store, database, make_run):
    """Nobody else may read the file or its write-ahead log."""
    await store.append([make_run(0, 1)])

    files = [database, database.with_name(f"{database.name}-wal")]
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600, 0o600]


async def test_store_is_durable_and_guarded(store):
    """Commits reach the disk, the schema is not trusted, checkpoints are rare."""
    pragmas = {
        name: store._database.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "trusted_schema", "wal_autocheckpoint")
    }

    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "trusted_schema": 0,
        "wal_autocheckpoint": 20_000,
    }


async def test_closed_store_says_so(database):
    """A call after the close raises; closing again does nothing."""
    store = SqliteEventStore(database)
    async with store:
        pass
    await store.close()

    with pytest.raises(ClosedError):
        await store.count(ALL)


async def test_folder_that_cannot_be_written_is_a_configuration_error(tmp_path):
    """The error names the setting."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="SPILE_STORE"):
        async with SqliteEventStore(tmp_path / "file" / "events.db"):
            pass


async def test_folder_of_a_mistyped_store_is_not_made(tmp_path, monkeypatch):
    """Only the default `.spile` is made; for any other folder the error names the setting."""
    with pytest.raises(ConfigurationError, match="SPILE_STORE: there is no folder"):
        async with SqliteEventStore(tmp_path / "typo" / "events.db"):
            pass
    assert list(tmp_path.iterdir()) == []

    monkeypatch.chdir(tmp_path)
    async with SqliteEventStore(Path(".spile/events.db")):
        assert (tmp_path / ".spile" / "events.db").is_file()


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("a/b.db", "a/b.db"),
        ("/a/b.db", "/a/b.db"),
        ("sqlite:///a/b.db", "a/b.db"),
        ("sqlite:////a/b%20c.db", "/a/b c.db"),
    ],
)
def test_location_is_a_path_or_an_url(location, path):
    """Both forms name a file."""
    assert store_path(location) == Path(path)


@pytest.mark.parametrize("location", ["postgresql://host/db", "sqlite://host/db", "sqlite:///"])
def test_other_urls_are_refused_without_showing_them(location):
    """An URL may hold a password, so the error does not repeat it."""
    with pytest.raises(ConfigurationError) as caught:
        store_path(location)
    assert "host" not in str(caught.value)


_WRITER = """
import asyncio, sys
from pathlib import Path
from spile.services.persistence import Row, Run, SqliteEventStore
from spile.topics import uuid7

async def main():
    at = ("t", 0)
    async with SqliteEventStore(Path(sys.argv[1])) as store:
        while True:
            first = (await store.next_offsets([at])).get(at, 0)
            rows = [
                Row(uuid7().bytes, "t", 0, offset, 0, 0, "X", "s", b"c", None, None, None, None,
                    None, "e" * 500, "[]")
                for offset in range(first, first + 200)
            ]
            await store.append([Run(partition=at, first=first, next=first + 200, rows=rows)])
            print(first, flush=True)

asyncio.run(main())
"""


def test_kill_leaves_rows_and_offset_in_step(database):
    """Killed at any moment, the store holds exactly the rows below its offset."""
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(database)], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            for _ in range(7):
                assert writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)

    raw = sqlite3.connect(database)
    (stored,) = raw.execute("SELECT next FROM offsets").fetchone()
    found = raw.execute('SELECT count(*), count(DISTINCT "offset"), max("offset") FROM events')
    assert found.fetchone() == (stored, stored, stored - 1)
    assert stored >= 3 * 7 * 200
    raw.close()
