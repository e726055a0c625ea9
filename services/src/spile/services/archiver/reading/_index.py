"""What an archive holds, by its manifests."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeAlias

from spile.services.archiver.objects import (
    MANIFESTS,
    MAX_MANIFEST_BYTES,
    Manifest,
    ObjectKey,
    manifest_key,
    parse_manifest_key,
    partition_prefix,
)
from spile.services.archiver.reading._opening import ArchivedObject
from spile.services.archiver.reading._selection import Selection
from spile.services.archiver.stores import ArchiveRefusedError, ArchiveStore, ObjectMissingError
from spile.spi import PartitionKey, UndecodableError

_AT_ONCE: Final = 8
_AHEAD: Final = 64
_SHOWN: Final = 200

Unreadable: TypeAlias = UndecodableError | ObjectMissingError | ArchiveRefusedError
"""Why a manifest or an object cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    Something in the archive that is not one of its parts.

    Attributes:
        key: As it was listed, shortened and printable.
        what: What is wrong.
    """

    key: str
    what: str


class ArchiveIndex:
    """
    The manifests of an archive, or of a part of it; only their places are held in memory.

    What is listed under any other key than those of an archive is a problem, and is never opened.
    Everything here blocks: call it in a thread.

    Args:
        store: Where the archive is.
        selection: Whose partitions to list; all by default.

    Attributes:
        store: As given.
        partitions: Start positions of the objects, in order, by topic and partition.
        problems: Keys that do not belong there.

    Raises:
        ArchiveUnavailableError: The store is away.
        InvalidTopicError: The selection names what is no topic.
    """

    def __init__(self, store: ArchiveStore, selection: Selection | None = None) -> None:
        self.store = store
        self.problems: list[Problem] = []
        found: dict[PartitionKey, list[int]] = {}
        which = selection or Selection()
        for prefix in _prefixes(which):
            for listed in store.list(prefix):
                try:
                    partition, start = parse_manifest_key(listed.key)
                except UndecodableError as exc:
                    self.problems.append(_problem(listed.key, exc))
                    continue
                if which.takes_partition(*partition):
                    found.setdefault(partition, []).append(start)
        self.partitions: Mapping[PartitionKey, Sequence[int]] = {
            partition: sorted(found[partition]) for partition in sorted(found)
        }

    def leave_out(self, unwanted: Callable[[str], bool]) -> set[str]:
        """
        Forget topics; return which.

        Args:
            unwanted: Says of a full name whether it goes.
        """
        gone = {topic for topic, _ in self.partitions if unwanted(topic)}
        kept = {key: starts for key, starts in self.partitions.items() if key[0] not in gone}
        self.partitions = kept
        return gone

    def manifests(
        self, partition: PartitionKey, *, position: int = 0
    ) -> Iterator[tuple[str, Manifest | Unreadable]]:
        """
        Give the manifests of a partition, in order, each with its key.

        Args:
            partition: One of `partitions`.
            position: Leave out objects that end before this offset.

        Raises:
            ArchiveUnavailableError: The store is away.
        """
        starts = self.partitions[partition]
        starts = starts[max(0, bisect_right(starts, position) - 1) :]
        keys = [manifest_key(*partition, start) for start in starts]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="manifests") as pool:
            for start in range(0, len(keys), _AHEAD):
                some = keys[start : start + _AHEAD]
                yield from zip(some, pool.map(self._read, some), strict=True)

    def usable(self, partition: PartitionKey, *, position: int = 0) -> Iterator[Manifest]:
        """
        Give the manifests of a partition as `manifests` does, and stop at one that is unreadable.

        Raises:
            UndecodableError: A manifest is damaged.
            ObjectMissingError: A manifest vanished.
            ArchiveUnavailableError: The store is away.
        """
        for _, manifest in self.manifests(partition, position=position):
            if not isinstance(manifest, Manifest):
                raise manifest
            if manifest.next_position > position:
                yield manifest

    def opened(self, manifest: Manifest) -> ArchivedObject:
        """Return the object of a manifest."""
        return ArchivedObject(self.store, manifest)

    def _read(self, key: str) -> Manifest | Unreadable:
        return read_manifest(self.store, key)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedObjects:
    """
    The objects that a store lists.

    Attributes:
        sizes: Bytes by key.
        problems: Keys that do not belong there.
    """

    sizes: dict[str, int]
    problems: list[Problem]


def list_objects(store: ArchiveStore, selection: Selection | None = None) -> ListedObjects:
    """
    List the objects of an archive, without the manifests; blocks.

    Raises:
        ArchiveUnavailableError: The store is away.
    """
    which = selection or Selection()
    found = ListedObjects(sizes={}, problems=[])
    for listed in store.list():
        if listed.key.startswith(MANIFESTS):
            continue
        try:
            key = ObjectKey.parse(listed.key)
        except UndecodableError as exc:
            found.problems.append(_problem(listed.key, exc))
            continue
        if which.takes_partition(key.topic, key.partition):
            found.sizes[listed.key] = listed.size_bytes
    return found


def read_manifest(store: ArchiveStore, key: str) -> Manifest | Unreadable:
    """
    Return a manifest, or why it cannot be used; blocks.

    Raises:
        ArchiveUnavailableError: The store is away.
    """
    try:
        with store.open(key) as stream:
            data = stream.read(MAX_MANIFEST_BYTES + 1)
        return Manifest.from_json(data, key=key)
    except (UndecodableError, ObjectMissingError, ArchiveRefusedError) as exc:
        return exc


def _problem(key: str, error: UndecodableError) -> Problem:
    shown = "".join(c if c.isprintable() else "?" for c in key[:_SHOWN])
    return Problem(key=shown, what=str(error))


def _prefixes(which: Selection) -> list[str]:
    if not which.topics:
        return [MANIFESTS]
    # Made by the function that checks the name.
    return sorted(partition_prefix(name, 0).removesuffix("partition=0/") for name in which.topics)
