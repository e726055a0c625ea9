"""
A table of events beside the application's own, and the relay that publishes them.

An event is written in the transaction that it tells about: either both stand, or neither. For
PostgreSQL, which needs the extra `postgres`, see `spile.adapters.outbox.postgres`.
"""

from spile.adapters.outbox._relay import OutboxRelay
from spile.adapters.outbox._rows import OutboxCounts, OutboxRow, OutboxStore, StuckRow
from spile.adapters.outbox._sqlite import OUTBOX_TABLE_SQLITE, SqliteOutbox, SqliteOutboxStore

__all__ = [
    "OUTBOX_TABLE_SQLITE",
    "OutboxCounts",
    "OutboxRelay",
    "OutboxRow",
    "OutboxStore",
    "SqliteOutbox",
    "SqliteOutboxStore",
    "StuckRow",
]
