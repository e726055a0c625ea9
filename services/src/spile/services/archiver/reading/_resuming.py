"""What a replay has done already, in a file or for the time of one run."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

from spile.adapters.delivery import Record
from spile.services.archiver.reading._selection import header
from spile.spi import ConfigurationError, PartitionKey

_TABLES = (
    "CREATE TABLE IF NOT EXISTS job (description TEXT NOT NULL)",
    """
    CREATE TABLE IF NOT EXISTS reached (
        topic TEXT,
        "partition" INTEGER,
        next INTEGER NOT NULL,
        PRIMARY KEY (topic, "partition")
    ) WITHOUT ROWID
    """,
    "CREATE TABLE IF NOT EXISTS sent (id BLOB PRIMARY KEY) WITHOUT ROWID",
)


class Progress:
    """
    Remembers how far a replay came and which event ids it sent; use it by `with`.

    Without a file the ids are kept on disk for the time of one run: there may be more than fit
    into memory.

    Args:
        path: File to go on from and to write to.
        job: What is replayed where; a file of another job is refused.

    Raises:
        ConfigurationError: The file is of another job, or cannot be used.
    """

    def __init__(self, path: Path | None, job: str) -> None:
        self._path = path
        try:
            self._database = sqlite3.connect(path or "", isolation_level=None)
            try:
                self._open(job)
            except BaseException:
                self._database.close()
                raise
        except sqlite3.Error as exc:
            raise ConfigurationError(f"{path} cannot hold the progress of a replay: {exc}") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._database.close()

    def reached(self) -> Mapping[PartitionKey, int]:
        """Return the offset to go on at, by partition."""
        rows = self._database.execute('SELECT topic, "partition", next FROM reached')
        return {(topic, partition): offset for topic, partition, offset in rows}

    def fresh(self, records: Sequence[Record]) -> list[Record]:
        """Return the records whose event was not sent yet, each event once; the first one stays."""
        found: list[Record] = []
        seen: set[bytes] = set()
        for record in records:
            identity = event_id(record)
            if identity is not None:
                if identity in seen or self._is_sent(identity):
                    continue
                seen.add(identity)
            found.append(record)
        return found

    def note(self, sent: Sequence[Record], partition: PartitionKey, offset: int) -> None:
        """Remember what was acknowledged, and where to go on."""
        ids = [(found,) for record in sent if (found := event_id(record)) is not None]
        run = self._database.execute
        run("BEGIN IMMEDIATE")
        try:
            self._database.executemany("INSERT OR IGNORE INTO sent VALUES (?)", ids)
            run("INSERT OR REPLACE INTO reached VALUES (?, ?, ?)", (*partition, offset))
            run("COMMIT")
        except BaseException:
            run("ROLLBACK")
            raise

    def _open(self, job: str) -> None:
        if self._path is None:
            self._database.execute("PRAGMA synchronous=OFF")
        for statement in _TABLES:
            self._database.execute(statement)
        row = self._database.execute("SELECT description FROM job").fetchone()
        if row is None:
            self._database.execute("INSERT INTO job VALUES (?)", (job,))
        elif row[0] != job:
            raise ConfigurationError(
                f"{self._path} is the progress of another replay: {row[0]}; this one is {job}"
            )

    def _is_sent(self, identity: bytes) -> bool:
        found = self._database.execute("SELECT 1 FROM sent WHERE id = ?", (identity,)).fetchone()
        return found is not None


def event_id(record: Record) -> bytes | None:
    """Return the id of a record's event by its header; None when it has none."""
    stated = header(record, "message_id")
    if stated is not None:
        with contextlib.suppress(ValueError):
            return UUID(stated.decode()).bytes
    return None
