"""The event store, read by SQL of the audit's own: it must not trust the code that it audits."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Collection, Generator, Sequence
from pathlib import Path
from typing import Protocol

from spile.services.auditing._minutes import epoch_minute, of_epoch_minute
from spile.services.auditing._values import StoreCounts, Window
from spile.spi import RetriableError

_MINUTE_US = 60_000_000
_AT_ONCE = 500


class StoreTier(Protocol):
    """A store as the audit sees it; raises `RetriableError` when it cannot be read now."""

    async def counts(self, window: Window) -> StoreCounts:
        """Return events by topic and minute, and how far the store is, as of one moment."""
        ...

    async def known(self, ids: Collection[bytes]) -> set[bytes]:
        """Return those of these event ids that are stored, under whatever topic and minute."""
        ...


class SqliteStoreTier(StoreTier):
    """
    A store in a SQLite file, which is only read.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def counts(self, window: Window) -> StoreCounts:
        """Return events by topic and minute, and how far the store is."""
        return await asyncio.to_thread(self._counts, window)

    async def known(self, ids: Collection[bytes]) -> set[bytes]:
        """Return those of these event ids that are stored."""
        return await asyncio.to_thread(self._known, list(ids))

    def _counts(self, window: Window) -> StoreCounts:
        bounds = (epoch_minute(window.since) * _MINUTE_US, epoch_minute(window.until) * _MINUTE_US)
        with self._opened() as database:
            database.execute("BEGIN")
            rows = database.execute(
                "SELECT topic, (happened_us - ((happened_us % ?1) + ?1) % ?1) / ?1,"
                " count(DISTINCT event_id) FROM events"
                " WHERE happened_us >= ?2 AND happened_us < ?3 GROUP BY 1, 2",
                (_MINUTE_US, *bounds),
            ).fetchall()
            offsets = database.execute('SELECT topic, "partition", next FROM offsets').fetchall()
        return StoreCounts(
            events={(topic, of_epoch_minute(number)): count for topic, number, count in rows},
            next={(topic, number): offset for topic, number, offset in offsets},
        )

    def _known(self, ids: Sequence[bytes]) -> set[bytes]:
        found: set[bytes] = set()
        with self._opened() as database:
            for start in range(0, len(ids), _AT_ONCE):
                some = ids[start : start + _AT_ONCE]
                marks = ", ".join("?" * len(some))
                sql = f"SELECT event_id FROM events WHERE event_id IN ({marks})"  # noqa: S608 - only marks
                found.update(row[0] for row in database.execute(sql, some))
        return found

    @contextlib.contextmanager
    def _opened(self) -> Generator[sqlite3.Connection]:
        try:
            with contextlib.closing(
                sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)
            ) as database:
                database.execute("PRAGMA busy_timeout=5000")
                yield database
        except sqlite3.Error as exc:
            raise RetriableError(f"store {self._path} cannot be read: {exc}") from exc
