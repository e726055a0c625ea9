"""Opening the archive that the settings name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from spile.services.archiver.stores._folder import FolderStore
from spile.services.archiver.stores._settings import ArchiveSettings
from spile.services.archiver.stores._values import ArchiveStore
from spile.spi import ConfigurationError

_S3: Final = "s3://"
_DEFAULT_FOLDER: Final = ".spile"
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX: Final = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*(?:/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*")
_OPEN_ENVIRONMENTS: Final = ("dev", "test")


def open_store(
    settings: ArchiveSettings, *, environment: str, read_only: bool = False
) -> ArchiveStore:
    """
    Open the archive that `SPILE_ARCHIVE` names; a bucket is not asked anything yet.

    Args:
        settings: Of the archive.
        environment: Outside dev and test an endpoint must speak TLS.
        read_only: A folder is not made, nor written to.

    Raises:
        ConfigurationError: The settings name no archive, one that is not safe here, or one in a
            folder that is not there; only `.spile` is made.
        ArchiveRefusedError: The folder cannot be made or written.
        ArchiveUnavailableError: The folder cannot be made now.
    """
    place = settings.archive
    if not place.startswith(_S3):
        if "://" in place:
            raise ConfigurationError(
                f"SPILE_ARCHIVE: {place.partition('://')[0]}://... is no archive: give a folder or "
                "s3://<bucket>/<prefix>",
                setting="SPILE_ARCHIVE",
            )
        folder = Path(place)
        parent = folder.absolute().parent
        if not read_only and parent.name != _DEFAULT_FOLDER and not parent.is_dir():
            # A mistyped path must not begin a second archive that nobody looks at.
            raise ConfigurationError(
                f"SPILE_ARCHIVE: there is no folder {parent} for the archive {folder.name}; make"
                " it, or name another",
                setting="SPILE_ARCHIVE",
            )
        return FolderStore(folder, read_only=read_only)
    bucket, _, prefix = place.removeprefix(_S3).partition("/")
    prefix = prefix.rstrip("/")
    if not _BUCKET.fullmatch(bucket) or (prefix and not _PREFIX.fullmatch(prefix)):
        raise ConfigurationError(
            "SPILE_ARCHIVE: expected s3://<bucket>[/<prefix>] with a bucket of 3 to 63 characters "
            "a-z, 0-9, '.', '-' and a prefix of letters, digits, '.', '_', '=', '-' and '/'",
            setting="SPILE_ARCHIVE",
        )
    _check_endpoint(settings.archive_endpoint, environment)
    # Here, since boto3 takes long to import and folders do not need it.
    from spile.services.archiver.stores._s3 import S3Store  # noqa: PLC0415 - see above

    return S3Store(
        bucket,
        prefix=prefix,
        endpoint=settings.archive_endpoint,
        region=settings.archive_region,
        addressing=settings.archive_addressing,
        ca=settings.archive_ca,
        encryption=settings.archive_encryption,
        timeout_s=settings.archive_timeout_s,
        connections=2 * settings.archive_uploads,
    )


def _check_endpoint(endpoint: str | None, environment: str) -> None:
    if endpoint is None:
        return
    url = urlsplit(endpoint)
    if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.username:
        raise ConfigurationError(
            "SPILE_ARCHIVE_ENDPOINT: expected https://<host>[:<port>], without credentials",
            setting="SPILE_ARCHIVE_ENDPOINT",
        )
    if url.scheme == "http" and environment not in _OPEN_ENVIRONMENTS:
        raise ConfigurationError(
            f"SPILE_ARCHIVE_ENDPOINT: http:// is for dev and test; {environment} needs https://",
            setting="SPILE_ARCHIVE_ENDPOINT",
        )
