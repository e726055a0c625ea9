"""Looking at the store from outside: by SQL of our own, on a connection of our own."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
import uuid
from collections.abc import Collection, Generator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

POLL_S = 0.005
"""How often the store is looked at, in seconds: what the time of persisting is known to."""


@contextlib.contextmanager
def _reading(path: Path) -> Generator[sqlite3.Connection]:
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    with contextlib.closing(database):
        database.execute("PRAGMA busy_timeout=5000")
        yield database


class StoreWatch:
    """
    Notes when each event is first seen in the store; a context manager.

    A thread asks every 5 ms for the rows that came since. Only committed rows can be seen, so an
    event that was seen is persisted; the time is late by at most one round.

    Args:
        path: The store's file, which must be there.

    Attributes:
        seen: By event id, monotonic seconds.
        failure: What ended the watch early; None while all is well.
    """

    def __init__(self, path: Path) -> None:
        self.seen: dict[str, float] = {}
        self.failure: sqlite3.Error | None = None
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="store watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        last = 0
        try:
            with _reading(self._path) as database:
                while not self._stop.wait(POLL_S):
                    rows = database.execute(
                        "SELECT seq, event_id FROM events WHERE seq > ? ORDER BY seq", (last,)
                    ).fetchall()
                    now = time.perf_counter()
                    for seq, event_id in rows:
                        self.seen.setdefault(str(uuid.UUID(bytes=event_id)), now)
                        last = seq
        except sqlite3.Error as exc:
            self.failure = exc


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRow:
    """What one tool did, by the stored events; milliseconds, None where no call says."""

    tool: str
    count: int
    mean_ms: float | None
    p95_ms: float | None
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """
    What the store holds of the events that were acknowledged.

    Attributes:
        persisted: Acknowledged events that are there.
        lost: Acknowledged events that are not.
        duplicated: Rows too many: the same event, or the same place in the log, once more.
        event_types: Stored events by type.
        tools: The most used first.
    """

    persisted: int
    lost: int
    duplicated: int
    event_types: dict[str, int]
    tools: list[ToolRow]


_PERSISTED = "SELECT count(DISTINCT event_id) FROM ours"
_REPEATED = "SELECT count(*) - count(DISTINCT event_id) FROM ours"
_REPLACED = """
    SELECT coalesce(sum(n - 1), 0) FROM (
        SELECT count(*) AS n FROM events GROUP BY topic, "partition", "offset"
    )
"""
_TYPES = "SELECT event_type, count(*) FROM ours GROUP BY 1 ORDER BY 2 DESC, 1"
_CALLS = """
    SELECT
        json_extract(envelope, '$.payload.payload.tool_name'),
        json_extract(envelope, '$.payload.payload.execution_time_ms'),
        json_extract(envelope, '$.payload.payload.success')
    FROM ours WHERE event_type = 'POST_TOOL_USE' ORDER BY 1, 2
"""


def audit(path: Path, acknowledged: Collection[str]) -> Audit:
    """
    Compare the store with the list of acknowledged ids.

    An event is known by the id inside its stored envelope, not by the column that the store keeps
    unique, so that the store's own promise is not taken for its proof.

    Args:
        path: The store's file.
        acknowledged: Ids of the events that the publisher was told are safe.
    """
    with _reading(path) as database:
        database.execute("CREATE TEMP TABLE acknowledged (event_id TEXT PRIMARY KEY)")
        database.executemany(
            "INSERT INTO acknowledged VALUES (?)", ((event_id,) for event_id in acknowledged)
        )
        database.execute(
            """
            CREATE TEMP TABLE ours AS
            SELECT acknowledged.event_id, events.event_type, events.envelope
            FROM events JOIN acknowledged
            ON acknowledged.event_id = json_extract(events.envelope, '$.event_id')
            """
        )
        persisted = int(database.execute(_PERSISTED).fetchone()[0])
        repeated = int(database.execute(_REPEATED).fetchone()[0])
        replaced = int(database.execute(_REPLACED).fetchone()[0])
        types = dict(database.execute(_TYPES).fetchall())
        calls = database.execute(_CALLS).fetchall()
    return Audit(
        persisted=persisted,
        lost=len(acknowledged) - persisted,
        duplicated=max(repeated, replaced),
        event_types=types,
        tools=_tools(calls),
    )


def _tools(calls: list[tuple[str, float | None, int]]) -> list[ToolRow]:
    by_tool: dict[str, list[tuple[float | None, int]]] = {}
    for tool, took_ms, success in calls:
        by_tool.setdefault(tool, []).append((took_ms, success))
    rows: list[ToolRow] = []
    for tool, found in by_tool.items():
        times = sorted(took_ms for took_ms, _ in found if took_ms is not None)
        rows.append(
            ToolRow(
                tool=tool,
                count=len(found),
                mean_ms=round(sum(times) / len(times), 1) if times else None,
                p95_ms=round(percentile(times, 0.95), 1) if times else None,
                errors=sum(not success for _, success in found),
            )
        )
    return sorted(rows, key=lambda row: (-row.count, row.tool))


def percentile(ordered: list[float], share: float) -> float:
    """Return the nearest-rank percentile of ascending values."""
    rank = -(-len(ordered) * share // 1)
    return ordered[max(int(rank), 1) - 1]
