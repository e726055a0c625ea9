"""
The persistence worker with something changed, as a process: `python worker_entry.py MODE...`.

`slow` waits with every batch in hand before storing it; the others break the worker on purpose, so
that the ledger can show that it would notice.
"""

import asyncio
import sqlite3
import sys
import time

from spile.services.command import main
from spile.services.persistence import PersistenceHandler, SqliteEventStore, _schema, store

_SLOW_S = 0.3
_LITTLE_S = 0.03


def slow(seconds: float = _SLOW_S) -> None:
    """Keep each batch in hand for a while before it is stored."""
    handle = PersistenceHandler.__call__

    async def call(self, records):
        await asyncio.sleep(seconds)
        await handle(self, records)

    PersistenceHandler.__call__ = call


def slow_a_little() -> None:
    """Let a transaction take a while between its writes and its commit."""
    write = SqliteEventStore._write

    def write_slowly(self, database, batch):
        appended = write(self, database, batch)
        time.sleep(_LITTLE_S)
        return appended

    SqliteEventStore._write = write_slowly


def commit_first() -> None:
    """Move the offsets first, the rows in a transaction of their own."""
    append = SqliteEventStore.append

    async def offsets_then_rows(self, batch):
        await append(self, [_without_rows(run) for run in batch])
        await asyncio.sleep(_SLOW_S)
        return await self._call(_insert, [row for run in batch for row in run.rows])

    SqliteEventStore.append = offsets_then_rows


def no_fence() -> None:
    """Drop the compare-and-set, the look at the stored offset, and the unique id."""

    def write(self, database, batch):
        for run in batch:
            database.execute(
                "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)", (*run.partition, run.next)
            )
        return _insert(database, [row for run in batch for row in run.rows])

    _without_unique_id()
    SqliteEventStore._write = write


def only_fence() -> None:
    """Drop the unique id alone: the compare-and-set must do."""
    _without_unique_id()


def _without_unique_id() -> None:
    _schema._TABLES = tuple(text.replace("NOT NULL UNIQUE", "NOT NULL") for text in _schema._TABLES)
    store.INSERT = _schema.INSERT.replace(" ON CONFLICT (event_id) DO NOTHING", "")


def _without_rows(run):
    return type(run)(partition=run.partition, first=run.first, next=run.next, rows=[])


def _insert(database: sqlite3.Connection, rows):
    inserted = database.executemany(store.INSERT, rows).rowcount if rows else 0
    return store.Appended(inserted=inserted, duplicates=len(rows) - inserted, stale=0, jumped=0)


if __name__ == "__main__":
    for mode in sys.argv[1:]:
        globals()[mode.replace("-", "_")]()
    main(["run", "persistence"])
