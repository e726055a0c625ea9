"""The outbox in SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final, Self, TypeVar

from spile.adapters.delivery import OutgoingEvent
from spile.adapters.outbox._rows import (
    CLEAN_S,
    OutboxCounts,
    OutboxRow,
    OutboxStore,
    StuckRow,
    headers_json,
    row_of,
)
from spile.adapters.publishing import EventEncoder
from spile.spi import BrokerUnavailableError, ClosedError, ConfigurationError

OUTBOX_TABLE_SQLITE: Final = """
CREATE TABLE IF NOT EXISTS spile_outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  event_id TEXT NOT NULL UNIQUE,
  topic TEXT NOT NULL,
  key BLOB NOT NULL,
  value BLOB NOT NULL,
  headers TEXT NOT NULL,
  added_ms INTEGER NOT NULL,
  sent_ms INTEGER,
  refused TEXT
);
CREATE INDEX IF NOT EXISTS spile_outbox_pending ON spile_outbox (id)
  WHERE sent_ms IS NULL AND refused IS NULL;
CREATE INDEX IF NOT EXISTS spile_outbox_refused ON spile_outbox (topic, key, id)
  WHERE refused IS NOT NULL;
CREATE INDEX IF NOT EXISTS spile_outbox_sent ON spile_outbox (sent_ms) WHERE sent_ms IS NOT NULL;
CREATE TABLE IF NOT EXISTS spile_outbox_lease (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  owner TEXT NOT NULL,
  until_ms INTEGER NOT NULL
);
"""
"""The tables of the outbox; for a migration of the application's own."""

_INSERT = (
    "INSERT INTO spile_outbox (event_id, topic, key, value, headers, added_ms)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
_PENDING = """
SELECT id, topic, key, value, headers FROM spile_outbox AS row
WHERE sent_ms IS NULL AND refused IS NULL AND NOT EXISTS (
  SELECT 1 FROM spile_outbox AS wall WHERE wall.refused IS NOT NULL
  AND wall.topic = row.topic AND wall.key = row.key AND wall.id < row.id)
ORDER BY id LIMIT ?
"""
_LEAD = """
INSERT INTO spile_outbox_lease (one, owner, until_ms) VALUES (1, ?, ?)
ON CONFLICT (one) DO UPDATE SET owner = excluded.owner, until_ms = excluded.until_ms
WHERE owner = excluded.owner OR until_ms < ? OR until_ms > ?
"""
_STUCK = """
SELECT id, event_id, topic, refused, (
  SELECT count(*) FROM spile_outbox AS row WHERE row.sent_ms IS NULL AND row.refused IS NULL
  AND row.topic = wall.topic AND row.key = wall.key AND row.id > wall.id)
FROM spile_outbox AS wall WHERE refused IS NOT NULL ORDER BY id LIMIT ?
"""
# Each by its partial index.
_COUNTS = """
SELECT (SELECT count(*) FROM spile_outbox WHERE sent_ms IS NULL AND refused IS NULL),
  (SELECT count(*) FROM spile_outbox WHERE refused IS NOT NULL),
  (SELECT min(added_ms) FROM spile_outbox WHERE sent_ms IS NULL AND refused IS NULL)
"""
_COUNT_SENT = "SELECT count(*) FROM spile_outbox WHERE sent_ms IS NOT NULL"
_CLEAN = (
    "DELETE FROM spile_outbox WHERE id IN"
    " (SELECT id FROM spile_outbox WHERE sent_ms <= ? ORDER BY sent_ms LIMIT 1000)"
)
_LOOK_S: Final = 0.05
_CLOCK_SET_BACK_MS: Final = 60_000

T = TypeVar("T")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class SqliteOutbox:
    """
    Writes events into the outbox of an application's own database.

    Args:
        encoder: Checks, redacts and encodes them; its catalogue decides where they go.
    """

    def __init__(self, encoder: EventEncoder) -> None:
        self._encoder = encoder

    @staticmethod
    def create_table(connection: sqlite3.Connection) -> None:
        """Make the tables where they are missing; commits what is open on the connection."""
        connection.executescript(OUTBOX_TABLE_SQLITE)

    def add(self, connection: sqlite3.Connection, event: OutgoingEvent) -> str:
        """
        Write an event into the transaction that is open; it is published once that commits.

        What cannot be sent is refused here, so that the transaction can still be rolled back.

        Returns:
            The event's id.

        Raises:
            ConfigurationError: No transaction is open, and the connection would not begin one.
            SpileError: As `EventEncoder.encode`; nothing was written.
        """
        # `autocommit` is there since Python 3.12.
        begins = connection.isolation_level is not None and (
            getattr(connection, "autocommit", None) is not True
        )
        if not connection.in_transaction and not begins:
            raise ConfigurationError(
                "the outbox needs a transaction, so that an event stands or falls with what it "
                "tells about: execute BEGIN first"
            )
        encoded = self._encoder.encode(event)
        record = encoded.record
        connection.execute(
            _INSERT,
            (
                encoded.event_id,
                record.topic,
                record.key,
                record.value,
                headers_json(encoded),
                _now_ms(),
            ),
        )
        return encoded.event_id


class SqliteOutboxStore(OutboxStore):
    """
    The relay's side of an outbox in SQLite, on a connection of its own.

    One relay at a time holds a lease, which it renews at each step. One that was stopped for longer
    than the lease may still send what it had in hand: readers know the repeat by the event id.

    Args:
        path: File of the database; its tables must be there.
        lease_s: Seconds after which a relay that gave no sign counts as dead, 10 by default; all
            relays of a table use the same.
        busy_s: Longest wait for the application's own transactions, 5 s by default.
    """

    def __init__(self, path: Path | str, *, lease_s: float = 10.0, busy_s: float = 5.0) -> None:
        self._path = path
        self._lease_ms = int(lease_s * 1000)
        self._busy_s = busy_s
        self._owner = uuid.uuid4().hex
        self._connection: sqlite3.Connection | None = None
        self._one = asyncio.Lock()
        self._version = -1
        self._renew_at = 0.0

    async def lead(self) -> bool:
        """Take the lease, or renew it when half of it has passed."""
        if time.monotonic() < self._renew_at:
            return True
        leads = await self._run(self._take_lease)
        self._renew_at = time.monotonic() + self._lease_ms / 2000 if leads else 0.0
        return leads

    async def pending(self, limit: int) -> Sequence[OutboxRow]:
        """Return the first rows to publish; see `OutboxStore.pending`."""

        def work(connection: sqlite3.Connection) -> list[OutboxRow]:
            # What is written after this look is news.
            self._version = _version(connection)
            return [row_of(*row) for row in connection.execute(_PENDING, (limit,))]

        return await self._run(work)

    async def settle(self, sent: Collection[int], refused: Mapping[int, str]) -> None:
        """Note what became of rows; see `OutboxStore.settle`."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            if not self._take_lease(connection):
                self._renew_at = 0.0
                raise ClosedError("another relay holds the outbox; nothing was noted")
            now = _now_ms()
            connection.executemany(
                "UPDATE spile_outbox SET sent_ms = ? WHERE id = ?", [(now, row) for row in sent]
            )
            connection.executemany(
                "UPDATE spile_outbox SET refused = ? WHERE id = ?",
                [(reason, row) for row, reason in refused.items()],
            )

        await self._run(work)

    async def news(self, timeout_s: float) -> None:
        """Look at the file's version each 50 ms until another connection has written."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if await self._run(_version) != self._version:
                return
            await asyncio.sleep(min(_LOOK_S, max(until - time.monotonic(), 0)))

    async def clean(self, older_than: timedelta) -> int:
        """Delete rows that were sent so long ago, a thousand at a time; see `OutboxStore.clean`."""
        until = time.monotonic() + CLEAN_S
        before = _now_ms() - int(older_than.total_seconds() * 1000)
        gone = 0
        while True:
            deleted = await self._run(lambda c: c.execute(_CLEAN, (before,)).rowcount)
            gone += deleted
            if not deleted or time.monotonic() > until:
                return gone

    async def counts(self, *, sent: bool = True) -> OutboxCounts:
        """Count the rows; see `OutboxStore.counts`."""

        def work(connection: sqlite3.Connection) -> OutboxCounts:
            pending, stuck, oldest = connection.execute(_COUNTS).fetchone()
            age_ms = 0 if oldest is None else max(_now_ms() - oldest, 0)
            done = connection.execute(_COUNT_SENT).fetchone()[0] if sent else 0
            return OutboxCounts(pending=pending, stuck=stuck, sent=done, oldest_s=age_ms / 1000)

        return await self._run(work)

    async def stuck(self, limit: int = 100) -> Sequence[StuckRow]:
        """Return the first rows that the bus refused, with the reason."""
        rows = await self._run(lambda c: c.execute(_STUCK, (limit,)).fetchall())
        return [
            StuckRow(row_id=row[0], event_id=row[1], topic=row[2], reason=row[3], waiting=row[4])
            for row in rows
        ]

    async def retry(self, row_ids: Iterable[int] | None = None) -> int:
        """Let refused rows be published again, all by default; how many."""
        return await self._release("UPDATE spile_outbox SET refused = NULL", row_ids)

    async def drop(self, row_ids: Iterable[int]) -> int:
        """Delete refused rows for good, so that those behind them go on; how many."""
        return await self._release("DELETE FROM spile_outbox", row_ids)

    async def close(self) -> None:
        """Give the lease back and close the connection; never raises."""
        async with self._one:
            connection, self._connection = self._connection, None
            if connection is not None:
                await asyncio.to_thread(self._leave, connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def _take_lease(self, connection: sqlite3.Connection) -> bool:
        now = _now_ms()
        until = now + self._lease_ms
        # One that lies further ahead than any lease was taken before the clock was set back.
        values = (self._owner, until, now, until + _CLOCK_SET_BACK_MS)
        return connection.execute(_LEAD, values).rowcount == 1

    def _leave(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("DELETE FROM spile_outbox_lease WHERE owner = ?", (self._owner,))
        except sqlite3.Error:
            pass  # it runs out by itself
        finally:
            connection.close()

    async def _release(self, statement: str, row_ids: Iterable[int] | None) -> int:
        def work(connection: sqlite3.Connection) -> int:
            connection.execute("BEGIN IMMEDIATE")
            refused = f"{statement} WHERE refused IS NOT NULL"
            if row_ids is None:
                return connection.execute(refused).rowcount
            ids = [(row,) for row in row_ids]
            return connection.executemany(f"{refused} AND id = ?", ids).rowcount if ids else 0

        return await self._run(work)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """
        Run work in a thread, in a transaction of its own where it begins one.

        Raises:
            BrokerUnavailableError: The database is locked for too long, or cannot be used.
        """
        async with self._one:
            working = asyncio.get_running_loop().run_in_executor(None, self._locally, work)
            try:
                return await asyncio.shield(working)
            except asyncio.CancelledError:
                await asyncio.wait([working])  # the thread goes on, and needs the connection
                raise
            except sqlite3.Error as exc:
                raise BrokerUnavailableError(f"outbox {self._path}: {exc}") from exc

    def _locally(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection
        if connection is None:
            connection = self._connection = sqlite3.connect(
                self._path,
                timeout=self._busy_s,
                isolation_level=None,
                check_same_thread=False,  # one call at a time, but in any thread
            )
        try:
            made = work(connection)
            if connection.in_transaction:
                connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return made


def _version(connection: sqlite3.Connection) -> int:
    """Return a number that changes when another connection writes. Source: PRAGMA data_version."""
    return connection.execute("PRAGMA data_version").fetchone()[0]
