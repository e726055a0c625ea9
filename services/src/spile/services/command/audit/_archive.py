"""The archive as the audit sees it: what its manifests say, and whether their objects are there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from spile.services.archiver.objects import Manifest, manifest_key
from spile.services.archiver.reading import ArchiveIndex, read_manifest
from spile.services.archiver.stores import ArchiveStore
from spile.services.auditing import Archived, ArchivedPartition, ArchivedRange
from spile.spi import PartitionKey


def archive_tier(store: ArchiveStore) -> Callable[[int], Awaitable[Archived]]:
    """
    Return what lists an archive from a record time on, in milliseconds.

    Manifests are read from the newest back, as far as that time; one that is damaged is left out,
    as if its records were not archived.

    Args:
        store: Where the archive is.
    """

    def read(since_ms: int) -> Archived:
        return {
            partition: _partition(store, partition, starts, since_ms)
            for partition, starts in ArchiveIndex(store).partitions.items()
        }

    async def tier(since_ms: int) -> Archived:
        return await asyncio.to_thread(read, since_ms)

    return tier


def _partition(
    store: ArchiveStore, partition: PartitionKey, starts: Sequence[int], since_ms: int
) -> ArchivedPartition:
    ranges: list[ArchivedRange] = []
    is_whole = True
    for start in reversed(starts):
        manifest = read_manifest(store, manifest_key(*partition, start))
        if not isinstance(manifest, Manifest):
            continue
        ranges.append(
            ArchivedRange(
                first_offset=manifest.first_offset,
                next_position=manifest.next_position,
                minutes=manifest.event_minutes,
                is_there=store.stat(manifest.object) is not None,
            )
        )
        if manifest.latest_timestamp < since_ms:
            is_whole = False
            break
    return ArchivedPartition(ranges=ranges[::-1], is_whole=is_whole)
