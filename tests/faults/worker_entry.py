"""
The persistence worker with something changed, as a process: `python worker_entry.py MODE...`.

A mode is a function of this file and the numbers for it: `slow`, `hang:3.0`, `die-after-poll:2`.
Some make it slow, some kill it at a named point, and some break it on purpose, so that the ledger
can show that it would notice.
"""

import asyncio
import ctypes
import itertools
import os
import random
import re
import signal
import sqlite3
import sys
import time

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.kafka._consumer_client import ConsumerClient
from spile.services.command import main
from spile.services.persistence import (
    Decoder,
    PersistenceHandler,
    SqliteEventStore,
    _schema,
    store,
)
from spile.spi import UndecodableError

_SLOW_S = 0.3
_LITTLE_S = 0.03


def say(text: str) -> None:
    """Leave word in the log."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


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


def hang(seconds: float) -> None:
    """Wait for long with every tenth batch in hand."""
    handle, calls = PersistenceHandler.__call__, itertools.count()

    async def call(self, records):
        if next(calls) % 10 == 9:
            say("handler hangs")
            await asyncio.sleep(seconds)
        await handle(self, records)

    PersistenceHandler.__call__ = call


def block(seconds: float) -> None:
    """Block the event loop with every tenth batch in hand, as a handler does that computes."""
    handle, calls = PersistenceHandler.__call__, itertools.count()

    async def call(self, records):
        if next(calls) % 10 == 9:
            say("handler blocks")
            time.sleep(seconds)  # noqa: ASYNC251 - the fault itself
        await handle(self, records)

    PersistenceHandler.__call__ = call


def clock_steps_back(seconds: float) -> None:
    """Let the wall clock of this process jump back by some seconds every second."""
    real, started = time.time, time.monotonic()
    time.time = lambda: real() - seconds * ((time.monotonic() - started) // 1.0)


def reject(every: float) -> None:
    """Find one event in some broken, as after a bad deploy."""
    row = Decoder._row

    def call(self, record, *args, **kwargs):
        found = re.search(rb'"seq":([0-9]+)', record.value or b"")
        if found and int(found[1]) % int(every) == 3:
            raise UndecodableError("rejected by a bad deploy")
        return row(self, record, *args, **kwargs)

    Decoder._row = call


def dies_of_poison() -> None:
    """Crash in native code over some records."""
    row = Decoder._row

    def call(self, record, *args, **kwargs):
        if b"poison-kills" in (record.value or b""):
            ctypes.string_at(0)
        return row(self, record, *args, **kwargs)

    Decoder._row = call


class _Point:
    """Kills this process when it has come here for the given time."""

    def __init__(self, name: str, visits: float) -> None:
        self._name, self._left = name, int(visits)

    def is_due(self) -> bool:
        self._left -= 1
        return self._left <= 0

    def die(self) -> None:
        say(f"dies {self._name}")
        os.kill(os.getpid(), signal.SIGKILL)


def die_after_poll(visits: float) -> None:
    """Die with polled records in hand."""
    point, handle = _Point("after poll", visits), PersistenceHandler.__call__

    async def call(self, records):
        if point.is_due():
            point.die()
        await handle(self, records)

    PersistenceHandler.__call__ = call


def die_after_decode(visits: float) -> None:
    """Die with decoded rows in hand."""
    point, decode = _Point("after decode", visits), Decoder.decode

    def call(self, records):
        decoded = decode(self, records)
        if point.is_due():
            point.die()
        return decoded

    Decoder.decode = call


def die_in_dead_letter_write(visits: float) -> None:
    """Die while a dead letter is under way."""
    point, keep = _Point("in the write of a dead letter", visits), DeadLetterQueue.keep

    async def call(self, *args, **kwargs):
        if point.is_due():
            asyncio.get_running_loop().call_later(random.uniform(0, 0.01), point.die)
        await keep(self, *args, **kwargs)

    DeadLetterQueue.keep = call


def die_before_store_commit(visits: float) -> None:
    """Die with all rows written in a transaction that is not committed yet."""
    point, write = _Point("before the commit of the store", visits), SqliteEventStore._write

    def call(self, database, batch):
        appended = write(self, database, batch)
        if point.is_due():
            point.die()
        return appended

    SqliteEventStore._write = call


def die_after_store_commit(visits: float) -> None:
    """Die with a batch stored whose offsets are not committed to Kafka."""
    point, append = _Point("after the commit of the store", visits), SqliteEventStore.append

    async def call(self, batch):
        appended = await append(self, batch)
        if point.is_due():
            point.die()
        return appended

    SqliteEventStore.append = call


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


def latest() -> None:
    """Begin at the end of the log, not where the last worker stood, as `latest` does."""

    async def nothing(self, partitions, **_):
        return {}

    no_fence()
    ConsumerClient.committed = nothing
    ConsumerClient.beginning_offsets = ConsumerClient.end_offsets
    SqliteEventStore.next_offsets = nothing


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
        name, *numbers = mode.split(":")
        globals()[name.replace("-", "_")](*map(float, numbers))
    main(["run", "persistence"])
