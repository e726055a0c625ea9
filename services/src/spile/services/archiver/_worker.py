"""The archiver, put together."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta
from typing import Final

from spile.adapters.delivery import OutgoingRecord
from spile.services.archiver.handler import Archiver
from spile.services.archiver.stores import ArchiveSettings, open_store
from spile.services.runtime import Worker

GROUP: Final = "archiver"


def archived_topics(environment: str) -> str:
    """Return the pattern of all event topics; dead letters, retries and markers do not match."""
    part = r"[a-z0-9][a-z0-9-]*"
    return rf"^{re.escape(environment)}\.{part}\.{part}\.{part}\.v[0-9]+$"


@contextlib.asynccontextmanager
async def archiver_worker(
    settings: ArchiveSettings,
    *,
    environment: str,
    publish: Callable[[OutgoingRecord], Awaitable[None]],
) -> AsyncGenerator[Worker]:
    """
    Open the archive and give the worker that fills it.

    Args:
        settings: Of the archive.
        environment: Whose topics to read.
        publish: Writes one record; ticks close the objects of idle partitions.

    Raises:
        ConfigurationError: The settings name no archive, or one that is not safe here.
        ArchiveRefusedError: The archive refuses.
        ArchiveUnavailableError: The archive's folder cannot be made now.
    """
    store = open_store(settings, environment=environment)
    rule = settings.rule
    async with Archiver(
        store,
        rule,
        publish=publish,
        uploads=settings.archive_uploads,
        buffer_bytes=settings.archive_buffer_bytes,
        check_s=min(max(rule.window / timedelta(seconds=4), 0.05), 1.0),
    ) as archiver:
        yield Worker(
            name="archiver",
            group=GROUP,
            topics=[archived_topics(environment)],
            handle=archiver,
            offsets=archiver,
            manual_commit=True,
            bind=archiver.bind,
            in_hand=archiver.in_hand,
            trouble=archiver.trouble,
            patient=True,
            way_out="a topic that was made anew needs a new archive: another SPILE_ARCHIVE",
        )
