"""What the archiver, and whoever reads an archive, needs from a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol, runtime_checkable

from spile.spi import PermanentError, RetriableError


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """
    What a store says of an object.

    Attributes:
        key: Relative to the root of the archive.
        size_bytes: As stored.
        sha256: Of the stored bytes, hexadecimal, where the store itself keeps one; else None.
    """

    key: str
    size_bytes: int
    sha256: str | None = None


@runtime_checkable
class ArchiveStore(Protocol):
    """
    Keeps objects that are never changed. Blocks; call it in threads, any number at once.

    Keys are relative to the root of the archive; nothing outside the root is read or written. Every
    method raises `ArchiveUnavailableError` when the store does not answer now, and
    `ArchiveRefusedError` when it will not do this, whoever asks again.
    """

    @property
    def place(self) -> str:
        """Where it is, for messages; no secrets."""
        ...

    def put(self, key: str, data: bytes) -> bool:
        """
        Store bytes under a key that is free, all or nothing; durable on return.

        Returns:
            False when there is something under the key; it was left alone. Of several at once
            exactly one gets True.
        """
        ...

    def stat(self, key: str) -> StoredObject | None:
        """Return what the store says of an object; None when there is none."""
        ...

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """
        Open an object to read it from its beginning.

        Raises:
            ObjectMissingError: There is none.
        """
        ...

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[StoredObject]:
        """
        Return the objects whose key begins with a prefix, in the order of the keys' bytes.

        Keys are what somebody wrote there: check them before use. Checksums are not told here.

        Args:
            prefix: All keys by default.
            after: Only keys behind this one.
        """
        ...


class ArchiveUnavailableError(RetriableError):
    """Raised when the archive did not answer, or said that it cannot now."""


class ArchiveRefusedError(PermanentError):
    """Raised when the archive refuses the credentials or the request, or is not as it must be."""


class ObjectMissingError(PermanentError):
    """
    Raised when there is no such object.

    Attributes:
        key: Of the object.
    """

    def __init__(self, message: str, *, key: str) -> None:
        super().__init__(message)
        self.key = key
