"""The event store in a SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from spile.services.persistence import _query
from spile.services.persistence._schema import INSERT, open_database, translate
from spile.services.persistence._values import (
    Appended,
    EventFilter,
    EventStore,
    GroupColumn,
    Row,
    Run,
    StaleOffsetsError,
    StoredEvent,
)
from spile.spi import ClosedError, PartitionKey

P = ParamSpec("P")
T = TypeVar("T")


class SqliteEventStore(EventStore):
    """
    Events and offsets in one SQLite file in WAL mode, synchronous FULL; use it by `async with`.

    All work runs in one thread of its own, in the order of the calls. A call that is cancelled may
    still take effect.

    Args:
        path: The file; made with mode 0600 when there is none.
        read_only: Only read; the file must be there.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spile-store")
        self._database: sqlite3.Connection | None = None
        self._known: dict[PartitionKey, int] = {}

    async def __aenter__(self) -> Self:
        """
        Open the file and check it.

        Raises:
            StoreUnavailableError: It is locked.
            StoreDamagedError: It is corrupt, or not ours.
            ConfigurationError: It cannot be written, or there is none to read.
        """
        loop = asyncio.get_running_loop()
        try:
            self._database = await loop.run_in_executor(
                self._thread, lambda: open_database(self.path, read_only=self._read_only)
            )
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def wal_bytes(self) -> int:
        """Size of the write-ahead log; it grows while a reader keeps an old state in view."""
        try:
            return self.path.with_name(f"{self.path.name}-wal").stat().st_size
        except OSError:
            return 0

    async def append(self, batch: Sequence[Run]) -> Appended:
        """Store rows and offsets in one transaction; see `EventStore`."""
        return await self._call(self._append, batch)

    async def insert(self, rows: Sequence[Row]) -> int:
        """
        Store rows whose event is not there yet and leave the offsets as they are; durable.

        Returns:
            How many were new.

        Raises:
            StoreUnavailableError: The store is locked, full or not reachable; nothing was stored.
            StoreDamagedError: The store cannot be trusted.
        """
        return await self._call(_insert, rows)

    async def next_offsets(self, partitions: Sequence[PartitionKey]) -> Mapping[PartitionKey, int]:
        """Return the stored offsets, and take them for where this writer stands from now on."""
        return await self._call(self._next_offsets, partitions)

    async def stored_offsets(self) -> Mapping[PartitionKey, int]:
        """Return the offsets of all partitions."""
        return await self._call(_all_offsets)

    async def reset_offsets(self, topic: str | None = None) -> int:
        """
        Forget the offsets of one topic, or of all; the events stay.

        A worker then starts at the beginning of the log; what is read again is known by its event
        id.

        Returns:
            How many partitions were forgotten.
        """
        return await self._call(_reset_offsets, topic)

    async def query(self, which: EventFilter) -> Sequence[StoredEvent]:
        """Return events."""
        return await self._call(_query.select, which)

    async def count(self, which: EventFilter) -> int:
        """Count events."""
        return await self._call(_query.count, which)

    async def count_by(self, which: EventFilter, column: GroupColumn) -> Mapping[str, int]:
        """Count events per value of a column."""
        return await self._call(_query.count_by, which, column)

    async def last_seq(self) -> int:
        """Return the place of the row that was stored last; 0 when there is none."""
        return await self._call(
            lambda database: int(
                database.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]
            )
        )

    async def close(self) -> None:
        """Finish what was begun and close the file."""
        database, self._database = self._database, None
        if database is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, database.close)
        self._thread.shutdown(wait=False)

    async def _call(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        database = self._database
        if database is None:
            raise ClosedError(f"store {self.path} is closed")

        def run() -> T:
            try:
                return work(database, *args, **kwargs)
            except sqlite3.Error as exc:
                raise translate(exc, self.path) from exc

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    def _next_offsets(
        self, database: sqlite3.Connection, partitions: Sequence[PartitionKey]
    ) -> dict[PartitionKey, int]:
        found: dict[PartitionKey, int] = {}
        for partition in partitions:
            self._known.pop(partition, None)
            stored = _stored_offset(database, partition)
            if stored is not None:
                found[partition] = self._known[partition] = stored
        return found

    def _append(self, database: sqlite3.Connection, batch: Sequence[Run]) -> Appended:
        # IMMEDIATE: what began by reading cannot begin to write once another writer was there.
        database.execute("BEGIN IMMEDIATE")
        try:
            appended = self._write(database, batch)
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        for run in batch:
            self._known[run.partition] = max(run.next, self._known.get(run.partition, 0))
        return appended

    def _write(self, database: sqlite3.Connection, batch: Sequence[Run]) -> Appended:
        rows: list[Row] = []
        stale = jumped = 0
        for run in batch:
            stored = _stored_offset(database, run.partition)
            if stored is not None and run.next <= stored:
                stale += len(run.rows)
                self._known[run.partition] = stored
                continue
            jumped += self._move(database, run, stored)
            kept = run.rows
            if stored is not None and run.first < stored and not run.is_returned:
                kept = [row for row in kept if row.offset >= stored]
            stale += len(run.rows) - len(kept)
            rows.extend(kept)
        inserted = database.executemany(INSERT, rows).rowcount if rows else 0
        return Appended(
            inserted=inserted, duplicates=len(rows) - inserted, stale=stale, jumped=jumped
        )

    def _move(self, database: sqlite3.Connection, run: Run, stored: int | None) -> int:
        """Move the offset of one partition; return by how much it was jumped over."""
        topic, partition = run.partition
        known = self._known.get(run.partition)
        if stored is None and known is None:
            database.execute("INSERT INTO offsets VALUES (?, ?, ?)", (topic, partition, run.next))
            return run.first
        # A run that begins among stored offsets proves itself, since the log does not change; one
        # that begins beyond is whole only if the offset is where this writer left it.
        old = stored if stored is not None and run.first <= stored else known
        moved = database.execute(
            'UPDATE offsets SET next = ? WHERE topic = ? AND "partition" = ? AND next = ?',
            (run.next, topic, partition, old),
        ).rowcount
        if moved != 1:
            raise StaleOffsetsError(
                f"offset of {topic}-{partition} is {stored} in store {self.path}, this writer left "
                f"it at {known} and would write {run.first} to {run.next - 1}: "
                "somebody else writes, or the offsets were reset"
            )
        return max(0, run.first - (stored or 0))


def _insert(database: sqlite3.Connection, rows: Sequence[Row]) -> int:
    database.execute("BEGIN IMMEDIATE")
    try:
        inserted = database.executemany(INSERT, rows).rowcount if rows else 0
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    return inserted


def _stored_offset(database: sqlite3.Connection, partition: PartitionKey) -> int | None:
    row = database.execute(
        'SELECT next FROM offsets WHERE topic = ? AND "partition" = ?', partition
    ).fetchone()
    return None if row is None else int(row[0])


def _all_offsets(database: sqlite3.Connection) -> dict[PartitionKey, int]:
    rows = database.execute('SELECT topic, "partition", next FROM offsets ORDER BY 1, 2')
    return {(topic, partition): offset for topic, partition, offset in rows}


def _reset_offsets(database: sqlite3.Connection, topic: str | None) -> int:
    if topic is None:
        return database.execute("DELETE FROM offsets").rowcount
    return database.execute("DELETE FROM offsets WHERE topic = ?", (topic,)).rowcount
