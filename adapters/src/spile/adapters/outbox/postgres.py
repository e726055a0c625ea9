"""The outbox in PostgreSQL 13 or later, by asyncpg; needs the extra `postgres`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Self

import asyncpg

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
from spile.spi import BrokerUnavailableError, ConfigurationError

__all__ = ["OUTBOX_TABLE_POSTGRES", "PostgresOutbox", "PostgresOutboxStore"]

OUTBOX_TABLE_POSTGRES: Final = """
CREATE TABLE IF NOT EXISTS spile_outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  event_id uuid NOT NULL UNIQUE,
  topic text NOT NULL,
  key bytea NOT NULL,
  value bytea NOT NULL,
  headers text NOT NULL,
  added_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  xact xid8 NOT NULL DEFAULT pg_current_xact_id(),
  sent_at timestamptz,
  refused text
);
CREATE INDEX IF NOT EXISTS spile_outbox_pending ON spile_outbox (id)
  WHERE sent_at IS NULL AND refused IS NULL;
CREATE INDEX IF NOT EXISTS spile_outbox_refused ON spile_outbox (topic, key, id)
  WHERE refused IS NOT NULL;
CREATE INDEX IF NOT EXISTS spile_outbox_sent ON spile_outbox (sent_at) WHERE sent_at IS NOT NULL;
"""
"""The table of the outbox; for a migration of the application's own."""

_CHANNEL: Final = "spile_outbox"
_INSERT = """
WITH made AS (
  INSERT INTO spile_outbox (event_id, topic, key, value, headers)
  VALUES ($1, $2, $3, $4, $5) RETURNING id)
SELECT pg_notify('spile_outbox', '') FROM made
"""
# Ids are given when a row is written, rows are seen when their transaction commits: a later id may
# be seen first. Only rows of transactions before which nothing is open any more are taken, so that
# no earlier row of the same key can still appear. Nor is one taken behind a row of its key that
# still waits for that: an older transaction may write later.
_PENDING = """
SELECT id, topic, key, value, headers FROM (
  SELECT *, bool_and(xact < pg_snapshot_xmin(pg_current_snapshot()))
    OVER (PARTITION BY topic, key ORDER BY id) AS is_free
  FROM (
    SELECT id, topic, key, value, headers, xact FROM spile_outbox AS r
    WHERE sent_at IS NULL AND refused IS NULL AND NOT EXISTS (
      SELECT 1 FROM spile_outbox AS wall WHERE wall.refused IS NOT NULL
      AND wall.topic = r.topic AND wall.key = r.key AND wall.id < r.id)
    ORDER BY id LIMIT $1) AS first) AS looked_at
WHERE is_free ORDER BY id
"""
_HELD_BACK = """
SELECT EXISTS (SELECT 1 FROM spile_outbox WHERE sent_at IS NULL AND refused IS NULL
AND xact >= pg_snapshot_xmin(pg_current_snapshot()))
"""
# An oid may be above the largest int.
_LEAD = (
    "SELECT pg_try_advisory_lock((1936747884::bigint << 32) | 'spile_outbox'::regclass::oid::int8)"
)
_STUCK = """
SELECT id, event_id, topic, refused, (
  SELECT count(*) FROM spile_outbox AS r WHERE r.sent_at IS NULL AND r.refused IS NULL
  AND r.topic = wall.topic AND r.key = wall.key AND r.id > wall.id) AS waiting
FROM spile_outbox AS wall WHERE refused IS NOT NULL ORDER BY id LIMIT $1
"""
# Each by its partial index.
_COUNTS = """
SELECT waiting.pending, waiting.oldest_s,
  (SELECT count(*) FROM spile_outbox WHERE refused IS NOT NULL) AS stuck
FROM (
  SELECT count(*) AS pending,
    coalesce(extract(epoch FROM clock_timestamp() - min(added_at)), 0)::float8 AS oldest_s
  FROM spile_outbox WHERE sent_at IS NULL AND refused IS NULL) AS waiting
"""
_COUNT_SENT = "SELECT count(*) FROM spile_outbox WHERE sent_at IS NOT NULL"
_CLEAN = """
WITH old AS (
  SELECT id FROM spile_outbox WHERE sent_at <= clock_timestamp() - $1::interval
  ORDER BY sent_at LIMIT 1000)
DELETE FROM spile_outbox WHERE id IN (SELECT id FROM old)
"""
_COMMAND_S: Final = 10.0
_PROBES: Final = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""Lets the server notice within 25 s that a relay's machine is gone; by default it takes hours."""
_LOOK_S: Final = (0.02, 1.0)


class PostgresOutbox:
    """
    Writes events into the outbox of an application's own database.

    Args:
        encoder: Checks, redacts and encodes them; its catalogue decides where they go.
    """

    def __init__(self, encoder: EventEncoder) -> None:
        self._encoder = encoder

    @staticmethod
    async def create_table(connection: Any) -> None:
        """Make the table where it is missing; `connection` is asyncpg's."""
        await connection.execute(OUTBOX_TABLE_POSTGRES)

    async def add(self, connection: Any, event: OutgoingEvent) -> str:
        """
        Write an event into the transaction that is open; it is published once that commits.

        What cannot be sent is refused here, so that the transaction can still be rolled back. The
        relay is told at the commit, by NOTIFY.

        Args:
            connection: asyncpg's, or a pool's.
            event: What to publish.

        Returns:
            The event's id.

        Raises:
            ConfigurationError: No transaction is open.
            SpileError: As `EventEncoder.encode`; nothing was written.
        """
        if not connection.is_in_transaction():
            raise ConfigurationError(
                "the outbox needs a transaction, so that an event stands or falls with what it "
                "tells about: use `async with connection.transaction()`"
            )
        encoded = self._encoder.encode(event)
        record = encoded.record
        await connection.execute(
            _INSERT,
            encoded.event_id,
            record.topic,
            record.key,
            record.value,
            headers_json(encoded),
        )
        return encoded.event_id


class PostgresOutboxStore(OutboxStore):
    """
    The relay's side of an outbox in PostgreSQL, on a connection of its own.

    One relay at a time holds an advisory lock of that connection; it passes on when the connection
    ends. Events wait for the oldest transaction that is open in the cluster and has written
    something: keep transactions short.

    Args:
        dsn: `postgresql://user:password@host/database`, or what else asyncpg takes; no statement
            pooler in between, since lock and LISTEN belong to a session.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection[Any] | None = None
        self._leads = False
        self._news = asyncio.Event()
        self._look_s = _LOOK_S[0]
        self._held_back = False

    async def lead(self) -> bool:
        """Take the advisory lock, or keep it."""
        async with self._talking() as connection:
            if not self._leads:
                self._leads = bool(await connection.fetchval(_LEAD))
            return self._leads

    async def pending(self, limit: int) -> Sequence[OutboxRow]:
        """Return the first rows to publish; see `OutboxStore.pending`."""
        self._news.clear()
        async with self._talking() as connection:
            rows = [row_of(*row) for row in await connection.fetch(_PENDING, limit)]
            self._held_back = not rows and bool(await connection.fetchval(_HELD_BACK))
            if rows:
                self._look_s = _LOOK_S[0]
            return rows

    async def settle(self, sent: Collection[int], refused: Mapping[int, str]) -> None:
        """Note what became of rows; the lock is this connection's, so nobody else leads."""
        async with self._talking(leading=True) as connection, connection.transaction():
            await connection.execute(
                "UPDATE spile_outbox SET sent_at = clock_timestamp() WHERE id = ANY($1::bigint[])",
                list(sent),
            )
            for row_id, reason in refused.items():
                await connection.execute(
                    "UPDATE spile_outbox SET refused = $2 WHERE id = $1", row_id, reason
                )

    async def news(self, timeout_s: float) -> None:
        """Wait for a NOTIFY; for less where rows wait for an open transaction."""
        limit_s = timeout_s
        if self._held_back:
            limit_s = min(self._look_s, timeout_s)
            self._look_s = min(2 * self._look_s, _LOOK_S[1])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._news.wait()

    async def clean(self, older_than: timedelta) -> int:
        """Delete rows that were sent so long ago, a thousand at a time; see `OutboxStore.clean`."""
        until = time.monotonic() + CLEAN_S
        gone = 0
        while True:
            async with self._talking() as connection:
                deleted = _count(await connection.execute(_CLEAN, older_than))
            gone += deleted
            if not deleted or time.monotonic() > until:
                return gone

    async def counts(self, *, sent: bool = True) -> OutboxCounts:
        """Count the rows; see `OutboxStore.counts`."""
        async with self._talking() as connection:
            row = await connection.fetchrow(_COUNTS)
            done = await connection.fetchval(_COUNT_SENT) if sent else 0
        return OutboxCounts(sent=done, **dict(row or {}))

    async def stuck(self, limit: int = 100) -> Sequence[StuckRow]:
        """Return the first rows that the bus refused, with the reason."""
        async with self._talking() as connection:
            rows = await connection.fetch(_STUCK, limit)
        return [
            StuckRow(
                row_id=row["id"],
                event_id=str(row["event_id"]),
                topic=row["topic"],
                reason=row["refused"],
                waiting=row["waiting"],
            )
            for row in rows
        ]

    async def retry(self, row_ids: Iterable[int] | None = None) -> int:
        """Let refused rows be published again, all by default; how many."""
        return await self._release("UPDATE spile_outbox SET refused = NULL", row_ids)

    async def drop(self, row_ids: Iterable[int]) -> int:
        """Delete refused rows for good, so that those behind them go on; how many."""
        return await self._release("DELETE FROM spile_outbox", row_ids)

    async def close(self) -> None:
        """Disconnect, which gives the lock back; never raises."""
        connection, self._connection, self._leads = self._connection, None, False
        if connection is not None:
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await connection.close(timeout=2.0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def _release(self, statement: str, row_ids: Iterable[int] | None) -> int:
        ids = None if row_ids is None else list(row_ids)
        chosen = "refused IS NOT NULL AND ($1::bigint[] IS NULL OR id = ANY($1::bigint[]))"
        async with self._talking() as connection, connection.transaction():
            released = await connection.execute(f"{statement} WHERE {chosen}", ids)
            await connection.execute("SELECT pg_notify('spile_outbox', '')")
        return _count(released)

    @contextlib.asynccontextmanager
    async def _talking(self, *, leading: bool = False) -> AsyncGenerator[asyncpg.Connection[Any]]:
        """
        Give the connection; after an error it is thrown away, and the lead with it.

        Raises:
            BrokerUnavailableError: The database is away.
            ConfigurationError: The table is missing.
        """
        try:
            connection = self._connection
            if connection is None or connection.is_closed():
                if leading:
                    self._leads = False
                    raise BrokerUnavailableError("outbox: the connection is gone")
                connection = await self._connect()
            yield connection
        except asyncpg.UndefinedTableError as exc:
            raise ConfigurationError(
                "outbox: there is no table spile_outbox; PostgresOutbox.create_table makes it"
            ) from exc
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as exc:
            self._forget()
            raise BrokerUnavailableError(f"outbox: {type(exc).__name__}: {exc}") from exc
        except asyncio.CancelledError:
            self._forget()
            raise

    async def _connect(self) -> asyncpg.Connection[Any]:
        self._leads = False
        connection = await asyncpg.connect(
            self._dsn,
            timeout=_COMMAND_S,
            command_timeout=_COMMAND_S,
            server_settings=_PROBES,
        )
        self._connection = connection
        await connection.add_listener(_CHANNEL, self._told)
        return connection

    def _told(self, *_: object) -> None:
        self._news.set()

    def _forget(self) -> None:
        connection, self._connection, self._leads = self._connection, None, False
        if connection is not None:
            connection.terminate()


def _count(status: str) -> int:
    """Return the number in the answer to a statement, such as `DELETE 3`."""
    return int(status.rpartition(" ")[2])
