"""Where objects are kept: a folder, or a bucket of any S3-compatible server."""

from spile.services.archiver.stores._folder import FolderStore
from spile.services.archiver.stores._opening import open_store
from spile.services.archiver.stores._settings import ArchiveSettings
from spile.services.archiver.stores._values import (
    ArchiveRefusedError,
    ArchiveStore,
    ArchiveUnavailableError,
    ObjectMissingError,
    StoredObject,
)

__all__ = [
    "ArchiveRefusedError",
    "ArchiveSettings",
    "ArchiveStore",
    "ArchiveUnavailableError",
    "FolderStore",
    "ObjectMissingError",
    "StoredObject",
    "open_store",
]
