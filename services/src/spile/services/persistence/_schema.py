"""The SQLite file: its tables, how it is opened, what its errors mean."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

from spile.services.persistence._values import (
    Row,
    StoreDamagedError,
    StoreUnavailableError,
)
from spile.spi import ConfigurationError, PermanentError, SpileError

_APPLICATION_ID = 0x5350494C
_SCHEMA_VERSION = 1
_CHECKPOINT_PAGES = 20_000
_BUSY_TIMEOUT_MS = 5_000
_PRIVATE = 0o600
_DEFAULT_FOLDER = ".spile"

_TABLES = (
    """
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        event_id BLOB NOT NULL UNIQUE,
        topic TEXT NOT NULL,
        "partition" INTEGER NOT NULL,
        "offset" INTEGER NOT NULL,
        recorded_ms INTEGER NOT NULL,
        happened_us INTEGER NOT NULL,
        event_type TEXT NOT NULL,
        service TEXT NOT NULL,
        correlation_id BLOB NOT NULL,
        causation_id BLOB,
        session_id TEXT,
        agent_id TEXT,
        tool_name TEXT,
        "key" BLOB,
        envelope TEXT NOT NULL,
        headers TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE offsets (
        topic TEXT NOT NULL,
        "partition" INTEGER NOT NULL,
        next INTEGER NOT NULL,
        PRIMARY KEY (topic, "partition")
    ) WITHOUT ROWID
    """,
    "CREATE INDEX events_by_time ON events (happened_us)",
    "CREATE INDEX events_by_correlation ON events (correlation_id)",
    "CREATE INDEX events_by_session ON events (session_id) WHERE session_id IS NOT NULL",
)

COLUMNS = ", ".join(f'"{name}"' for name in Row._fields)
INSERT = (
    f"INSERT INTO events ({COLUMNS}) VALUES ({', '.join('?' * len(Row._fields))})"  # noqa: S608 - names of our own
    " ON CONFLICT (event_id) DO NOTHING"
)

_FOR_NOW = {
    sqlite3.SQLITE_BUSY: "locked by another process",
    sqlite3.SQLITE_LOCKED: "locked by another reader of this process",
    sqlite3.SQLITE_FULL: "full: free disk space",
    sqlite3.SQLITE_IOERR: "not readable or writable (I/O error)",
    sqlite3.SQLITE_CANTOPEN: "not to be opened: the folder is missing or not writable",
    sqlite3.SQLITE_NOMEM: "out of memory",
}
_DAMAGED = {sqlite3.SQLITE_CORRUPT: "corrupt", sqlite3.SQLITE_NOTADB: "no SQLite database"}


def store_path(location: str) -> Path:
    """
    Return the file of a store.

    Args:
        location: A path, or an URL `sqlite:///relative/path` or `sqlite:////absolute/path`.

    Raises:
        ConfigurationError: It is an URL of something else.
    """
    if "://" not in location:
        return Path(location)
    url = urlsplit(location)
    if url.scheme != "sqlite" or url.netloc or not url.path.strip("/"):
        raise ConfigurationError(
            f"SPILE_STORE: {url.scheme}://... is no store: give a file or sqlite:///<file>",
            setting="SPILE_STORE",
        )
    return Path(unquote(url.path[1:]))


def is_made(path: Path) -> bool:
    """Say whether a store is there with its tables; a worker that starts makes them in one go."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as database:
            return bool(database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    except sqlite3.OperationalError:
        return False  # locked while it is being made
    except sqlite3.DatabaseError:
        return True  # no database at all: opening it says so


def open_database(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """
    Open a store, checked; without `read_only` it is made when there is none, for the owner only.

    Raises:
        StoreUnavailableError: It is locked or cannot be opened now.
        StoreDamagedError: It is corrupt, no database, or not ours.
        ConfigurationError: There is no such store to read, or no folder to make one in; only
            `.spile` is made.
    """
    if read_only:
        if not path.is_file():
            raise ConfigurationError(
                f"SPILE_STORE: there is no store {path}; `spile run persistence` makes one",
                setting="SPILE_STORE",
            )
    else:
        _make_private(path)
    try:
        database = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _set_up(database, path, read_only=read_only)
        except BaseException:
            database.close()
            raise
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc
    return database


def translate(error: sqlite3.Error, path: Path) -> SpileError:
    """Return the error of ours that a SQLite error means."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _FOR_NOW:
        return StoreUnavailableError(f"store {path} is {_FOR_NOW[code]}")
    if code in _DAMAGED:
        return _damaged(path, _DAMAGED[code])
    return PermanentError(f"store {path}: {error}")


def _damaged(path: Path, how: str) -> StoreDamagedError:
    return StoreDamagedError(
        f"store {path} is {how}: move it away and restore a backup, or let the group read anew "
        "what the topics still hold"
    )


def _make_private(path: Path) -> None:
    try:
        if path.parent.name == _DEFAULT_FOLDER:
            path.parent.mkdir(mode=0o700, exist_ok=True)
        elif not path.parent.is_dir():
            # A mistyped path must not begin a second store that nobody looks at.
            raise ConfigurationError(
                f"SPILE_STORE: there is no folder {path.parent} for the store {path.name}; make it,"
                " or name another",
                setting="SPILE_STORE",
            )
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, _PRIVATE)
        try:
            os.fchmod(descriptor, _PRIVATE)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise ConfigurationError(
            f"SPILE_STORE: cannot write {path}: {exc.strerror}", setting="SPILE_STORE"
        ) from exc


def _set_up(database: sqlite3.Connection, path: Path, *, read_only: bool) -> None:
    run = database.execute
    run(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
    run("PRAGMA trusted_schema=OFF")
    if not read_only:
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=FULL")
        run(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
        run("PRAGMA cache_size=-65536")
        findings = [str(row[0]) for row in run("PRAGMA quick_check(1)")]
        if findings != ["ok"]:
            raise _damaged(path, f"corrupt ({findings[0][:120]})")
    mark = int(run("PRAGMA application_id").fetchone()[0])
    version = int(run("PRAGMA user_version").fetchone()[0])
    empty = run("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if empty and not read_only:
        _create(database)
    elif mark != _APPLICATION_ID:
        raise _damaged(path, "a database of another program")
    elif version != _SCHEMA_VERSION:
        raise _damaged(path, f"of schema version {version}, this release has {_SCHEMA_VERSION}")


def _create(database: sqlite3.Connection) -> None:
    database.execute("BEGIN IMMEDIATE")
    try:
        if database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
            for statement in _TABLES:
                database.execute(statement)
            database.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            database.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")
        database.execute("COMMIT")
    except BaseException:
        database.rollback()
        raise
