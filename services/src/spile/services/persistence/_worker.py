"""The persistence worker, put together."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.subscribing import FailureGuard
from spile.adapters.wire import Opener
from spile.services.persistence._decoding import Decoder
from spile.services.persistence._metrics import WAL_BYTES
from spile.services.persistence._schema import store_path
from spile.services.persistence.handler import PersistenceHandler
from spile.services.persistence.store import SqliteEventStore
from spile.services.runtime import CrashGuard, Worker, WorkerSettings
from spile.topics import Catalogue

GROUP = "persistence"


def event_topics(environment: str) -> str:
    """
    Return the pattern of all event topics, and of those where this worker's own failures come back.

    Dead letters, markers and other groups' retries do not match, nor do the reports of publishers,
    which say how many events there are and are none themselves.
    """
    part = r"[a-z0-9][a-z0-9-]*"
    base = rf"{re.escape(environment)}\.(?!spile\.audit\.){part}\.{part}\.{part}\.v[0-9]+"
    return rf"^{base}(\.{GROUP}\.retry\.[0-9])?$"


def is_stored(topic: str) -> bool:
    """
    Say whether the worker of a topic's environment stores what the topic holds.

    Args:
        topic: Full name.
    """
    environment = topic.partition(".")[0]
    return re.search(event_topics(environment), topic) is not None


@contextlib.asynccontextmanager
async def persistence_worker(
    settings: WorkerSettings,
    *,
    catalogue: Catalogue,
    environment: str,
    dead_letters: DeadLetterQueue,
    opener: Opener | None = None,
) -> AsyncGenerator[Worker]:
    """
    Open the store and give the worker that fills it.

    Args:
        settings: Of the process; names the store.
        catalogue: Knows the contracts.
        environment: Whose topics to read.
        dead_letters: Takes what cannot be stored.
        opener: Reads other content types than JSON; MessagePack alone by default.

    Raises:
        StoreDamagedError: The store is corrupt, or not ours.
        StoreUnavailableError: The store is locked.
        ConfigurationError: The store cannot be written.
    """
    path = store_path(settings.store)
    async with SqliteEventStore(path) as store:
        WAL_BYTES.set_function(lambda: store.wal_bytes)
        with CrashGuard(path.with_name(f"{path.name}-in-hand")) as crash_guard:
            handler = PersistenceHandler(
                store,
                Decoder(catalogue, environment, opener, crash_guard=crash_guard),
                dead_letters,
                group=GROUP,
                guard=FailureGuard(share=settings.poison_share),
                crash_guard=crash_guard,
            )
            yield Worker(
                name="persistence",
                group=GROUP,
                topics=[event_topics(environment)],
                handle=handler,
                offsets=store,
                way_out="`spile store reset-offsets` lets it begin anew, known ids stay single",
            )
