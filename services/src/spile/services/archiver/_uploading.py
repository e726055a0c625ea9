"""Bringing one object into the archive, so that it is there once, whatever happens."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from spile.services.archiver._metrics import DIVERGED
from spile.services.archiver.objects import (
    MAX_MANIFEST_BYTES,
    Manifest,
    SealedObject,
    manifest_key,
    parse_manifest_key,
    partition_prefix,
)
from spile.services.archiver.reading import Container, ReadLimits
from spile.services.archiver.stores import (
    ArchiveStore,
    ArchiveUnavailableError,
    ObjectMissingError,
    StoredObject,
)
from spile.spi import ClosedError, PartitionKey, PermanentError, UndecodableError

_READ_BYTES: Final = 1 << 20
_PAGE: Final = 1_000
_SAME: Final = (
    "object",
    "sha256",
    "size_bytes",
    "count",
    "start_position",
    "first_offset",
    "last_offset",
    "next_position",
)
"""What makes two manifests tell of one object, whichever version wrote them."""


class DivergedError(PermanentError):
    """
    Raised when the archive holds other records than the log: somebody must look at it.

    Attributes:
        key: Of the object or the manifest.
    """

    def __init__(self, message: str, *, key: str) -> None:
        super().__init__(message)
        self.key = key
        DIVERGED.inc()


class OvertakenError(ClosedError):
    """Raised when an archiver with another cutting rule has gone on from the same position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """
    An object that is in the archive with its manifest.

    Attributes:
        manifest: As stored.
        present: Whether the object was there before, from an earlier try or another archiver.
    """

    manifest: Manifest
    present: bool


def archive(store: ArchiveStore, sealed: SealedObject) -> Archived:
    """
    Write an object, verify it, then write its manifest; what is there already is compared.

    Blocks. Calling it again with the same object is safe, also from two processes at once.

    Raises:
        ArchiveUnavailableError: Try again.
        ArchiveRefusedError: The store refuses.
        DivergedError: Other records are there.
        OvertakenError: The position belongs to an object of another cutting rule.
    """
    try:
        return _archive(store, sealed)
    except ObjectMissingError as exc:
        raise ArchiveUnavailableError(f"{exc}, although it was there a moment ago") from exc


def _archive(store: ArchiveStore, sealed: SealedObject) -> Archived:
    manifest = sealed.manifest
    written = store.put(manifest.object, sealed.data)
    found = _stored(store, manifest.object)
    if (found.size_bytes, found.sha256) != (manifest.size_bytes, manifest.sha256):
        if written:
            raise DivergedError(
                f"{store.place}: {manifest.object} has {found.size_bytes} bytes with sha256 "
                f"{found.sha256}, sent were {manifest.size_bytes} with {manifest.sha256}",
                key=manifest.object,
            )
        manifest = _present(store, sealed, found)
    if not store.put(manifest.key, manifest.to_json()):
        manifest = _compared(store, manifest)
    elif _read(store, manifest.key) != manifest.to_json():
        raise DivergedError(
            f"{store.place}: manifest {manifest.key} reads back otherwise than it was written",
            key=manifest.key,
        )
    return Archived(manifest=manifest, present=not written)


def newest_manifest(store: ArchiveStore, partition: PartitionKey) -> Manifest | None:
    """
    Return the manifest where the archive of a partition ends; None when there is none.

    Listings begin at the smallest key, so a long archive is searched by halving. Blocks.

    Raises:
        ArchiveUnavailableError: Try again.
        ArchiveRefusedError: The store refuses.
        UndecodableError: The newest manifest is damaged; `spile archive verify` tells more.
    """
    prefix = partition_prefix(*partition)
    found = _last_start(store, partition, prefix)
    if found is None:
        return None
    key = manifest_key(*partition, found)
    return Manifest.from_json(_read(store, key), key=key)


def _last_start(store: ArchiveStore, partition: PartitionKey, prefix: str) -> int | None:
    """Return the largest start position of a partition."""

    def listed(after: int | None) -> Iterator[int]:
        behind = "" if after is None else manifest_key(*partition, after)
        for found in store.list(prefix, after=behind):
            # What somebody else left there, such as a console's mark of a folder, is no manifest.
            with contextlib.suppress(UndecodableError):
                yield parse_manifest_key(found.key)[1]

    def page(after: int | None) -> list[int]:
        return list(islice(listed(after), _PAGE))

    starts = page(None)
    high: int | None = None  # behind it there is nothing
    while len(starts) == _PAGE:
        low = starts[-1]
        while True:
            probe = 2 * low + 1 if high is None else (low + high) // 2
            probe = probe if high is None or high - low > _PAGE else low
            starts = page(probe)
            if starts or probe == low:
                break
            high = probe
        if not starts:
            return low
    return starts[-1] if starts else None


def _present(store: ArchiveStore, sealed: SealedObject, found: StoredObject) -> Manifest:
    """
    Return the manifest of an object that is there with other bytes, and the same records.

    Raises:
        DivergedError: It has other records.
    """
    manifest = sealed.manifest
    key, limits = manifest.object, ReadLimits()
    expected = hashlib.sha256()
    for data in Container(io.BytesIO(sealed.data), name=key, limits=limits).blocks():
        expected.update(data.data)
    actual = hashlib.sha256()
    try:
        with store.open(key) as stream:
            for data in Container(stream, name=key, limits=limits).blocks():
                actual.update(data.data)
    except UndecodableError as exc:
        raise DivergedError(f"{store.place}: {exc}; it was there before", key=key) from exc
    if actual.digest() != expected.digest():
        raise DivergedError(
            f"{store.place}: {key} is there and holds other records than the log from offset "
            f"{manifest.first_offset} on; `spile archive verify` compares; if no manifest names it"
            " it can be moved away",
            key=key,
        )
    return manifest.model_copy(update={"sha256": found.sha256, "size_bytes": found.size_bytes})


def _compared(store: ArchiveStore, manifest: Manifest) -> Manifest:
    """
    Return the manifest that is there already.

    Raises:
        OvertakenError: It is of another rule.
        DivergedError: It tells of another object of our rule.
    """
    there = Manifest.from_json(_read(store, manifest.key), key=manifest.key)
    if all(getattr(there, name) == getattr(manifest, name) for name in _SAME):
        return there
    if there.rule != manifest.rule:
        raise OvertakenError(
            f"{manifest.topic}[{manifest.partition}] is archived from {manifest.start_position} on"
            f" by the rule {there.rule}, not by {manifest.rule}"
        )
    raise DivergedError(
        f"{store.place}: {manifest.key} tells of other records than the log has from offset "
        f"{manifest.first_offset} on",
        key=manifest.key,
    )


def _stored(store: ArchiveStore, key: str) -> StoredObject:
    """Return what the store has, with the checksum, for which it is read back if need be."""
    found = store.stat(key)
    if found is None:
        raise ObjectMissingError(f"{store.place} has no {key!r}", key=key)
    return found if found.sha256 else replace(found, sha256=_digest(store, key))


def _digest(store: ArchiveStore, key: str) -> str:
    digest = hashlib.sha256()
    with store.open(key) as stream:
        while data := stream.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()


def _read(store: ArchiveStore, key: str) -> bytes:
    with store.open(key) as stream:
        return stream.read(MAX_MANIFEST_BYTES + 1)
