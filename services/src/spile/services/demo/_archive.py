"""What the archive of a demonstration holds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from spile.services.archiver.reading import ArchiveIndex, header, is_tick, verify
from spile.services.archiver.stores import FolderStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """
    What the archive holds of the events that were acknowledged.

    Attributes:
        events: Acknowledged events that are there.
        missing: Acknowledged events that are not.
        objects: Files.
        size_bytes: Of these.
        findings: What is wrong with it: gaps, overlaps, damage.
    """

    events: int
    missing: int
    objects: int
    size_bytes: int
    findings: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether every acknowledged event is there and the archive proves itself."""
        return not self.missing and not self.findings


def look(folder: Path, acknowledged: Collection[str]) -> Archived:
    """
    Count what has been archived so far, and prove the archive once all of it is there.

    Args:
        folder: Of the archive.
        acknowledged: Ids of the events that the publisher was told are safe.

    Raises:
        UndecodableError: An object is damaged.
        ArchiveUnavailableError: The folder cannot be read.
    """
    store = FolderStore(folder, read_only=True)
    index = ArchiveIndex(store)
    parts = [one for partition in index.partitions for one in index.usable(partition)]
    sizes = [manifest.size_bytes for manifest in parts]
    seen: set[str] = set()
    if sum(manifest.count for manifest in parts) >= len(acknowledged):
        for manifest in parts:
            records = index.opened(manifest).records()
            ids = (header(one, "message_id") or b"" for one in records if not is_tick(one))
            seen.update(event_id.decode(errors="replace") for event_id in ids)
    missing = len(set(acknowledged) - seen)
    findings = () if missing else tuple(map(str, verify(store).findings))
    return Archived(
        events=len(acknowledged) - missing,
        missing=missing,
        objects=len(parts),
        size_bytes=sum(sizes),
        findings=findings,
    )
