"""One object of an archive: compared with its manifest before anything of it is handed out."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from typing import Final

from spile.adapters.delivery import Record
from spile.services.archiver.objects import Manifest, sync_marker
from spile.services.archiver.reading._container import ByteStream, Container, ReadLimits
from spile.services.archiver.reading._decoding import RecordDecoder
from spile.services.archiver.stores import ArchiveStore
from spile.spi import UndecodableError

_CHUNK: Final = 256 * 1024
_IN_MEMORY: Final = 8 * 1024 * 1024


class ArchivedObject:
    """
    The records of one object.

    Args:
        store: Where it is.
        manifest: What it must be.
        limits: Bounds of what it may ask of its reader.

    Attributes:
        manifest: As given.
    """

    def __init__(
        self, store: ArchiveStore, manifest: Manifest, limits: ReadLimits | None = None
    ) -> None:
        self._store = store
        self._limits = limits or ReadLimits()
        self.manifest = manifest

    def records(self) -> Iterator[Record]:
        """
        Give the records in the order of their offsets; blocks, so use it in a thread.

        The whole object is compared with the manifest's sha256 before the first record is given,
        in a copy (on disk beyond 8 MiB), so that it cannot change in between.

        Raises:
            ObjectMissingError: There is no such object.
            UndecodableError: It is not the one of the manifest, or breaks a bound.
            RetriableError: The store is away.
        """
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as copy:
            self._copy(copy)
            copy.seek(0)
            yield from self._decoded(copy)

    def _copy(self, copy: tempfile.SpooledTemporaryFile[bytes]) -> None:
        manifest, limit = self.manifest, self._limits.object_bytes
        if manifest.size_bytes > limit:
            raise UndecodableError(
                f"{manifest.object} has {manifest.size_bytes} bytes by its manifest, limit {limit}"
            )
        digest = hashlib.sha256()
        left = manifest.size_bytes
        with self._store.open(manifest.object) as stream:
            while chunk := stream.read(min(_CHUNK, left + 1)):
                left -= len(chunk)
                if left < 0:
                    break
                digest.update(chunk)
                copy.write(chunk)
        if left:
            raise UndecodableError(
                f"{manifest.object} has {'more' if left < 0 else 'less'} than the "
                f"{manifest.size_bytes} bytes of its manifest"
            )
        if digest.hexdigest() != manifest.sha256:
            raise UndecodableError(
                f"{manifest.object} is not what was archived: its sha256 is {digest.hexdigest()}, "
                f"the manifest says {manifest.sha256}"
            )

    def _decoded(self, stream: ByteStream) -> Iterator[Record]:
        manifest = self.manifest
        key = manifest.object
        container = Container(stream, name=key, limits=self._limits)
        if container.sync != sync_marker(key):
            raise UndecodableError(f"{key} has the sync marker of another key")
        decoder = RecordDecoder(key, manifest.topic, manifest.partition, self._limits)
        last = manifest.first_offset - 1
        count = 0
        for block in container.blocks():
            for record in decoder.records(block):
                if not last < record.offset <= manifest.last_offset:
                    raise UndecodableError(
                        f"{key} has the offset {record.offset} behind {last}, in a range that "
                        f"ends at {manifest.last_offset}"
                    )
                last = record.offset
                count += 1
                yield record
        if count != manifest.count:
            raise UndecodableError(f"{key} has {count} records, its manifest says {manifest.count}")
