"""The persistence worker: every event of an environment in one store, once."""

from spile.services.persistence._decoding import Decoder
from spile.services.persistence._schema import is_made, store_path
from spile.services.persistence._values import (
    Appended,
    EventFilter,
    EventStore,
    GroupColumn,
    Row,
    Run,
    StaleOffsetsError,
    StoreDamagedError,
    StoredEvent,
    StoreUnavailableError,
)
from spile.services.persistence._worker import (
    GROUP,
    event_topics,
    is_stored,
    persistence_worker,
)
from spile.services.persistence.handler import PersistenceHandler
from spile.services.persistence.store import SqliteEventStore

__all__ = [
    "GROUP",
    "Appended",
    "Decoder",
    "EventFilter",
    "EventStore",
    "GroupColumn",
    "PersistenceHandler",
    "Row",
    "Run",
    "SqliteEventStore",
    "StaleOffsetsError",
    "StoreDamagedError",
    "StoreUnavailableError",
    "StoredEvent",
    "event_topics",
    "is_made",
    "is_stored",
    "persistence_worker",
    "store_path",
]
